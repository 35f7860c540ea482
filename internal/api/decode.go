package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
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
	d := strictDecoder{raw: raw}
	if !json.Valid(raw) {
		d.invalid(at)
		return d.problems
	}
	_ = d.value(reflect.TypeOf(dst).Elem(), at, 0) // its error only ends the walk
	if len(d.problems) > 0 {
		return d.problems
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		d.syntax(at, err)
	}
	return d.problems
}

// strictDecoder walks a valid document beside the type it is meant for.
type strictDecoder struct {
	raw      []byte
	pos      int // of what comes next
	problems []job.Problem
}

// unread is a value that somebody else decodes strictly: it is only skipped.
type unread struct{ json.RawMessage }

// errEnough stops a walk that has found maxProblems.
var errEnough = errors.New("enough problems")

func (d *strictDecoder) fault(at, message, why, fix string) {
	d.problems = append(d.problems, job.Problem{Field: at, Message: message, Why: why, Fix: fix})
}

// invalid says what is wrong with a text that is not one document.
func (d *strictDecoder) invalid(at string) {
	if json.NewDecoder(bytes.NewReader(d.raw)).Decode(new(json.RawMessage)) == nil {
		d.fault(at, "there is more text after the end of the document", "", "send one document")
		return
	}
	d.syntax(at, json.Unmarshal(d.raw, new(json.RawMessage)))
}

// syntax adds the problem of a text that is not JSON, with its place.
func (d *strictDecoder) syntax(at string, err error) {
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
	if t == reflect.TypeFor[unread]() {
		d.skip()
		return nil
	}
	if shapeOf(t).reads {
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
	d.space()
	start := d.pos
	if err := d.plain(nil, at, depth); err != nil {
		return err
	}
	text := d.raw[start:d.pos]
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
	switch d.space() {
	case '{':
		return d.object(t, at, depth)
	case '[':
		return d.array(t, at, depth)
	case '"':
		d.skip()
		d.expect(t, at, "a text", reflect.String)
	case 't', 'f':
		d.skip()
		d.expect(t, at, "true or false", reflect.Bool)
	case 'n':
		d.skip() // null leaves the field as it is
	default:
		start := d.pos
		d.skip()
		d.number(t, at, json.Number(d.raw[start:d.pos]))
	}
	return nil
}

// space goes to what comes next and returns its first byte.
func (d *strictDecoder) space() byte {
	for d.raw[d.pos] <= ' ' {
		d.pos++
	}
	return d.raw[d.pos]
}

// skip goes behind the next value.
func (d *strictDecoder) skip() {
	depth := 0
	for {
		switch d.space() {
		case '{', '[':
			depth++
			d.pos++
		case '}', ']':
			depth--
			d.pos++
		case ',', ':':
			d.pos++
			continue
		case '"':
			d.text()
		default:
			for d.pos < len(d.raw) && !bytes.ContainsAny(d.raw[d.pos:d.pos+1], ",:]} \t\r\n") {
				d.pos++
			}
		}
		if depth == 0 {
			return
		}
	}
}

// text goes behind the next value, which is a text, and returns it as it is
// written, with its quotes.
func (d *strictDecoder) text() []byte {
	start := d.pos
	for d.pos++; d.raw[d.pos] != '"'; d.pos++ {
		if d.raw[d.pos] == '\\' {
			d.pos++
		}
	}
	d.pos++
	return d.raw[start:d.pos]
}

// key reads the key of a field and the colon behind it.
func (d *strictDecoder) key() string {
	d.space()
	quoted := d.text()
	d.space()
	d.pos++
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var key string
	_ = json.Unmarshal(quoted, &key) // it is valid
	return key
}

// more goes to the next field or element, or behind the end of the whole.
func (d *strictDecoder) more(end byte) bool {
	switch d.space() {
	case end:
		d.pos++
		return false
	case ',':
		d.pos++
	}
	return true
}

// object walks an object.
func (d *strictDecoder) object(t reflect.Type, at string, depth int) error {
	var fields map[string]reflect.Type
	open := t == nil
	switch {
	case open:
	case t.Kind() == reflect.Struct:
		fields = shapeOf(t).fields
	case t.Kind() == reflect.Map:
		open = true
	default:
		d.expect(t, at, "an object")
		t, open = nil, true
	}
	seen := map[string]bool{}
	for d.pos++; d.more('}'); {
		key := d.key()
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
	return nil
}

func (d *strictDecoder) unknown(path, key string, fields map[string]reflect.Type) {
	names := sortedKeys(fields)
	fix := "known here: " + strings.Join(names, ", ")
	if near := job.Nearest(key, slices.Values(names)); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	d.fault(path, fmt.Sprintf("unknown key %q", shorten(key)), "", fix)
}

// array walks an array.
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
	for d.pos++; d.more(']'); n++ {
		if err := d.value(element, at+"["+strconv.Itoa(n)+"]", depth+1); err != nil {
			return err
		}
	}
	if want >= 0 && n != want {
		d.fault(at, fmt.Sprintf("must have %d values", want), fmt.Sprintf("got %d", n), "")
	}
	return nil
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

// shape is what the decoder needs to know of a type.
type shape struct {
	reads  bool                    // its own JSON
	fields map[string]reflect.Type // of a struct
}

// requestShapes are known from the start: reflection costs more than the walk.
var requestShapes = shapesIn(map[reflect.Type]shape{}, reflect.TypeFor[JobRequest]())

func shapeOf(t reflect.Type) shape {
	if s, known := requestShapes[t]; known {
		return s
	}
	return newShape(t)
}

func newShape(t reflect.Type) shape {
	s := shape{reads: reads(t)}
	if t.Kind() == reflect.Struct && !s.reads {
		s.fields = jsonFields(t)
	}
	return s
}

// shapesIn adds the shapes of a type and of all that it consists of.
func shapesIn(shapes map[reflect.Type]shape, t reflect.Type) map[reflect.Type]shape {
	for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map}, t.Kind()) {
		if t.Kind() != reflect.Pointer {
			shapes[t] = newShape(t)
		}
		t = t.Elem()
	}
	if _, known := shapes[t]; known {
		return shapes
	}
	shapes[t] = newShape(t)
	for _, field := range shapes[t].fields {
		shapesIn(shapes, field)
	}
	return shapes
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
	if len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
		return s
	}
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
