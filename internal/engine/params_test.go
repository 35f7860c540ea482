package engine

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
)

const paramsSchema = `{
  "type": "object", "additionalProperties": false, "required": ["ecutwfc"],
  "properties": {
    "ecutwfc": {"type": "number", "exclusiveMinimum": 0},
    "calculation": {"enum": ["scf", "relax"]},
    "kpoints": {"oneOf": [
      {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 3, "maxItems": 3},
      {"const": "gamma"}
    ]},
    "nested": {"type": "object", "additionalProperties": false, "properties": {"degauss": {"type": "number"}}}
  }
}`

func TestDecodeNamesEveryProblemOfTheParameters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, params string
		want         []job.Problem
	}{
		{"good", `{"ecutwfc": 30, "kpoints": [4,4,4]}`, nil},
		{"missing", ``, []job.Problem{{Field: "parameters.ecutwfc", Message: "is required and missing"}}},
		{"unknown key with a near one", `{"ecutwfc": 30, "ecutwfcc": 1}`, []job.Problem{
			{Field: "parameters.ecutwfcc", Message: `unknown key "ecutwfcc"`, Fix: `did you mean "ecutwfc"?`}}},
		{"unknown key below", `{"ecutwfc": 30, "nested": {"degaus": 1}}`, []job.Problem{
			{Field: "parameters.nested.degaus", Message: `unknown key "degaus"`, Fix: `did you mean "degauss"?`}}},
		{"wrong word", `{"ecutwfc": 30, "calculation": "relx"}`, []job.Problem{
			{Field: "parameters.calculation", Message: `"relx" is not permitted`, Fix: `did you mean "relax"? One of: scf, relax`}}},
		{"wrong type", `{"ecutwfc": "30"}`, []job.Problem{
			{Field: "parameters.ecutwfc", Message: "must be a number", Why: "got string"}}},
		{"the form that was meant", `{"ecutwfc": 30, "kpoints": [4,4,0]}`, []job.Problem{
			{Field: "parameters.kpoints[2]", Message: "must be at least 1", Why: "got 0"}}},
		{"not JSON", `{`, []job.Problem{{Field: "parameters", Message: "not valid JSON", Why: "unexpected EOF"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var dst map[string]any
			got := Decode(json.RawMessage(paramsSchema), json.RawMessage(tt.params), &dst)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDecodeReportsSeveralProblemsAtOnce(t *testing.T) {
	t.Parallel()
	var dst map[string]any
	got := Decode(json.RawMessage(paramsSchema), json.RawMessage(`{"ecutwfc": -1, "calculation": 3, "x": 1}`), &dst)
	if len(got) != 3 {
		t.Errorf("got %d problems, want 3: %v", len(got), got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"ecutwfc": 30}`)
	f.Add(`{"ecutwfc": 1e400}`)
	f.Add(`[[[[[`)
	f.Fuzz(func(t *testing.T, params string) {
		var dst map[string]any
		problems := Decode(json.RawMessage(paramsSchema), json.RawMessage(params), &dst)
		for _, p := range problems {
			if p.Message == "" {
				t.Errorf("a problem without words for %q: %+v", params, p)
			}
		}
	})
}
