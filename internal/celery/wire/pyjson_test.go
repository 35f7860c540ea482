package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPythonsJSONBecomesStrict(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`[NaN, Infinity, -Infinity]`:        `[null, null, null]`,
		`{"a": NaN}`:                        `{"a": null}`,
		`NaN`:                               `null`,
		`12345678901234567890123`:           `12345678901234567890123`,
		`["NaN", "-Infinity"]`:              `["NaN", "-Infinity"]`,
		`["\udc80", "a\ud83d"]`:             `["\ufffd", "a\ufffd"]`,
		`["\ud83d\ude00"]`:                  `["\ud83d\ude00"]`,
		`["\ud83d\ud83d\ude00\ude00"]`:      `["\ufffd\ud83d\ude00\ufffd"]`,
		`["\\ud83d", "\\\ud83d", "\\\\u"]`:  `["\\ud83d", "\\\ufffd", "\\\\u"]`,
		`[-5, -0.5, "-"]`:                   `[-5, -0.5, "-"]`,
		`{"a": "\"NaN", "b": [Infinity,1]}`: `{"a": "\"NaN", "b": [null,1]}`,
	} {
		got, err := strict([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("strict(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{``, `-NaN`, `NaNa`, `[1NaN]`, `{NaN: 1}`, `"`, `["\u12"]`, "\"\xff\"", `[1,]`, `nan`, `{} {}`, strings.Repeat("[", 65) + strings.Repeat("]", 65)} {
		if got, err := strict([]byte(in)); err == nil {
			t.Errorf("strict(%q) = %s, want an error", in, got)
		}
	}
}

func TestTypedValuesBecomePlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"__type__": "uuid", "__value__": {"hex": "59716d71a6604162b298206ae30d5c9b"}}`:             `"59716d71-a660-4162-b298-206ae30d5c9b"`,
		`[{"__type__": "decimal", "__value__": "1.50"}, 12345678901234567890123]`:                    `["1.50",12345678901234567890123]`,
		`{"at": {"__value__": "2026-11-23T07:50:39", "__type__": "datetime"}, "n": 1.0}`:             `{"at":"2026-11-23T07:50:39","n":1.0}`,
		`{"__type__": "bytes", "__value__": "text"}`:                                                 `"text"`,
		`{"__type__": "base64", "__value__": "/w=="}`:                                                `"/w=="`,
		`{"__type__": "uuid", "__value__": {"hex": "59716d71a6604162b298206ae30d5c9b"}, "third": 3}`: `{"__type__":"uuid","__value__":{"hex":"59716d71a6604162b298206ae30d5c9b"},"third":3}`,
		`{"__type__": "x", "__value__": [{"__type__": "decimal", "__value__": "1"}]}`:                `["1"]`,
		`{"a": [], "b": {}, "__type__": null}`:                                                       `{"a":[],"b":{},"__type__":null}`,
	} {
		got := plain(json.RawMessage(in))
		var compact bytes.Buffer
		if err := json.Compact(&compact, got); err != nil || compact.String() != want {
			t.Errorf("plain(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestReprIsPythons(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`null`:                            `None`,
		`[true, false, NaN, -Infinity]`:   `[True, False, nan, -inf]`,
		`{"b": 1, "a": [1.0, 1e5, 1e22]}`: `{'b': 1, 'a': [1.0, 100000.0, 1e+22]}`,
		`[0.00001, 0.5, 1e400, -0.0, 1e16, 123456789012345.6]`: `[1e-05, 0.5, inf, -0.0, 1e+16, 123456789012345.6]`,
		`12345678901234567890123`:                              `12345678901234567890123`,
		`"it's"`:                                               `"it's"`,
		`"it's \"so\""`:                                        `'it\'s "so"'`,
		`"a\nb\\c\u0001\u00e9\u200b\ud83d\ude00"`:              `'a\nb\\c\x01é\u200b😀'`,
		`{}`: `{}`,
	} {
		if got := reprOf([]byte(in)); got != want {
			t.Errorf("reprOf(%s) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{`[]`: `()`, `["job-42"]`: `('job-42',)`, `[1, "<&>"]`: `(1, '<&>')`} {
		if got := reprOfArgs([]byte(in)); got != want {
			t.Errorf("reprOfArgs(%s) = %s, want %s", in, got, want)
		}
	}
	if got := Repr(strings.Repeat("é", 5000)); len([]rune(got)) != maxRepr || !strings.HasSuffix(got, "...") {
		t.Errorf("a long text has %d characters when printed, want %d", len([]rune(got)), maxRepr)
	}
	if got := Repr("<b>"); got != "'<b>'" {
		t.Errorf("Repr(<b>) = %s", got)
	}
}

func TestT31_LargeDocumentsAreReadInOnePass(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	deep := strings.Repeat("[", maxNesting-1)
	for name, in := range map[string]string{
		"blanks at the end": "[" + strings.Repeat("1,", size/4) + "1" + strings.Repeat(" ", size/2) + "]",
		"many NaN":          "[" + strings.Repeat("NaN,", size/4) + "1]",
		"many halves":       `["` + strings.Repeat(`\ud800`, size/6) + `"]`,
		"deep":              deep + strings.Repeat("1,", size/2) + "1" + strings.Repeat("]", maxNesting-1),
		"typed":             `[` + strings.Repeat(`{"__type__":"x","__value__":[1]},`, size/34) + "1]",
		"backslashes":       `["` + strings.Repeat(`\\`, size/2) + `"]`,
	} {
		began := time.Now()
		text, err := strict([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plain(text)
		reprOf([]byte(in))
		reprOfArgs([]byte(in))
		// One pass for each level takes about a second under the race detector; a
		// pass for each element would take hours.
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func FuzzStrict(f *testing.F) {
	for _, seed := range []string{`[NaN, {"a": -Infinity}]`, `"\ud800\udc00\udc00"`, `{"__type__": "uuid", "__value__": {"hex": "00"}}`, `[1, "\\"]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := strict(raw)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("strict(%q) = %q, which is no JSON", raw, text)
		}
		if again, err := strict(text); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("strict(%q) = %q, %v: it is not stable", text, again, err)
		}
		if out := plain(text); !json.Valid(out) {
			t.Fatalf("plain(%q) = %q, which is no JSON", text, out)
		}
		reprOf(raw)
		var list []json.RawMessage
		if json.Unmarshal(text, &list) == nil && list != nil {
			var sizes []int
			for range parts(raw) {
				sizes = append(sizes, 1)
			}
			if d := cmp.Diff(len(list), len(sizes)); d != "" {
				t.Fatalf("parts(%q): %s", raw, d)
			}
			if !slices.EqualFunc(list, slices.Collect(parts(text)), func(a json.RawMessage, b []byte) bool { return bytes.Equal(a, b) }) {
				t.Fatalf("parts(%q) differ", text)
			}
		}
	})
}
