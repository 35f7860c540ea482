package qe

import (
	"errors"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Plan implements engine.Engine.
func (q *QE) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) {
	return nil, errors.New("plan")
}
