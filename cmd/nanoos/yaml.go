package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/nano-os/nanoos/internal/job"
)

// Bounds of a job file. A structure of 20 000 atoms written inline is 1 MiB.
const (
	maxJobFile   = 1 << 20
	maxNesting   = 100
	maxExpanded  = 8 << 20 // of JSON, after aliases have been written out
	maxDocuments = 1000
	maxKeys      = 10_000 // the parser's time grows with the square of the keys
)

// place is a position in a text, both counted from 1.
type place struct{ line, column int }

// value is one value of a YAML document and where it stands.
type value struct {
	place
	kind   valueKind
	text   string // a scalar as written
	json   json.RawMessage
	fields []entry
	items  []*value
}

type entry struct {
	key   string
	place place
	value *value
}

type valueKind int

const (
	scalar valueKind = iota
	mapping
	sequence
)

// parseYAML reads the documents of a text. Faults are problems with a place.
func parseYAML(name string, text []byte) ([]*value, []job.Problem) {
	fault := func(p place, format string, args ...any) []job.Problem {
		return []job.Problem{{File: name, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...)}}
	}
	if len(text) > maxJobFile {
		return nil, fault(place{}, "is larger than a job file may be (%s of %s)", size(int64(len(text))), size(maxJobFile))
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) {
		return nil, fault(place{}, "is not UTF-8 text")
	}
	if i := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }); i >= 0 {
		return nil, fault(placeOf(text, i), "contains a control character (0x%02x)", text[i])
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	tokens := lexer.Tokenize(string(text))
	if at := tooDeep(tokens); at != nil {
		return nil, fault(*at, "is nested deeper than %d levels", maxNesting)
	}
	if at := tooManyKeys(tokens); at != nil {
		return nil, fault(*at, "has more than %d keys", maxKeys)
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		p, message := yamlFault(err)
		return nil, fault(p, "%s", message)
	}
	if len(file.Docs) > maxDocuments {
		return nil, fault(place{}, "has %d documents; at most %d are read", len(file.Docs), maxDocuments)
	}
	r := yamlReader{file: name}
	var docs []*value
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		r.anchors = map[string]*value{}
		docs = append(docs, r.read(d.Body, 0))
	}
	return docs, r.problems
}

func placeOf(text []byte, offset int) place {
	before := text[:offset]
	line := bytes.Count(before, []byte{'\n'})
	return place{line + 1, offset - bytes.LastIndexByte(before, '\n')}
}

// tooDeep finds where nesting on one line passes the bound. Nesting over lines
// needs an indent for each level, so the size of the file bounds it.
func tooDeep(tokens token.Tokens) *place {
	flow, block, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, block = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			block++
		}
		if flow > maxNesting || block > maxNesting {
			return &place{t.Position.Line, t.Position.Column}
		}
	}
	return nil
}

func tooManyKeys(tokens token.Tokens) *place {
	keys := 0
	for _, t := range tokens {
		if t.Type == token.MappingValueType {
			keys++
		}
		if keys > maxKeys {
			return &place{t.Position.Line, t.Position.Column}
		}
	}
	return nil
}

// yamlFault takes the parser's error apart: "[3:2] message\n excerpt".
func yamlFault(err error) (place, string) {
	if e, ok := err.(yaml.Error); ok {
		p := place{}
		if t := e.GetToken(); t != nil && t.Position != nil {
			p = place{t.Position.Line, t.Position.Column}
		}
		return p, e.GetMessage()
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return place{}, first
}

// yamlReader turns the parser's nodes into values.
type yamlReader struct {
	file     string
	anchors  map[string]*value
	problems []job.Problem
}

func (r *yamlReader) fault(p place, message, fix string) {
	if len(r.problems) < 100 {
		r.problems = append(r.problems, job.Problem{File: r.file, Line: p.line, Column: p.column, Message: message, Fix: fix})
	}
}

func (r *yamlReader) read(n ast.Node, depth int) *value {
	at := nodePlace(n)
	v := &value{place: at, json: json.RawMessage("null")}
	if depth > maxNesting {
		r.fault(at, fmt.Sprintf("is nested deeper than %d levels", maxNesting), "")
		return v
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		v.kind = mapping
		seen := make(map[string]place, len(n.Values))
		for _, kv := range n.Values {
			r.readEntry(v, kv, seen, depth)
		}
		if len(v.fields) > 0 && n.IsFlowStyle == false {
			v.place = v.fields[0].place
		}
	case *ast.MappingValueNode:
		v.kind = mapping
		r.readEntry(v, n, map[string]place{}, depth)
	case *ast.SequenceNode:
		v.kind = sequence
		for _, item := range n.Values {
			v.items = append(v.items, r.read(item, depth+1))
		}
	case *ast.AnchorNode:
		inner := r.read(n.Value, depth+1)
		r.anchors[n.Name.GetToken().Value] = inner
		return inner
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		if known := r.anchors[name]; known != nil {
			return known
		}
		r.fault(at, fmt.Sprintf("there is no anchor &%s before this alias", name), "")
	case *ast.TagNode:
		r.fault(at, fmt.Sprintf("tags such as %s are not read here", n.Start.Value), "remove it")
		return r.read(n.Value, depth+1)
	default:
		r.readScalar(v, n)
	}
	return v
}

func (r *yamlReader) readEntry(v *value, kv *ast.MappingValueNode, seen map[string]place, depth int) {
	at := nodePlace(kv.Key)
	if _, merge := kv.Key.(*ast.MergeKeyNode); merge {
		r.fault(at, "merge keys (<<) are not read here", "write the keys out")
		return
	}
	key := kv.Key.GetToken().Value
	if first, twice := seen[key]; twice {
		r.fault(at, fmt.Sprintf("key %q is given twice", key), fmt.Sprintf("the first is in line %d", first.line))
		return
	}
	seen[key] = at
	v.fields = append(v.fields, entry{key, at, r.read(kv.Value, depth+1)})
}

func (r *yamlReader) readScalar(v *value, n ast.Node) {
	t := n.GetToken()
	v.text = t.Value
	switch n := n.(type) {
	case *ast.NullNode:
		v.text = ""
	case *ast.BoolNode:
		v.json = strconv.AppendBool(nil, n.Value)
	case *ast.IntegerNode:
		v.json = integerJSON(n)
	case *ast.FloatNode:
		v.json = floatJSON(t.Value)
	case *ast.NanNode, *ast.InfinityNode:
		r.fault(v.place, fmt.Sprintf("%s is not a number that can be computed with", t.Value), "")
	case *ast.LiteralNode:
		v.text = n.Value.Value
		v.json = quoteJSON(v.text)
	case *ast.StringNode:
		v.text = n.Value
		// The parser takes 1e-8, a number in YAML 1.2, for a string.
		quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
		if !quoted && floatPattern.MatchString(n.Value) {
			v.json = floatJSON(n.Value)
		} else {
			v.json = quoteJSON(n.Value)
		}
	default:
		r.fault(v.place, fmt.Sprintf("%s is not read here", n.Type()), "")
	}
	if v.json == nil {
		r.fault(v.place, fmt.Sprintf("%s is too large for a number", t.Value), "")
		v.json = json.RawMessage("null")
	}
}

var floatPattern = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

func integerJSON(n *ast.IntegerNode) json.RawMessage {
	switch i := n.Value.(type) {
	case int64:
		return strconv.AppendInt(nil, i, 10)
	case uint64:
		return strconv.AppendUint(nil, i, 10)
	}
	return nil
}

// floatJSON is nil when the number does not fit.
func floatJSON(text string) json.RawMessage {
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64)
}

func quoteJSON(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func nodePlace(n ast.Node) place {
	if s, ok := n.(*ast.SequenceNode); ok && s.Start != nil {
		return place{s.Start.Position.Line, s.Start.Position.Column}
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

// errTooLarge ends the writing of a value whose aliases multiply.
var errTooLarge = fmt.Errorf("is larger than %s when its aliases are written out", size(maxExpanded))

// appendJSON writes v, at most maxExpanded bytes.
func (v *value) appendJSON(b []byte) ([]byte, error) {
	if len(b) > maxExpanded {
		return b, errTooLarge
	}
	var err error
	switch v.kind {
	case scalar:
		return append(b, v.json...), nil
	case sequence:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = item.appendJSON(b); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil
	}
	b = append(b, '{')
	for i, e := range v.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, quoteJSON(e.key)...), ':')
		if b, err = e.value.appendJSON(b); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// field returns the value of a key of a mapping, or nil.
func (v *value) field(key string) *value {
	for _, e := range v.fields {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// find returns the place of a path such as "parameters.kpoints[1]", or of its
// nearest parent that is written in the document.
func (v *value) find(path string) place {
	at, steps := v.place, splitPath(path)
	for len(steps) > 0 {
		next := (*value)(nil)
		// A key may itself contain dots, so the longest match is tried first.
		for n := len(steps); n > 0 && next == nil && v.kind == mapping; n-- {
			key := strings.Join(steps[:n], ".")
			for _, e := range v.fields {
				if e.key == key {
					next, at, steps = e.value, e.place, steps[n:]
					break
				}
			}
		}
		if v.kind == sequence {
			if i, err := strconv.Atoi(steps[0]); err == nil && i >= 0 && i < len(v.items) {
				next, at, steps = v.items[i], v.items[i].place, steps[1:]
			}
		}
		if next == nil {
			break
		}
		v = next
	}
	return at
}

func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}
