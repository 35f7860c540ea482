package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// NewCheck returns the part of the queue's check that needs to know engines:
// it resolves their aliases, reads the structure, finds the input files, and
// lets the engine plan the job as a worker would. Its error lists all the
// problems. A spec that passed is returned unchanged when checked again.
//
// Without inputs nothing is known of the machines that will run the jobs: what
// an engine needs from their libraries is not looked at, and any engine that
// the program knows is accepted.
func NewCheck(engines []engine.Engine, inputs func(engine string) engine.Inputs, artifacts artifact.Store) func(job.Spec) (job.Spec, []job.Warning, error) {
	c := checker{engines: engines, inputs: inputs, artifacts: artifacts}
	return func(s job.Spec) (job.Spec, []job.Warning, error) {
		s, plan, err := c.check(context.Background(), s)
		if err != nil {
			return s, nil, err
		}
		return s, plan.Warnings, nil
	}
}

type checker struct {
	engines   []engine.Engine
	inputs    func(engine string) engine.Inputs
	artifacts artifact.Store
}

// check also returns the plan, which holds the warnings.
func (c *checker) check(ctx context.Context, s job.Spec) (job.Spec, *engine.Plan, error) {
	eng, problems := c.engineOf(ctx, &s)
	problems = append(problems, c.findFiles(ctx, &s)...)
	structure, p := checkStructure(s.Structure)
	s.Structure = structure
	problems = append(problems, p...)
	if err := job.InvalidInput("the job was refused", problems); err != nil {
		return s, nil, err
	}
	// The engine looks last, so that it does not report the faults of the other
	// parts a second time in other words.
	plan, err := c.plan(ctx, eng, s)
	if e, ok := errors.AsType[*job.Error](err); ok {
		return s, nil, job.InvalidInput("the job was refused", problemsOf(e))
	}
	if err != nil {
		return s, nil, fmt.Errorf("plan the job: %w", err)
	}
	return s, plan, nil
}

// problemsOf are the problems of an error, which may be its only one.
func problemsOf(e *job.Error) []job.Problem {
	if len(e.Problems) > 0 {
		return e.Problems
	}
	return []job.Problem{{Message: e.Message, Why: e.Why, Fix: e.Fix}}
}

// plan asks the engine. An engine that panics is a fault of ours that hurts
// this request alone (T43).
func (c *checker) plan(ctx context.Context, eng engine.Engine, s job.Spec) (plan *engine.Plan, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("engine %s panicked: %v", eng.Name(), p)
		}
	}()
	var in engine.Inputs
	if c.inputs != nil {
		in = c.inputs(eng.Name())
	}
	in.Files = artifact.InputFS(ctx, c.artifacts, s.Files)
	return eng.Plan(s, in)
}

// findFiles completes the sizes of input files and reports those that were
// never uploaded.
func (c *checker) findFiles(ctx context.Context, s *job.Spec) []job.Problem {
	var problems []job.Problem
	s.Files = slices.Clone(s.Files)
	for i, f := range s.Files {
		info, err := c.artifacts.Stat(ctx, artifact.InputKey(f.SHA256))
		if err != nil {
			problems = append(problems, job.Problem{Field: fmt.Sprintf("files[%d].sha256", i), Message: fmt.Sprintf("the contents of %s were not uploaded", shorten(f.Name)),
				Why: fmt.Sprintf("there is no input with the hash %q", shorten(f.SHA256)), Fix: "upload the file with PUT /api/v1/inputs first"})
			continue
		}
		s.Files[i].Size = info.Size
	}
	return problems
}

// deckHead is how much of a file shows whether it is an input deck.
const deckHead = 64 << 10

// engineOf finds the engine by its name or, without one, by the deck among the
// files, and writes its canonical name into the spec.
func (c *checker) engineOf(ctx context.Context, s *job.Spec) (engine.Engine, []job.Problem) {
	if s.Engine != "" {
		e, near := engine.ByName(c.engines, s.Engine)
		if e == nil {
			return nil, []job.Problem{c.unknownEngine(s.Engine, near)}
		}
		s.Engine = e.Name()
		return e, nil
	}
	if len(s.Files) == 0 {
		return nil, []job.Problem{{Field: "engine", Message: "is required and missing", Fix: "choose one of: " + c.names()}}
	}
	files := artifact.InputFS(ctx, c.artifacts, s.Files)
	var found []engine.Engine
	for _, e := range c.engines {
		if slices.ContainsFunc(s.Files, func(f job.File) bool { return e.Deck(f.Name, engine.Head(files, f.Name, deckHead)) }) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 1:
		s.Engine = found[0].Name()
		return found[0], nil
	case 0:
		return nil, []job.Problem{{Field: "engine", Message: "cannot be told from the files", Why: "none of them is an input deck that is known here",
			Fix: "choose one of: " + c.names()}}
	}
	return nil, []job.Problem{{Field: "engine", Message: "cannot be told from the files",
		Why: fmt.Sprintf("they have decks of %s and %s", found[0].Title(), found[1].Title()), Fix: "choose one of: " + c.names()}}
}

func (c *checker) unknownEngine(name, near string) job.Problem {
	p := job.Problem{Field: "engine", Message: fmt.Sprintf("there is no engine %q", shorten(name)), Fix: "choose one of: " + c.names()}
	if near != "" {
		p.Fix = fmt.Sprintf("did you mean %q? One of: %s", near, c.names())
	}
	return p
}

func (c *checker) names() string {
	var names []string
	for _, e := range c.engines {
		names = append(names, e.Name())
	}
	return strings.Join(names, ", ")
}
