package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/nano-os/nanoos/internal/job"
)

// Decode checks params against an engine's JSON Schema and decodes them into
// dst. It returns every problem at once, each with the path of the field in the
// job file, and for an unknown key the known one it resembles. Absent params
// count as an empty object.
func Decode(schema, params json.RawMessage, dst any) []job.Problem {
	if len(bytes.TrimSpace(params)) == 0 {
		params = json.RawMessage("{}")
	}
	j, err := judgeOf(schema)
	if err != nil {
		return []job.Problem{{Field: "parameters", Message: "the engine's schema is broken", Why: err.Error()}}
	}
	if problems := j.problems(params); len(problems) > 0 {
		return problems
	}
	if err := json.Unmarshal(params, dst); err != nil {
		return []job.Problem{{Field: "parameters", Message: err.Error()}}
	}
	return nil
}

// judge is a compiled schema and the parameters that it found valid of late: to
// look at them again would cost more than all else that is done with a small
// job, and of the jobs that come together many have the same parameters and
// differ in their structures. The older generation goes when the younger is full.
type judge struct {
	schema *jsonschema.Schema

	mu         sync.Mutex
	young, old map[[sha256.Size]byte]bool // guarded by mu; hashes of valid parameters
}

// maxVerdicts is the size of a generation: some 100 KB for each engine.
const maxVerdicts = 1000

// problems are what is wrong with parameters.
func (j *judge) problems(params json.RawMessage) []job.Problem {
	hash := sha256.Sum256(params)
	if j.passed(hash) {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(params))
	if err != nil {
		return []job.Problem{{Field: "parameters", Message: "not valid JSON", Why: err.Error()}}
	}
	if err := j.schema.Validate(value); err != nil {
		v, ok := err.(*jsonschema.ValidationError)
		if !ok {
			return []job.Problem{{Field: "parameters", Message: err.Error()}}
		}
		c := problemCollector{root: j.schema, value: value}
		c.collect(v)
		return c.problems
	}
	j.pass(hash)
	return nil
}

func (j *judge) passed(hash [sha256.Size]byte) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.young[hash] || j.old[hash]
}

func (j *judge) pass(hash [sha256.Size]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.young == nil || len(j.young) >= maxVerdicts {
		j.young, j.old = map[[sha256.Size]byte]bool{}, j.young
	}
	j.young[hash] = true
}

// english words the problems that need no words of our own.
var english = message.NewPrinter(language.English)

// judges by the place of their schema; the set of schemas is that of the
// engines, whose texts are part of the program and never change.
var judges sync.Map

type place struct {
	first *byte
	size  int
}

func judgeOf(schema json.RawMessage) (*judge, error) {
	at := place{size: len(schema)}
	if at.size > 0 {
		at.first = &schema[0]
	}
	if j, ok := judges.Load(at); ok {
		return j.(*judge), nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	const url = "parameters.json"
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	s, err := c.Compile(url)
	if err != nil {
		return nil, err
	}
	j, _ := judges.LoadOrStore(at, &judge{schema: s})
	return j.(*judge), nil
}

// problemCollector turns the tree of a validation error into a flat list.
type problemCollector struct {
	root     *jsonschema.Schema
	value    any
	problems []job.Problem
}

func (c *problemCollector) collect(v *jsonschema.ValidationError) {
	field := fieldPath(v.InstanceLocation)
	switch k := v.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		// The branch that came furthest into the value is what was meant.
		if deepest := deepestCause(v); deepest != nil {
			c.collect(deepest)
			return
		}
		c.add(field, "has none of the permitted forms", "", c.meaning(v.InstanceLocation))
	case *kind.AdditionalProperties:
		known := properties(schemaAt(c.root, v.InstanceLocation))
		for _, name := range k.Properties {
			c.addUnknown(field+"."+name, name, known)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			c.add(field+"."+name, "is required and missing", "", "")
		}
	case *kind.Type:
		c.add(field, "must be "+oneOf(k.Want), "got "+k.Got, c.meaning(v.InstanceLocation))
	case *kind.Enum:
		c.addEnum(field, k)
	case *kind.Minimum:
		c.addBound(v, "at least", k.Want, k.Got)
	case *kind.ExclusiveMinimum:
		c.addBound(v, "above", k.Want, k.Got)
	case *kind.Maximum:
		c.addBound(v, "at most", k.Want, k.Got)
	case *kind.ExclusiveMaximum:
		c.addBound(v, "below", k.Want, k.Got)
	default:
		if len(v.Causes) == 0 {
			c.add(field, v.ErrorKind.LocalizedString(english), "", c.meaning(v.InstanceLocation))
		}
		for _, cause := range v.Causes {
			c.collect(cause)
		}
	}
}

func (c *problemCollector) add(field, message, why, fix string) {
	c.problems = append(c.problems, job.Problem{Field: field, Message: message, Why: why, Fix: fix})
}

// meaning is the description of the parameter at a location or around it.
func (c *problemCollector) meaning(location []string) string {
	for n := len(location); n > 0; n-- {
		if s := schemaAt(c.root, location[:n]); s != nil && s.Description != "" {
			return s.Description
		}
	}
	return ""
}

func (c *problemCollector) addUnknown(field, name string, known []string) {
	fix := "permitted here: " + strings.Join(known, ", ")
	if near := job.Nearest(name, slices.Values(known)); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	c.add(field, fmt.Sprintf("unknown key %q", name), "", fix)
}

func (c *problemCollector) addBound(v *jsonschema.ValidationError, relation string, want, got *big.Rat) {
	bound, _ := want.Float64()
	given, _ := got.Float64()
	c.add(fieldPath(v.InstanceLocation), fmt.Sprintf("must be %s %g", relation, bound), fmt.Sprintf("got %g", given), c.meaning(v.InstanceLocation))
}

func (c *problemCollector) addEnum(field string, k *kind.Enum) {
	var want []string
	for _, w := range k.Want {
		want = append(want, fmt.Sprint(w))
	}
	fix := "choose one of: " + strings.Join(want, ", ")
	if near := job.Nearest(fmt.Sprint(k.Got), slices.Values(want)); near != "" {
		fix = fmt.Sprintf("did you mean %q? One of: %s", near, strings.Join(want, ", "))
	}
	c.add(field, fmt.Sprintf("%v is not permitted", quoted(k.Got)), "", fix)
}

// deepestCause returns the cause whose error lies deepest in the value; nil
// when several forms were refused at the top for their type alone.
func deepestCause(v *jsonschema.ValidationError) *jsonschema.ValidationError {
	var best *jsonschema.ValidationError
	bestDepth := len(v.InstanceLocation)
	for _, cause := range v.Causes {
		if _, wrongType := cause.ErrorKind.(*kind.Type); wrongType && len(cause.InstanceLocation) == len(v.InstanceLocation) {
			continue
		}
		if d := depth(cause); best == nil || d > bestDepth {
			best, bestDepth = cause, d
		}
	}
	return best
}

func depth(v *jsonschema.ValidationError) int {
	d := len(v.InstanceLocation)
	for _, cause := range v.Causes {
		d = max(d, depth(cause))
	}
	return d
}

// schemaAt walks from the root schema to the one that governs a location.
func schemaAt(s *jsonschema.Schema, location []string) *jsonschema.Schema {
	for _, name := range location {
		s = dereference(s)
		if s == nil {
			return nil
		}
		if next, ok := s.Properties[name]; ok {
			s = next
			continue
		}
		found := false
		for _, branch := range slices.Concat(s.OneOf, s.AnyOf, s.AllOf) {
			if next, ok := dereference(branch).Properties[name]; ok {
				s, found = next, true
				break
			}
		}
		if !found {
			return nil
		}
	}
	return dereference(s)
}

func dereference(s *jsonschema.Schema) *jsonschema.Schema {
	for s != nil && s.Ref != nil {
		s = s.Ref
	}
	return s
}

func properties(s *jsonschema.Schema) []string {
	if s == nil {
		return nil
	}
	names := slices.Collect(maps.Keys(s.Properties))
	for _, branch := range slices.Concat(s.OneOf, s.AnyOf, s.AllOf) {
		names = append(names, slices.Collect(maps.Keys(dereference(branch).Properties))...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fieldPath writes a location as people do: parameters.kpoints[1].
func fieldPath(location []string) string {
	var b strings.Builder
	b.WriteString("parameters")
	for _, part := range location {
		if _, err := strconv.Atoi(part); err == nil {
			b.WriteString("[" + part + "]")
		} else {
			b.WriteString("." + part)
		}
	}
	return b.String()
}

func oneOf(types []string) string {
	article := func(t string) string {
		if strings.HasPrefix(t, "a") || strings.HasPrefix(t, "o") || strings.HasPrefix(t, "i") {
			return "an " + t
		}
		return "a " + t
	}
	named := make([]string, len(types))
	for i, t := range types {
		named[i] = article(t)
	}
	return strings.Join(named, " or ")
}

func quoted(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(v)
}
