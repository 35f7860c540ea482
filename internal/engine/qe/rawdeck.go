package qe

import (
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func planDeck(spec job.Spec, p params, problems []job.Problem, in engine.Inputs) (*engine.Plan, error) {
	return nil, refusal(problems)
}
