package crystal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ReadJSON reads a structure in its own JSON form, or in that of pymatgen or of
// ASE, told apart by their fields.
func ReadJSON(data []byte) (s *Structure, warnings []string, err error) {
	switch jsonDialect(data) {
	case Pymatgen:
		return ReadPymatgen(data)
	case ASE:
		return ReadASE(data)
	}
	s, err = ParseJSON(data)
	return s, nil, err
}

// jsonDialect goes by the first field that only one of the forms has; text that
// is no such object is left to the reader of our own form.
func jsonDialect(data []byte) Format {
	r, err := newJSONReader(data)
	if err != nil {
		return JSON
	}
	found := JSON
	stop := errors.New("the form is known")
	_ = r.whole(func(name string) error {
		t, err := r.token()
		if err != nil {
			return err
		}
		_, row := strconv.Atoi(name)
		switch {
		case name == "@module", name == "@class", name == "sites", name == "lattice" && t == json.Delim('{'):
			found = Pymatgen
		case name == "numbers", name == "cell", name == "ids", name == "nextid", name == "__ase_objtype__", row == nil:
			found = ASE
		case slices.Contains(jsonFields[:], name):
		default:
			return r.skip(t)
		}
		return stop
	})
	return found
}

// ParseJSON reads the JSON form of a Structure strictly: a field that does not
// exist, a field given twice, a value of the wrong kind and a structure that is
// not valid are errors, all reported at once with their paths.
func ParseJSON(data []byte) (*Structure, error) {
	r, err := newJSONReader(data)
	if err != nil {
		return nil, err
	}
	if err := r.structure(); err != nil {
		return nil, err
	}
	return r.finish()
}

func newJSONReader(data []byte) (*jsonReader, error) {
	text, err := open(data, "JSON")
	if err != nil {
		return nil, err
	}
	r := &jsonReader{text: []byte(text), s: &Structure{}}
	r.dec = json.NewDecoder(bytes.NewReader(r.text))
	r.dec.UseNumber()
	return r, nil
}

// finish validates what was read.
func (r *jsonReader) finish() (*Structure, error) {
	if !r.ps.any() {
		for _, p := range r.s.Validate() {
			r.ps.add(p)
		}
	}
	if err := r.ps.err(); err != nil {
		return nil, err
	}
	return r.s, nil
}

// jsonReader fills a structure. Its methods return an error only where there is
// no reading on: the text stops being JSON, or has too many faults or entries.
// Every other fault goes to ps.
type jsonReader struct {
	text []byte
	dec  *json.Decoder
	s    *Structure
	ps   problems
	// start is where the last token begins.
	start int
}

// jsonFields are the fields of a Structure; the order is that of the messages.
var jsonFields = [...]string{"lattice", "pbc", "species", "positions", "cartesian", "labels", "magmoms", "fixed", "velocities"}

// maxJSONDepth bounds the nesting of a value that is skipped.
const maxJSONDepth = 100

func (r *jsonReader) structure() error {
	seen := map[string]bool{}
	err := r.whole(func(name string) error {
		if seen[name] {
			r.wrong(fieldPath(name), "the field is given twice")
		}
		seen[name] = true
		return r.value(name)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"species", "positions"} {
		if !seen[name] {
			r.ps.field(name, "the field is missing")
		}
	}
	return nil
}

// whole reads the text as one object; field reads the value of each name.
func (r *jsonReader) whole(field func(name string) error) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return failf(1, 1, "a structure is a JSON object, not %s", kind(t))
	}
	if err := r.fields(field); err != nil {
		return err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return r.syntax(errors.New("there is more text after the structure"))
	}
	return nil
}

// fields reads the rest of an object whose brace was read.
func (r *jsonReader) fields(field func(name string) error) error {
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if err := field(name); err != nil {
			return err
		}
		if r.ps.omitted > 0 {
			return r.ps.err()
		}
	}
	_, err := r.token()
	return err
}

// object reads the fields of an object, if it is one; null is an empty one.
func (r *jsonReader) object(t json.Token, at jsonPath, field func(name string, t json.Token, at jsonPath) error) error {
	switch t {
	case nil:
		return nil
	case json.Delim('{'):
		return r.fields(func(name string) error {
			t, err := r.token()
			if err != nil {
				return err
			}
			return field(name, t, at.part(name))
		})
	}
	r.wrong(at, "an object is needed, not %s", kind(t))
	return r.skip(t)
}

func (r *jsonReader) value(name string) error {
	at := fieldPath(name)
	known := slices.Contains(jsonFields[:], name)
	if !known {
		r.unknown(at)
	}
	t, err := r.token()
	if err != nil {
		return err
	}
	if !known {
		return r.skip(t)
	}
	if t == nil { // null means absent
		return nil
	}
	switch name {
	case "lattice":
		return r.lattice(t, at)
	case "pbc":
		r.s.PBC = new([3]bool)
		*r.s.PBC, err = r.flags(t, at)
		return err
	case "cartesian":
		r.s.Cartesian, err = r.flag(t, at)
		return err
	case "species":
		return r.list(t, at, appendTo(&r.s.Species, r.word))
	case "positions":
		return r.list(t, at, appendTo(&r.s.Positions, r.vector))
	case "labels":
		return r.list(t, at, appendTo(&r.s.Labels, r.word))
	case "magmoms":
		return r.list(t, at, appendTo(&r.s.Magmoms, r.number))
	case "fixed":
		return r.list(t, at, appendTo(&r.s.Fixed, r.flags))
	default: // velocities
		return r.list(t, at, appendTo(&r.s.Velocities, r.vector))
	}
}

func (r *jsonReader) unknown(at jsonPath) {
	r.wrong(at, "there is no such field")
	if like := nearest(at.name, jsonFields[:]); like != "" {
		r.ps.fix("did you mean %s?", like)
	} else {
		r.ps.fix("the fields are %s", strings.Join(jsonFields[:], ", "))
	}
}

func (r *jsonReader) lattice(t json.Token, at jsonPath) error {
	var rows []Vector
	if err := r.list(t, at, appendTo(&rows, r.vector)); err != nil {
		return err
	}
	if t == json.Delim('[') && len(rows) != 3 {
		r.wrong(at, "%d vectors, not 3", len(rows))
		return nil
	}
	if len(rows) == 3 {
		r.s.Lattice = (*Matrix)(rows)
	}
	return nil
}

// list reads an array and each of its entries.
func (r *jsonReader) list(t json.Token, at jsonPath, entry func(json.Token, jsonPath) error) error {
	if t != json.Delim('[') {
		r.wrong(at, "a list is needed, not %s", kind(t))
		return r.skip(t)
	}
	for i := 0; r.dec.More(); i++ {
		t, err := r.token()
		if err != nil {
			return err
		}
		if i == MaxSites {
			r.wrong(at, "the list has more than %d entries", MaxSites)
			return r.ps.err()
		}
		if err := entry(t, at.entry(i)); err != nil {
			return err
		}
		if r.ps.omitted > 0 {
			return r.ps.err()
		}
	}
	_, err := r.token()
	return err
}

// appendTo makes an entry reader for list of one that returns a value.
func appendTo[T any](to *[]T, read func(json.Token, jsonPath) (T, error)) func(json.Token, jsonPath) error {
	if *to == nil {
		*to = []T{}
	}
	return func(t json.Token, at jsonPath) error {
		v, err := read(t, at)
		*to = append(*to, v)
		return err
	}
}

func (r *jsonReader) vector(t json.Token, at jsonPath) (v Vector, err error) {
	n := 0
	err = r.list(t, at, func(t json.Token, at jsonPath) error {
		x, err := r.number(t, at)
		if n < 3 {
			v[n] = x
		}
		n++
		return err
	})
	if err == nil && t == json.Delim('[') && n != 3 {
		r.wrong(at, "%d numbers, not 3", n)
	}
	return v, err
}

func (r *jsonReader) flags(t json.Token, at jsonPath) (v [3]bool, err error) {
	n := 0
	err = r.list(t, at, func(t json.Token, at jsonPath) error {
		b, err := r.flag(t, at)
		if n < 3 {
			v[n] = b
		}
		n++
		return err
	})
	if err == nil && t == json.Delim('[') && n != 3 {
		r.wrong(at, "%d entries, not 3", n)
	}
	return v, err
}

func (r *jsonReader) number(t json.Token, at jsonPath) (float64, error) {
	n, ok := t.(json.Number)
	if !ok {
		r.wrong(at, "a number is needed, not %s", kind(t))
		return 0, r.skip(t)
	}
	x, ok := parseNumber(string(n))
	if !ok {
		r.wrong(at, "%s is too large for a number", quote(string(n)))
	}
	return x, nil
}

func (r *jsonReader) flag(t json.Token, at jsonPath) (bool, error) {
	b, ok := t.(bool)
	if !ok {
		r.wrong(at, "true or false is needed, not %s", kind(t))
		return false, r.skip(t)
	}
	return b, nil
}

func (r *jsonReader) word(t json.Token, at jsonPath) (string, error) {
	s, ok := t.(string)
	if !ok {
		r.wrong(at, "a text is needed, not %s", kind(t))
		return "", r.skip(t)
	}
	return s, nil
}

// skip reads over the rest of a value whose first token was t.
func (r *jsonReader) skip(t json.Token) error {
	depth := 0
	for {
		switch t {
		case json.Delim('['), json.Delim('{'):
			depth++
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
		switch {
		case depth == 0:
			return nil
		case depth > maxJSONDepth:
			return r.syntax(fmt.Errorf("it nests more than %d deep", maxJSONDepth))
		}
		var err error
		if t, err = r.token(); err != nil {
			return err
		}
	}
}

func (r *jsonReader) token() (json.Token, error) {
	r.start = int(r.dec.InputOffset())
	for r.start < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[r.start]) >= 0 {
		r.start++
	}
	t, err := r.dec.Token()
	if err != nil {
		return nil, r.syntax(err)
	}
	return t, nil
}

// syntax says where the text stops being JSON.
func (r *jsonReader) syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the text ends too early")
	}
	line, column := r.place()
	return failf(line, column, "this is not JSON: %v", err)
}

// wrong adds a problem of what was just read, the field at the path. The place of the
// problems that will not be kept is not looked for: it takes a pass over the
// text.
func (r *jsonReader) wrong(at jsonPath, format string, args ...any) {
	p := Problem{Field: at.String(), Message: fmt.Sprintf(format, args...)}
	if len(r.ps.list) < MaxProblems {
		p.Line, p.Column = r.place()
	}
	r.ps.add(p)
}

// place is where the last token begins.
func (r *jsonReader) place() (line, column int) {
	before := r.text[:r.start]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// jsonPath is a field, an entry of its list, a part of that, and so on.
type jsonPath struct {
	name   string
	depth  int
	index  [4]int
	member string // after the first entries, as in sites[3].abc[0]
	before int    // how many entries stand before the member
}

func fieldPath(name string) jsonPath { return jsonPath{name: name} }

func (p jsonPath) entry(i int) jsonPath {
	if p.depth < len(p.index) {
		p.index[p.depth] = i
		p.depth++
	}
	return p
}

// part is a field of an entry.
func (p jsonPath) part(name string) jsonPath {
	p.member, p.before = name, p.depth
	return p
}

// String is the path as people write it; a name that is not fit for one is
// quoted.
func (p jsonPath) String() string {
	s := p.name
	if len(s) > maxLabel || !printable(s) {
		s = quote(s)
	}
	for n, i := range p.index[:p.depth] {
		if p.member != "" && n == p.before {
			s += "." + p.member
		}
		s += fmt.Sprintf("[%d]", i)
	}
	if p.member != "" && p.before == p.depth {
		s += "." + p.member
	}
	return s
}

func kind(t json.Token) string {
	switch t := t.(type) {
	case nil:
		return "null"
	case string:
		return "the text " + quote(t)
	case json.Number:
		return "the number " + string(t[:min(len(t), maxLabel)])
	case bool:
		return fmt.Sprint(t)
	}
	if t == json.Delim('{') {
		return "an object"
	}
	return "a list"
}
