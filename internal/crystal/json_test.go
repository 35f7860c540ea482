package crystal_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

const jsonSeed = `{
  "lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 1.2e1]], "pbc": [true, true, false],
  "species": ["Fe", "O"], "positions": [[0, 0, 0], [0.5, 0.5, 0.5]], "cartesian": false,
  "labels": ["Fe1", "O1"], "magmoms": [2.5, 0], "fixed": [[false, false, true], [false, false, false]],
  "velocities": null
}`

func TestJSONComesBackAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := crystal.ParseJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, back); d != "" {
			t.Fatal(d)
		}
	})
}

func TestJSONFieldsThatAreNullAreAbsent(t *testing.T) {
	t.Parallel()
	s, err := crystal.ParseJSON([]byte(jsonSeed))
	if err != nil || s.Velocities != nil || s.Lattice[2][2] != 12 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestJSONRefusesWithThePathOfEveryFault(t *testing.T) {
	t.Parallel()
	good := `"species": ["Si", "Si"], "positions": [[0, 0, 0], [1, 1, 1]]`
	for _, test := range []struct{ text, field, words, fix string }{
		{`{` + good + `, "speces": []}`, "speces", "no such field", "did you mean species?"},
		{`{` + good + `, "charge": {"a": [1, {}]}}`, "charge", "no such field", "the fields are lattice, pbc"},
		{`{` + good + `, "species": ["Si", "Si"]}`, "species", "given twice", ""},
		{`{"positions": [[0, 0, 0]]}`, "species", "missing", ""},
		{`{"species": ["Si"]}`, "positions", "missing", ""},
		{`{"species": ["Si"], "positions": [[0, 0]]}`, "positions[0]", "2 numbers, not 3", ""},
		{`{"species": ["Si"], "positions": [[0, 0, 0, 0]]}`, "positions[0]", "4 numbers, not 3", ""},
		{`{"species": ["Si"], "positions": [[0, "1", 0]]}`, "positions[0][1]", `a number is needed, not the text "1"`, ""},
		{`{"species": ["Si"], "positions": [[0, 1e999, 0]]}`, "positions[0][1]", "too large", ""},
		{`{"species": ["Si"], "positions": [[0, [[[1]]], 0]]}`, "positions[0][1]", "a number is needed, not a list", ""},
		{`{"species": "Si", "positions": [[0, 0, 0]]}`, "species", "a list is needed", ""},
		{`{"species": [14], "positions": [[0, 0, 0]]}`, "species[0]", "a text is needed, not the number 14", ""},
		{`{"species": ["si"], "positions": [[0, 0, 0]]}`, "species[0]", "not an element", "write Si"},
		{`{` + good + `, "lattice": [[1, 0, 0], [0, 1, 0]]}`, "lattice", "2 vectors, not 3", ""},
		{`{` + good + `, "pbc": [true, true]}`, "pbc", "2 entries, not 3", ""},
		{`{` + good + `, "pbc": [true, true, 1]}`, "pbc[2]", "true or false is needed", ""},
		{`{` + good + `, "cartesian": "yes"}`, "cartesian", "true or false is needed", ""},
		{`{` + good + `, "magmoms": [1]}`, "magmoms", "1 entries for 2 species", ""},
		{`{` + good + `, "fixed": [[true, false, null], [true, true, true]]}`, "fixed[0][2]", "true or false is needed, not null", ""},
	} {
		_, err := crystal.ParseJSON([]byte(test.text))
		e, ok := err.(*crystal.ParseError)
		if !ok || len(e.Problems) != 1 {
			t.Errorf("%s: error %v, want one problem", test.text, err)
			continue
		}
		if p := e.Problems[0]; p.Field != test.field || !strings.Contains(p.Message, test.words) || !strings.Contains(p.Fix, test.fix) {
			t.Errorf("%s: problem %+v, want %s: %s (%s)", test.text, p, test.field, test.words, test.fix)
		}
	}
}

func TestJSONReportsAllFaultsAtOnceWithTheirPlaces(t *testing.T) {
	t.Parallel()
	_, err := crystal.ParseJSON([]byte("{\n  \"specie\": 1,\n  \"positions\": [\n    [0, 0, \"a\"],\n    true\n  ]\n}"))
	want := "line 2, column 3, specie: there is no such field; " +
		"line 4, column 12, positions[0][2]: a number is needed, not the text \"a\"; " +
		"line 5, column 5, positions[1]: a list is needed, not true; " +
		"species: the field is missing"
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v, want\n%s", err, want)
	}
}

func TestJSONThatIsNoneSaysWhere(t *testing.T) {
	t.Parallel()
	for text, words := range map[string]string{
		`[1]`:                               "a structure is a JSON object, not a list",
		`{"species": ["Si"`:                 "the text ends too early",
		"{\"species\":\n [Si]}":             "line 2, column 3: this is not JSON",
		`{"species": ["Si"]} {}`:            "there is more text after the structure",
		strings.Repeat("[", 1e6):            "not a list",
		`{"x": ` + strings.Repeat("[", 1e6): "nests more than 100 deep",
	} {
		_, err := crystal.ParseJSON([]byte(text))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%.30s: error %v, want %q", text, err, words)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	addSeeds(f, jsonSeed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := crystal.ParseJSON(data)
		sound(t, s, err)
		if err != nil {
			return
		}
		var loose crystal.Structure
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\ufeff")), &loose); err != nil {
			t.Fatalf("the strict reader accepts what encoding/json does not: %v", err)
		}
		if d := cmp.Diff(&loose, s); d != "" {
			t.Fatal(d)
		}
	})
}

func BenchmarkParseJSON(b *testing.B) {
	s, err := silicon().Supercell(37, 37, 37)
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprint(s.NAtoms()), func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := crystal.ParseJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
