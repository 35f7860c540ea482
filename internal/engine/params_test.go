package engine

import (
	"encoding/json"
	"fmt"
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

func TestAVerdictOnParametersHoldsForTheSameSchemaAndBytesOnly(t *testing.T) {
	t.Parallel()
	strict := json.RawMessage(`{"type": "object", "properties": {"n": {"type": "integer", "maximum": 4000}}}`)
	other := json.RawMessage(`{"type": "object", "properties": {"n": {"type": "integer", "maximum": 2}}}`)
	// Three generations of verdicts, so that some are forgotten and given again.
	for range 2 {
		for n := range 3 * maxVerdicts {
			var got struct{ N int }
			params := fmt.Appendf(nil, `{"n": %d}`, n)
			if problems := Decode(strict, params, &got); problems != nil || got.N != n {
				t.Fatalf("%s decodes to %d: %v", params, got.N, problems)
			}
		}
	}
	var got struct{ N int }
	for range 2 {
		if Decode(other, json.RawMessage(`{"n": 3}`), &got) == nil {
			t.Error("what one schema allows passed another")
		}
		if Decode(strict, json.RawMessage(`{"n": 4001}`), &got) == nil {
			t.Error("bad parameters passed")
		}
	}
}

// BenchmarkDecode looks at parameters that were seen before, and at others.
func BenchmarkDecode(b *testing.B) {
	b.Run("repeated", func(b *testing.B) {
		for b.Loop() {
			mockParams(json.RawMessage(`{"steps": 100, "step_seconds": 36.5, "as": "qe", "seed": 1, "memory_mb": 2048, "children": 4}`))
		}
	})
	b.Run("new", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			mockParams(fmt.Appendf(nil, `{"steps": 100, "step_seconds": 36.5, "as": "qe", "seed": %d, "memory_mb": 2048, "children": 4}`, n))
		}
	})
}
