package crystal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ParseJSON reads the JSON form of a Structure strictly: a field that does not
// exist, a field given twice, a value of the wrong kind and a structure that is
// not valid are errors, all reported at once with their paths.
func ParseJSON(data []byte) (*Structure, error) {
	text, err := open(data, "JSON")
	if err != nil {
		return nil, err
	}
	r := &jsonReader{text: []byte(text), s: &Structure{}}
	r.dec = json.NewDecoder(bytes.NewReader(r.text))
	r.dec.UseNumber()
	if err := r.structure(); err != nil {
		return nil, err
	}
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

// jsonReader fills a structure. Its methods return an error only where the
// text stops being JSON; every other fault goes to ps.
type jsonReader struct {
	text []byte
	dec  *json.Decoder
	s    *Structure
	ps   problems
}

// jsonFields are the fields of a Structure; the order is that of the messages.
var jsonFields = [...]string{"lattice", "pbc", "species", "positions", "cartesian", "labels", "magmoms", "fixed", "velocities"}

func (r *jsonReader) structure() error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return failf(1, 1, "a structure is a JSON object, not %s", kind(t))
	}
	seen := map[string]bool{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			r.wrong(shown(name), "the field is given twice")
		}
		// A hostile text may have a million names that do not exist.
		if len(seen) <= len(jsonFields)+MaxProblems {
			seen[name] = true
		}
		if err := r.value(name); err != nil {
			return err
		}
	}
	if _, err := r.token(); err != nil {
		return err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return r.syntax(errors.New("there is more text after the structure"))
	}
	for _, name := range []string{"species", "positions"} {
		if !seen[name] {
			r.ps.field(name, "the field is missing")
		}
	}
	return nil
}

func (r *jsonReader) value(name string) error {
	switch name {
	case "lattice":
		var rows []Vector
		return r.optional(name, func(t json.Token) error {
			if err := r.list(t, name, appendTo(&rows, r.vector)); err != nil || len(rows) != 3 {
				if err == nil {
					r.wrong(name, "%d vectors, not 3", len(rows))
				}
				return err
			}
			r.s.Lattice = (*Matrix)(rows)
			return nil
		})
	case "pbc":
		return r.optional(name, func(t json.Token) error {
			v, err := r.flags(t, name)
			r.s.PBC = &v
			return err
		})
	case "cartesian":
		return r.optional(name, func(t json.Token) (err error) {
			r.s.Cartesian, err = r.flag(t, name)
			return err
		})
	case "species":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Species, r.word)) })
	case "labels":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Labels, r.word)) })
	case "positions":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Positions, r.vector)) })
	case "velocities":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Velocities, r.vector)) })
	case "magmoms":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Magmoms, r.number)) })
	case "fixed":
		return r.optional(name, func(t json.Token) error { return r.list(t, name, appendTo(&r.s.Fixed, r.flags)) })
	}
	r.wrong(shown(name), "there is no such field")
	if like := nearest(name, jsonFields[:]); like != "" {
		r.ps.fix("did you mean %s?", like)
	} else {
		r.ps.fix("the fields are %s", strings.Join(jsonFields[:], ", "))
	}
	t, err := r.token()
	if err != nil {
		return err
	}
	return r.skip(t)
}

// optional reads a value that may be null, which means absent.
func (r *jsonReader) optional(name string, read func(json.Token) error) error {
	t, err := r.token()
	if err != nil || t == nil {
		return err
	}
	return read(t)
}

// list reads an array and each of its entries.
func (r *jsonReader) list(t json.Token, path string, entry func(t json.Token, path string) error) error {
	if t != json.Delim('[') {
		r.wrong(path, "a list is needed, not %s", kind(t))
		return r.skip(t)
	}
	for i := 0; r.dec.More(); i++ {
		t, err := r.token()
		if err != nil {
			return err
		}
		if i >= MaxSites {
			if i == MaxSites {
				r.wrong(path, "the list has more than %d entries", MaxSites)
			}
			err = r.skip(t)
		} else {
			err = entry(t, fmt.Sprintf("%s[%d]", path, i))
		}
		if err != nil {
			return err
		}
	}
	_, err := r.token()
	return err
}

// appendTo makes an entry reader for list of one that returns a value.
func appendTo[T any](to *[]T, read func(json.Token, string) (T, error)) func(json.Token, string) error {
	if *to == nil {
		*to = []T{}
	}
	return func(t json.Token, path string) error {
		v, err := read(t, path)
		*to = append(*to, v)
		return err
	}
}

func (r *jsonReader) vector(t json.Token, path string) (v Vector, err error) {
	n := 0
	err = r.list(t, path, func(t json.Token, path string) error {
		x, err := r.number(t, path)
		if n < 3 {
			v[n] = x
		}
		n++
		return err
	})
	if err == nil && t == json.Delim('[') && n != 3 {
		r.wrong(path, "%d numbers, not 3", n)
	}
	return v, err
}

func (r *jsonReader) flags(t json.Token, path string) (v [3]bool, err error) {
	n := 0
	err = r.list(t, path, func(t json.Token, path string) error {
		b, err := r.flag(t, path)
		if n < 3 {
			v[n] = b
		}
		n++
		return err
	})
	if err == nil && t == json.Delim('[') && n != 3 {
		r.wrong(path, "%d entries, not 3", n)
	}
	return v, err
}

func (r *jsonReader) number(t json.Token, path string) (float64, error) {
	n, ok := t.(json.Number)
	if !ok {
		r.wrong(path, "a number is needed, not %s", kind(t))
		return 0, r.skip(t)
	}
	x, ok := parseNumber(string(n))
	if !ok {
		r.wrong(path, "%s is too large for a number", quote(string(n)))
	}
	return x, nil
}

func (r *jsonReader) flag(t json.Token, path string) (bool, error) {
	b, ok := t.(bool)
	if !ok {
		r.wrong(path, "true or false is needed, not %s", kind(t))
		return false, r.skip(t)
	}
	return b, nil
}

func (r *jsonReader) word(t json.Token, path string) (string, error) {
	s, ok := t.(string)
	if !ok {
		r.wrong(path, "a text is needed, not %s", kind(t))
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
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = r.token(); err != nil {
			return err
		}
	}
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, r.syntax(err)
	}
	return t, nil
}

// syntax says where the text stops being JSON.
func (r *jsonReader) syntax(err error) error {
	// The token that does not fit begins after the last one that did.
	at := r.dec.InputOffset()
	at += int64(len(r.text[at:]) - len(bytes.TrimLeft(r.text[at:], " \t\r\n,:")))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the text ends too early")
	}
	line, column := r.place(at)
	return failf(line, column, "this is not JSON: %v", err)
}

// wrong adds a problem of the field at path, just read. The place of the
// problems that will not be kept is not looked for: it takes a pass over the
// text.
func (r *jsonReader) wrong(path, format string, args ...any) {
	p := Problem{Field: path, Message: fmt.Sprintf(format, args...)}
	if len(r.ps.list) < MaxProblems {
		p.Line, p.Column = r.place(r.dec.InputOffset())
	}
	r.ps.add(p)
}

func (r *jsonReader) place(offset int64) (line, column int) {
	before := r.text[:min(offset, int64(len(r.text)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// shown is a field's name as a path, quoted when it is not fit for one.
func shown(name string) string {
	if len(name) > maxLabel || !printable(name) {
		return quote(name)
	}
	return name
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
