package api

import (
	"encoding/json"
	"errors"
	"reflect"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// canonical reads the structure, whichever way it was given, and returns it in
// the one form that specs keep.
func (s *StructureInput) canonical() (json.RawMessage, []engine.Warning, []job.Problem) {
	if s == nil {
		return nil, nil, nil
	}
	inline := !reflect.ValueOf(s.Structure).IsZero()
	switch {
	case inline && s.Text != "":
		return nil, nil, []job.Problem{{Field: "structure", Message: "is given twice", Why: "it has both sites and the text of a file", Fix: "give one of them"}}
	case inline:
		raw, err := json.Marshal(s.Structure)
		if err != nil {
			return nil, nil, []job.Problem{{Field: "structure", Message: err.Error()}}
		}
		return raw, nil, nil // checkStructure looks at it, as at those of other doors
	}
	read, notes, err := crystal.Read(s.Name, []byte(s.Text), s.Format)
	if err != nil {
		return nil, nil, structureProblems(err)
	}
	var warnings []engine.Warning
	for _, note := range notes {
		warnings = append(warnings, engine.Warning{Code: "structure", Message: note, File: s.Name})
	}
	raw, err := json.Marshal(read)
	if err != nil {
		return nil, nil, structureProblems(err)
	}
	return raw, warnings, nil
}

// checkStructure reads a spec's structure strictly and returns it in canonical form.
func checkStructure(raw json.RawMessage) (json.RawMessage, []job.Problem) {
	if len(raw) == 0 {
		return nil, nil
	}
	s, err := crystal.ParseJSON(raw)
	if err != nil {
		return raw, structureProblems(err)
	}
	canonical, err := json.Marshal(s)
	if err != nil {
		return raw, structureProblems(err)
	}
	return canonical, nil
}

// structureProblems gives the problems of a structure their place: a line of
// its file, or a field of the job.
func structureProblems(err error) []job.Problem {
	e, ok := errors.AsType[*crystal.ParseError](err)
	if !ok {
		return []job.Problem{{Field: "structure", Message: err.Error()}}
	}
	var problems []job.Problem
	for _, p := range e.Problems {
		problem := job.Problem{File: e.File, Field: "structure", Message: p.Message, Fix: p.Fix}
		if p.Field != "" {
			problem.Field = "structure." + p.Field
		}
		if e.File != "" {
			problem.Line, problem.Column = p.Line, p.Column
		}
		problems = append(problems, problem)
	}
	return problems
}
