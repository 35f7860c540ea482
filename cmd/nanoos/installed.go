package main

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/lammps"
	"github.com/nano-os/nanoos/internal/engine/qe"
	"github.com/nano-os/nanoos/internal/engine/vasp"
	"github.com/nano-os/nanoos/internal/worker"
)

// engines lists the simulation codes that this binary knows.
func engines() []engine.Engine {
	return []engine.Engine{qe.New(), lammps.New(), vasp.New(), engine.Mock{}}
}

// machineEngines describes the engines of this machine without a server.
func machineEngines(ctx context.Context) []api.EngineInfo {
	cfg, err := loadConfig(os.Getenv)
	if err != nil {
		return nil
	}
	all := engines()
	m, err := worker.FindMachine(all, cfg.Settings, cfg.Data)
	if err != nil {
		return nil
	}
	return describeEngines(ctx, all, m)
}

// installHints are the packages that bring an engine on Debian and its kin.
var installHints = map[string]string{
	"qe":     "sudo apt-get install quantum-espresso quantum-espresso-data",
	"lammps": "sudo apt-get install lammps lammps-data",
	"vasp":   "name your licensed program in programs of the configuration: vasp_std: /path/to/vasp_std",
}

func describeEngines(ctx context.Context, all []engine.Engine, m *worker.Machine) []api.EngineInfo {
	infos := make([]api.EngineInfo, 0, len(all))
	for _, e := range all {
		info := api.EngineInfo{
			Name: e.Name(), Title: e.Title(), Aliases: e.Aliases(), Schema: e.Schema(),
			Programs: map[string]string{}, Library: m.Libraries[e.Name()],
		}
		for _, p := range e.Programs() {
			if path, ok := m.Programs[p]; ok {
				info.Programs[p] = path
			}
		}
		main, ok := m.Programs[e.Programs()[0]]
		info.Available = ok
		switch {
		case !ok:
			info.Problem, info.Fix = e.Programs()[0]+" is not on the PATH and no setting names it", installHints[e.Name()]
		case e.Name() == "mock":
			info.Version = version
		default:
			info.Version = programVersion(ctx, e, main)
		}
		infos = append(infos, info)
	}
	return infos
}

// programVersion asks a program for its version; "" when it does not say.
func programVersion(ctx context.Context, e engine.Engine, path string) string {
	p, ok := e.(engine.Prober)
	if !ok {
		return ""
	}
	v, _ := p.ReadProbe(probe(ctx, path, p.ProbeArgs()))
	return v
}

// probe runs a program that prints what it is and ends.
func probe(ctx context.Context, path string, args []string) []byte {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	// pw.x leaves a CRASH file where it stands.
	dir, err := os.MkdirTemp("", "nanoos-probe-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	cmd.Dir = dir
	// A serial run of an MPI program would otherwise start a helper.
	cmd.Env = append(os.Environ(), "OMPI_MCA_ess_singleton_isolated=1", "LC_ALL=C")
	// Its exit status says nothing here: what it printed does.
	out, _ := cmd.CombinedOutput()
	return out
}

// probeEngines asks the installed programs once what they can do, so that a job
// that needs more is refused when it is submitted. It returns at once; the
// function returned waits for the answers.
func (c *computing) probeEngines(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, e := range c.engines {
		p, ok := e.(engine.Prober)
		path, installed := c.machine.Programs[e.Programs()[0]]
		if !ok || !installed {
			continue
		}
		answer := c.machine.Probe(e.Name())
		wg.Go(func() {
			_, styles := p.ReadProbe(probe(ctx, path, p.ProbeArgs()))
			answer(styles)
		})
	}
	return wg.Wait
}
