package bridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
)

// dialect is how people who use the platform spell the parameters of an engine.
// Names are compared in lower case, with _ for - and blanks. A name that is in
// no dialect goes to the engine as it is, which knows it or refuses it.
type dialect struct {
	rules map[string]rule
	// calculation is the parameter that says what is done; kinds gives its
	// values for the second half of the platform's kind, "relax" of dft_relax.
	calculation string
	family      string // the first half
	kinds       map[string]string
	// ignores reports what means nothing to the engine; nil: nothing is ignored.
	ignores func(name string) bool
	// finish fills in what follows from the other parameters; nil: nothing.
	finish func(out map[string]any)
}

// rule translates one parameter.
type rule func(t *translation, key string, v any)

// translation is parameters on their way into the engine's spelling.
type translation struct {
	out      map[string]any
	from     map[string]string // the key that each came from
	given    map[string]any    // all that was asked for, by folded name
	ignored  map[string]bool
	problems []job.Problem
}

func (d *dialect) translate(in map[string]any) *translation {
	t := &translation{out: map[string]any{}, from: map[string]string{}, given: map[string]any{}, ignored: map[string]bool{}}
	keys := slices.Sorted(maps.Keys(in))
	for _, key := range keys {
		t.given[fold(key)] = in[key]
	}
	for _, key := range keys {
		if in[key] != nil { // null is how Python says nothing
			d.translateOne(t, key, in[key])
		}
	}
	return t
}

func (d *dialect) translateOne(t *translation, key string, v any) {
	name := fold(key)
	if rule := d.rules[name]; rule != nil {
		rule(t, key, v)
	} else if d.ignores != nil && d.ignores(name) {
		t.ignored[key] = true
	} else if d.ignores != nil {
		t.set(name, key, v)
	} else {
		t.set(key, key, v)
	}
}

// kind sets the calculation from the platform's kind of job.
func (d *dialect) kind(out map[string]any, kind string, f *findings) {
	if d.ignores != nil {
		return // the mock imitates any kind
	}
	family, what, _ := strings.Cut(strings.ReplaceAll(fold(kind), ".", "_"), "_")
	word, ok := d.kinds[what]
	switch {
	case family != d.family:
		f.add("kind", fmt.Sprintf("%.60q does not go with the engine", kind), "it is for kinds of "+d.family, "")
	case !ok:
		f.add("kind", fmt.Sprintf("%.60q is nothing that nanoos can do with this engine", kind), "",
			"choose one of: "+d.family+"_"+strings.Join(slices.Sorted(maps.Keys(d.kinds)), ", "+d.family+"_"))
	default:
		out[d.calculation] = word
	}
}

// fold makes spellings comparable.
func fold(key string) string {
	return strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(strings.TrimSpace(key)))
}

// set gives a parameter its value. To say it twice is no fault unless the values
// differ.
func (t *translation) set(name, key string, v any) {
	if before, twice := t.out[name]; twice && !reflect.DeepEqual(before, v) {
		t.add(key, fmt.Sprintf("says the same as %q with another value", t.from[name]), "", "give one of them")
		return
	}
	t.out[name], t.from[name] = v, key
}

func (t *translation) add(key, message, why, fix string) {
	t.problems = append(t.problems, job.Problem{Field: "parameters." + key, Message: message, Why: why, Fix: fix})
}

// as is another name of a parameter.
func as(name string) rule {
	return func(t *translation, key string, v any) { t.set(name, key, v) }
}

// scaled is another name of a parameter in another unit.
func scaled(name string, factor float64) rule {
	return func(t *translation, key string, v any) {
		x, ok := number(v)
		if !ok {
			t.add(key, "is not a number", show(v), "")
			return
		}
		t.set(name, key, round(x*factor))
	}
}

// round drops the digits that a change of units makes up.
func round(x float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
	if err != nil {
		return x
	}
	return short
}

// unclear is a name that says too little to be taken as anything.
func unclear(why, fix string) rule {
	return func(t *translation, key string, _ any) { t.add(key, "can mean several things", why, fix) }
}

// worded is another name of a parameter whose values have other names too.
func worded(name string, words map[string]string) rule {
	return func(t *translation, key string, v any) {
		text, isText := v.(string)
		if word, ok := words[fold(text)]; isText && ok {
			v = word
		}
		t.set(name, key, v)
	}
}

// number reads a number, or a text that is one.
func number(v any) (float64, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	case float64:
		return v, true
	default:
		return 0, false
	}
	x, err := strconv.ParseFloat(text, 64)
	return x, err == nil && !math.IsNaN(x) && !math.IsInf(x, 0)
}

// whole reads a whole number.
func whole(v any) (int64, bool) {
	x, ok := number(v)
	return int64(x), ok && x == math.Trunc(x) && math.Abs(x) < 1<<53
}

// wholes reads a list of whole numbers, one number for three, or a text such as
// "4x4x4".
func wholes(v any) ([]int64, bool) {
	var parts []any
	switch v := v.(type) {
	case []any:
		parts = v
	case string:
		for _, p := range strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune("x× ,*X", r) }) {
			parts = append(parts, p)
		}
	default:
		parts = []any{v, v, v}
	}
	out := make([]int64, len(parts))
	for i, p := range parts {
		n, ok := whole(p)
		if !ok {
			return nil, false
		}
		out[i] = n
	}
	return out, len(out) > 0
}

// show is a value for a message.
func show(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return shorten(string(raw), 80)
}
