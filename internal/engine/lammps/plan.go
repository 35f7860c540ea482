package lammps

import (
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func (l *LAMMPS) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) { return nil, nil }
func (l *LAMMPS) Monitor(p *engine.Plan) engine.Monitor                      { return nil }
