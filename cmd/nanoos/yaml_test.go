package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestYAMLBecomesTheSameJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ yaml, json string }{
		{"a: 1\nb: [1, -2, 0x10, 1_000]\n", `{"a":1,"b":[1,-2,16,1000]}`},
		{"a: 1e-8\nb: 1.5E3\nc: .5\nd: 2.\n", `{"a":1e-08,"b":1500,"c":0.5,"d":2}`},
		{"a: '1e-8'\nb: \"5\"\n", `{"a":"1e-8","b":"5"}`},
		{"a: no\nb: true\nc: ~\nd:\n", `{"a":"no","b":true,"c":null,"d":null}`},
		{"a: |\n  x\n  y\n", `{"a":"x\ny\n"}`},
		{"\ufeffa: 1\r\nb: {c: d}\r\n", `{"a":1,"b":{"c":"d"}}`},
		{"a: &x [1, 2]\nb: *x\n", `{"a":[1,2],"b":[1,2]}`},
		{`{"a": [1, {"b": "c"}]}`, `{"a":[1,{"b":"c"}]}`},
	} {
		docs, problems := parseYAML("f", []byte(c.yaml))
		if len(problems) > 0 || len(docs) != 1 {
			t.Errorf("%q: %d documents, %v", c.yaml, len(docs), problems)
			continue
		}
		if got, err := docs[0].appendJSON(nil); err != nil || string(got) != c.json {
			t.Errorf("%q:\n got %s (%v)\nwant %s", c.yaml, got, err, c.json)
		}
	}
}

func TestYAMLFaultsHaveAPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, yaml, message string
		line, column        int
	}{
		{"twice", "a: 1\na: 2\n", "already defined", 2, 1},
		{"twice in flow", "a: {b: 1, b: 2}\n", "b", 1, 11},
		{"no end", "a: [1, 2\n", "not found", 1, 4},
		{"not a number", "a: .nan\n", "not a number", 1, 4},
		{"too large", "a: 1e400\n", "too large", 1, 4},
		{"merge", "a: {b: 1}\nc:\n  <<: *x\n", "merge", 3, 3},
		{"no anchor", "a: *x\n", "anchor", 1, 4},
		{"tag", "a: !!binary x\n", "tags", 1, 4},
		{"binary", "a: 1\nb: \x00\n", "control character", 2, 4},
		{"latin-1", "a: \xe9\n", "UTF-8", 0, 0},
		{"deep flow", "a: " + strings.Repeat("[", 1000), "nested", 1, 104},
		{"deep block", strings.Repeat("- ", 100_000) + "1", "nested", 1, 201},
		{"many keys", manyKeys(), "keys", maxKeys + 1, 6},
		{"large", strings.Repeat("#", maxJobFile+1), "larger", 0, 0},
	} {
		_, problems := parseYAML("f", []byte(c.yaml))
		if len(problems) == 0 {
			t.Errorf("%s: no problem", c.name)
			continue
		}
		p := problems[0]
		if !strings.Contains(p.Message, c.message) || p.Line != c.line || p.Column != c.column {
			t.Errorf("%s: %d:%d %q, want %d:%d %q", c.name, p.Line, p.Column, p.Message, c.line, c.column, c.message)
		}
	}
}

func manyKeys() string {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "%04d: 1\n", i)
	}
	return b.String()
}

func TestAliasesCannotMultiplyWithoutBound(t *testing.T) {
	t.Parallel()
	text := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		prev := string(rune('a'+i-1)) + "x"
		if i == 1 {
			prev = "a0"
		}
		name := string(rune('a'+i)) + "x"
		text += name + ": &" + name + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n"
	}
	docs, problems := parseYAML("f", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	b, err := docs[0].appendJSON(nil)
	if err == nil || len(b) > 2*maxExpanded {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAPathLeadsToItsPlace(t *testing.T) {
	t.Parallel()
	docs, problems := parseYAML("f", []byte("engine: qe\nparameters:\n  kpoints: [4, 4, x]\n  a.b: 1\nfiles:\n  - name: x\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for path, want := range map[string]place{
		"engine": {1, 1}, "parameters": {2, 1}, "parameters.kpoints": {3, 3}, "parameters.kpoints[2]": {3, 19},
		"parameters.a.b": {4, 3}, "parameters.ecutwfc": {2, 1}, "files[0].name": {6, 5}, "files[7]": {5, 1}, "": {1, 1}, "queue": {1, 1},
	} {
		if got := docs[0].find(path); got != want {
			t.Errorf("%q is at %v, want %v", path, got, want)
		}
	}
}

func FuzzJobFile(f *testing.F) {
	for _, s := range []string{
		"engine: mock\nparameters: {steps: 4}\n", "a: &x [*x]\n", "? [a]\n: b\n", "a: |\n x\n--- \nb: 'c\n", "- - - a: b\n",
		"resources: {cpus: 1e3, memory: [], walltime: {}}\npriority: ~\nstructure: {lattice: [[1]], species: 3}\n",
		"labels: {a: {b: c}}\nretry: 3\nrun_at: yesterday\nfiles: [{name: a, text: b}, {sha256: x}, 3]\n", "%YAML 1.2\n---\na: 1\n...\n", "a: !t &b *c", "\"a\\x\": 1",
	} {
		f.Add([]byte(s), "steps=2")
	}
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		drafts, err := readJobFile("job.yaml", t.TempDir(), text, []string{set})
		if err == nil && len(drafts) == 0 {
			t.Fatal("neither a job nor an error")
		}
		if err != nil && (exitCode(err) != exitInvalid || asError(err).Error() == "") {
			t.Fatalf("a bad file is another kind of error: %v", err)
		}
		for _, d := range drafts {
			if _, err := json.Marshal(d.request); err != nil {
				t.Fatalf("the request cannot be sent: %v", err)
			}
			d.root.find("parameters.a[0].b")
		}
	})
}
