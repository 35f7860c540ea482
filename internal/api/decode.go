package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nano-os/nanoos/internal/job"
)

// Limits of a JSON document that is taken in (T30).
const (
	maxDepth    = 64 // ours are 6 deep, parameters of engines a few more
	maxProblems = 50 // a document that is wrong in one way is often wrong in it everywhere
)

// decodeStrict reads one JSON document into dst, a pointer. What the standard
// decoder forgives is refused: unknown keys, keys given twice or in another
// case, text after the end, arrays of the wrong length, bytes that are not
// UTF-8. All problems are returned, each with its path below at.
func decodeStrict(raw []byte, at string, dst any) []job.Problem {
	if bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")) {
		return []job.Problem{{Field: at, Message: "the text begins with a byte order mark", Fix: "save it as UTF-8 without one"}}
	}
	if !utf8.Valid(raw) {
		return []job.Problem{{Field: at, Message: "the text is not UTF-8"}}
	}
	d := strictDecoder{raw: raw, dec: json.NewDecoder(bytes.NewReader(raw))}
	d.dec.UseNumber()
	err := d.value(reflect.TypeOf(dst).Elem(), at, 0)
	if err == nil {
		if _, err = d.dec.Token(); err == nil {
			d.fault(at, "there is more text after the end of the document", "", "send one document")
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errEnough) {
		d.syntax(at, err)
	}
	if len(d.problems) > 0 {
		return d.problems
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		d.syntax(at, err)
	}
	return d.problems
}

// strictDecoder walks the tokens of a document beside the type it is meant for.
type strictDecoder struct {
	raw      []byte
	dec      *json.Decoder
	problems []job.Problem
}

// errEnough stops a walk that has found maxProblems.
var errEnough = errors.New("enough problems")

func (d *strictDecoder) fault(at, message, why, fix string) {
	d.problems = append(d.problems, job.Problem{Field: at, Message: message, Why: why, Fix: fix})
}

// syntax adds the problem of a text that is not JSON, with its place. The error
// of a walk counts from the last value, so the place is found by a second read.
func (d *strictDecoder) syntax(at string, err error) {
	if whole := json.Unmarshal(d.raw, new(json.RawMessage)); whole != nil {
		err = whole
	}
	p := job.Problem{Field: at, Message: "the text is not valid JSON", Why: err.Error(), Line: 1, Column: 1}
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := d.raw[:max(se.Offset-1, 0)]
		if int(se.Offset) >= len(d.raw) && strings.HasPrefix(p.Why, "unexpected end") {
			before, p.Why = d.raw, "it ends in the middle"
		}
		p.Line = bytes.Count(before, []byte("\n")) + 1
		p.Column = len(before) - bytes.LastIndexByte(before, '\n')
	}
	d.problems = append(d.problems, p)
}

// value walks the next value; t is nil where anything may stand.
func (d *strictDecoder) value(t reflect.Type, at string, depth int) error {
	if len(d.problems) >= maxProblems {
		return errEnough
	}
	if depth > maxDepth {
		d.fault(at, fmt.Sprintf("the document is more than %d levels deep", maxDepth), "", "")
		return errEnough
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t == reflect.TypeFor[json.RawMessage]() {
		return d.plain(nil, at, depth)
	}
	if reads(t) {
		return d.leaf(t, at, depth)
	}
	return d.plain(t, at, depth)
}

// reads reports whether a type reads its own JSON.
func reads(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// leaf lets a type that reads its own JSON judge it.
func (d *strictDecoder) leaf(t reflect.Type, at string, depth int) error {
	start := d.dec.InputOffset()
	if err := d.plain(nil, at, depth); err != nil {
		return err
	}
	text := bytes.TrimLeft(d.raw[start:d.dec.InputOffset()], " \t\r\n:,")
	if string(text) == "null" {
		return nil
	}
	err := json.Unmarshal(text, reflect.New(t).Interface())
	switch {
	case err == nil:
	case t == reflect.TypeFor[time.Time]():
		d.fault(at, fmt.Sprintf("%s is not a time", text), "", "write it like 2026-01-31T12:00:00Z")
	default:
		d.fault(at, err.Error(), "", "")
	}
	return nil
}

// plain walks objects and arrays, and checks the kinds of scalars.
func (d *strictDecoder) plain(t reflect.Type, at string, depth int) error {
	token, err := d.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return d.object(t, at, depth)
		}
		return d.array(t, at, depth)
	case string:
		d.expect(t, at, "a text", reflect.String)
	case bool:
		d.expect(t, at, "true or false", reflect.Bool)
	case json.Number:
		d.number(t, at, v)
	}
	return nil
}

// object walks an object whose opening brace has been read.
func (d *strictDecoder) object(t reflect.Type, at string, depth int) error {
	fields := map[string]reflect.Type{}
	open := t == nil
	switch {
	case open:
	case t.Kind() == reflect.Struct:
		fields = jsonFields(t)
	case t.Kind() == reflect.Map:
		open = true
	default:
		d.expect(t, at, "an object")
		t, open = nil, true
	}
	seen := map[string]bool{}
	for d.dec.More() {
		token, err := d.dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		path := join(at, key)
		if seen[key] {
			d.fault(path, fmt.Sprintf("key %q is given twice", key), "", "give it once")
		}
		seen[key] = true
		next, known := fields[key]
		switch {
		case open && t != nil:
			next = t.Elem()
		case !open && !known:
			d.unknown(path, key, fields)
		}
		if err := d.value(next, path, depth+1); err != nil {
			return err
		}
	}
	_, err := d.dec.Token()
	return err
}

func (d *strictDecoder) unknown(path, key string, fields map[string]reflect.Type) {
	names := sortedKeys(fields)
	fix := "known here: " + strings.Join(names, ", ")
	if near := job.Nearest(key, slices.Values(names)); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	d.fault(path, fmt.Sprintf("unknown key %q", shorten(key)), "", fix)
}

// array walks an array whose opening bracket has been read.
func (d *strictDecoder) array(t reflect.Type, at string, depth int) error {
	var element reflect.Type
	want := -1
	switch {
	case t == nil:
	case t.Kind() == reflect.Array:
		element, want = t.Elem(), t.Len()
	case t.Kind() == reflect.Slice:
		element = t.Elem()
	default:
		d.expect(t, at, "a list")
	}
	n := 0
	for ; d.dec.More(); n++ {
		if err := d.value(element, at+"["+strconv.Itoa(n)+"]", depth+1); err != nil {
			return err
		}
	}
	if want >= 0 && n != want {
		d.fault(at, fmt.Sprintf("must have %d values", want), fmt.Sprintf("got %d", n), "")
	}
	_, err := d.dec.Token()
	return err
}

func (d *strictDecoder) number(t reflect.Type, at string, n json.Number) {
	d.expect(t, at, "a number", reflect.Int, reflect.Int64, reflect.Float64)
	if t == nil {
		return
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			d.fault(at, "must be a whole number", "got "+shorten(n.String()), "")
		}
	case reflect.Float64:
		if _, err := n.Float64(); err != nil {
			d.fault(at, "the number is too large", "got "+shorten(n.String()), "")
		}
	}
}

// expect adds a problem when a value of one of kinds cannot be a t.
func (d *strictDecoder) expect(t reflect.Type, at, got string, kinds ...reflect.Kind) {
	if t != nil && !slices.Contains(kinds, t.Kind()) {
		d.fault(at, "must be "+wordFor(t.Kind()), "got "+got, "")
	}
}

func wordFor(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// jsonFields returns the keys of a struct in JSON and their types.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" || name == "" {
			continue
		}
		fields[name] = f.Type
	}
	return fields
}

// join appends a key to a path. Keys come from outside and may be anything, so
// they are cut and control characters are shown as text (T40).
func join(at, key string) string {
	key = shorten(key)
	if at == "" {
		return key
	}
	return at + "." + key
}

// shorten makes a text from outside fit to be shown in one line.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
