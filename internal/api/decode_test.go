package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nano-os/nanoos/internal/job"
)

func TestT30_TheDecoderForgivesNothing(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, text string
		want       []job.Problem // Why and Fix are not compared where they are empty
	}{
		{"an unknown key", `{"nam": "x"}`, []job.Problem{{Field: "nam", Message: `unknown key "nam"`, Fix: `did you mean "name"?`}}},
		{"another case", `{"Name": "x"}`, []job.Problem{{Field: "Name", Message: `unknown key "Name"`, Fix: `did you mean "name"?`}}},
		{"a key given twice", `{"name": "x", "name": "y"}`, []job.Problem{{Field: "name", Message: `key "name" is given twice`, Fix: "give it once"}}},
		{"a key given twice where anything may stand", `{"parameters": {"a": {"b": 1, "b": 2}}}`,
			[]job.Problem{{Field: "parameters.a.b", Message: `key "b" is given twice`, Fix: "give it once"}}},
		{"text after the end", `{} {}`, []job.Problem{{Message: "there is more text after the end of the document", Fix: "send one document"}}},
		{"a fraction for a whole number", `{"priority": 1.5}`, []job.Problem{{Field: "priority", Message: "must be a whole number", Why: "got 1.5"}}},
		{"a wrong kind deep inside", `{"files": [{"name": "a"}, {"name": 3}]}`, []job.Problem{{Field: "files[1].name", Message: "must be a text", Why: "got a number"}}},
		{"a short vector", `{"structure": {"positions": [[0, 0]]}}`, []job.Problem{{Field: "structure.positions[0]", Message: "must have 3 values", Why: "got 2"}}},
		{"an object for a list", `{"files": {}}`, []job.Problem{{Field: "files", Message: "must be a list", Why: "got an object"}}},
		{"a list at the top", `[]`, []job.Problem{{Message: "must be an object", Why: "got a list"}}},
		{"a text that is cut", "{\n \"name\": \"x", []job.Problem{{Message: "the text is not valid JSON", Why: "it ends in the middle", Line: 2, Column: 12}}},
		{"a text that is not JSON", "{\n \"name\": x}", []job.Problem{{Message: "the text is not valid JSON", Why: "invalid character 'x' looking for beginning of value", Line: 2, Column: 10}}},
		{"a size", `{"resources": {"memory": "4 parsecs"}}`, []job.Problem{{Field: "resources.memory", Message: `"4 parsecs" is not a size: write for example 512MiB, 4GiB or a number of bytes`}}},
		{"a time", `{"run_at": "soon"}`, []job.Problem{{Field: "run_at", Message: `"soon" is not a time`, Fix: "write it like 2026-01-31T12:00:00Z"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var r JobRequest
			got := decodeStrict([]byte(c.text), "", &r)
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheDecoderStopsAtTheFiftiethProblem(t *testing.T) {
	t.Parallel()
	var r JobRequest
	text := `{"files": [` + strings.Repeat(`{"x": 1},`, 10_000) + `{}]}`
	if got := decodeStrict([]byte(text), "", &r); len(got) != maxProblems {
		t.Errorf("%d problems", len(got))
	}
}

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{
		"0": 0, "1024": 1024, "1k": 1024, "2G": 2 << 30, "4GiB": 4 << 30, "4 gib": 4 << 30, "1.5GB": 1_500_000_000, "512MiB": 512 << 20, "1T": 1 << 40, "1e3": 1000,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q is %d, want %d, error %v", text, got, want, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1PiBB", "NaN", "Inf", "1e30", "4 G B", "0x10", "1_000"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

// FuzzT30_DecodeStrict compares the strict decoder with the standard one: what
// it takes is JSON, is taken by the other too, and says the same when it is
// written and read again.
func FuzzT30_DecodeStrict(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"engine": "mock", "parameters": {"steps": 4}}`, `{"structure": {"species": ["Si"], "positions": [[0,0,0]]}}`,
		`{"resources": {"memory": "4GiB", "walltime": "1-12:00:00"}, "labels": {"a": "b"}, "retry": {"max": 0}}`, `{"a": [[[[]]]]}`, "{\"name\": \"\\ud800\"}", `{"run_at": "2026-01-31T12:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r JobRequest
		problems := decodeStrict(text, "", &r)
		if len(problems) > maxProblems+1 {
			t.Fatalf("%d problems", len(problems))
		}
		if len(problems) > 0 {
			return
		}
		var plain JobRequest
		if err := json.Unmarshal(text, &plain); err != nil || !json.Valid(text) {
			t.Fatalf("%q is taken, but: %v", text, err)
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Skip() // times beyond the year 9999 are read and not written
		}
		var again JobRequest
		if problems := decodeStrict(once, "", &again); len(problems) > 0 {
			t.Fatalf("%q became %q, which is refused: %v", text, once, problems)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q, error %v", once, twice, err)
		}
		r.Spec()
	})
}
