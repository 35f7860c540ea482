package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
)

// TestPlatform: a platform in both of its generations loses its own worker and
// has nanoos instead, with the same REDIS_URL and DATABASE_URL, and sees no
// difference but that nothing is lost when things are killed.
func TestPlatform(t *testing.T) {
	need(t, "pw.x", "lmp")
	t.Run("first", func(t *testing.T) {
		t.Parallel()
		p := newPlatform(t, "first")
		p.migrate()
		p.startWeb()
		p.startNode()
		p.live(firstWords)
	})
	t.Run("later, with nanoos there before its tables", func(t *testing.T) {
		t.Parallel()
		p := newPlatform(t, "later")
		p.startNode()
		p.migrate()
		p.startWeb()
		p.live(laterWords)
	})
	t.Run("later, with a server and a worker on its own PostgreSQL", func(t *testing.T) {
		t.Parallel()
		p := newPlatform(t, "later")
		p.migrate()
		p.startWeb()
		p.startCluster()
		p.live(laterWords)
	})
}

// words are how a generation says what its jobs are.
type words struct{ qe, lammps, mock fields }

var (
	firstWords = words{
		qe:     fields{"engine": "QE", "parameters": fields{"calculation": "scf", "conv_thr": 1e-8}},
		lammps: fields{"engine": "lammps", "parameters": fields{"ensemble": "nvt"}},
		mock:   fields{"engine": "Mock"},
	}
	laterWords = words{
		qe:     fields{"engine": "QUANTUM_ESPRESSO", "kind": "dft_static", "parameters": fields{"ediff": 1e-7}},
		lammps: fields{"engine": "LAMMPS", "kind": "md_nvt", "parameters": fields{}},
		mock:   fields{"engine": "MOCK", "kind": "dft_relax"},
	}
)

// with is a row with more fields.
func (f fields) with(more fields) fields {
	all := fields{}
	for _, from := range []fields{f, more} {
		for name, value := range from {
			all[name] = value
		}
	}
	return all
}

// patience is what a busy machine adds to a time.
const patience = 10 * time.Second

// live is a day of a platform in short.
func (p *platform) live(w words) {
	mock := func(parameters fields) fields {
		return w.mock.with(fields{"name": "mock", "priority": 10, "parameters": parameters, "resources": fields{"cores": 1, "memory": "64MB"}})
	}
	steps := p.submit(mock(fields{"steps": 5, "step_seconds": 2}), "")
	dummy := p.submit(w.mock.with(fields{"name": "dummy"}), "?dummy=true")
	failing := p.submit(mock(fields{"steps": 2, "step_seconds": 0.1, "fail_at_step": 2}).with(fields{"resources": fields{"max_retries": 0}}), "")
	impossible := p.submit(w.qe.with(fields{"name": "no structure"}), "")
	cancelled, givenUp := p.submit(mock(fields{"steps": 1, "step_seconds": 300}), ""), p.submit(mock(fields{"steps": 1, "step_seconds": 300}), "")
	silicon := p.submit(w.qe.with(fields{"name": "silicon", "priority": 20, "structure_id": p.silicon(), "workflow_template_id": p.template()}), "")
	aluminium := p.submit(w.lammps.with(p.aluminium(w)), "")

	var waiting []string // for a machine that there is not
	for _, how := range []string{"/cancel", "/give-up"} {
		id := p.submit(mock(fields{"steps": 1}).with(fields{"resources": fields{"cores": 100}}), "")
		p.has(id, job.Queued)
		p.post("/simulations/"+id+how, nil, nil)
		waiting = append(waiting, id)
	}
	p.await(cancelled, "RUNNING")
	p.await(givenUp, "RUNNING")
	p.post("/simulations/"+givenUp+"/give-up", nil, nil)
	p.post("/simulations/"+cancelled+"/cancel", nil, nil)
	began := time.Now()
	p.has(givenUp, job.Cancelled)
	if took := time.Since(began); took > 5*time.Second+patience {
		p.t.Errorf("a job whose row was cancelled stopped after %v", took)
	}
	for _, id := range []string{cancelled, givenUp} {
		p.isCancelled(id, "PENDING", "QUEUED", "RUNNING", "CANCELLED")
	}
	for _, id := range waiting {
		p.isCancelled(id, "PENDING", "QUEUED", "CANCELLED")
	}
	p.rose(steps, p.isComplete(steps))

	unbroken := p.submit(mock(fields{"steps": 8, "step_seconds": 1}), "")
	p.await(unbroken, "RUNNING")
	p.nanoos.kill()
	sent := p.submit(mock(fields{"steps": 1, "step_seconds": 0.1}), "")
	p.db.Kill(p.t)
	p.restartWithoutDatabase()
	p.isComplete(sent)
	p.databaseAway(p.submit(mock(fields{"steps": 3, "step_seconds": 0.5}), ""))

	p.isComplete(dummy)
	p.isComplete(unbroken)
	p.ran(unbroken, 1)
	s := p.isComplete(silicon)
	p.within("energy of silicon", s.Summary["energy"], -215.38692629544576, 1e-3)
	s = p.isComplete(aluminium)
	p.within("energy of 108 atoms of aluminium at 300 K", s.Summary["energy"], -3.54*108, 0.06*108)
	p.isFailed(failing, "told to fail")
	p.isFailed(impossible, "structure")
}

func (p *platform) silicon() string {
	p.t.Helper()
	return p.add("structures", fields{"name": "Si", "format": "CIF", "raw_text": siliconCIF})
}

func (p *platform) template() string {
	p.t.Helper()
	return p.add("templates", fields{"name": "static", "engine": "QE", "default_resources": fields{"cores": 1, "memory": "1GB"},
		"default_parameters": fields{"ecutwfc": 18, "k_points": []int{4, 4, 4}, "nbands": 8, "pseudopotentials": fields{"Si": "Si.pz-vbc.UPF"}}})
}

// aluminium is the row of a run of 108 atoms.
func (p *platform) aluminium(w words) fields {
	p.t.Helper()
	parameters := fields{"temperature": 300, "timestep": 0.002, "n_steps": 400, "supercell": []int{3, 3, 3}, "thermo": 50,
		"pair_style": "eam/alloy", "pair_coeff": "* * Al_zhou.eam.alloy Al"}
	atoms := []fields{}
	for _, at := range [][]float64{{0, 0, 0}, {0.5, 0.5, 0}, {0.5, 0, 0.5}, {0, 0.5, 0.5}} {
		atoms = append(atoms, fields{"species": "Al", "position": at})
	}
	structure := p.add("structures", fields{"name": "Al", "format": "INTERNAL", "raw_text": "", "num_atoms": 4, "formula": "Al4", "atoms": atoms,
		"lattice": fields{"a": 4.05, "b": 4.05, "c": 4.05, "alpha": 90, "beta": 90, "gamma": 90}})
	return fields{"name": "aluminium", "structure_id": structure, "resources": fields{"cores": 1, "memory": "1GB", "walltime": "00:10:00"},
		"parameters": w.lammps["parameters"].(fields).with(parameters)}
}

// restartWithoutDatabase starts nanoos while the platform's database is away,
// with a message for it in Redis. A server cannot start without the database
// that is its own.
func (p *platform) restartWithoutDatabase() {
	p.t.Helper()
	if p.worker != nil {
		p.db.Restart(p.t)
		p.restart()
		return
	}
	p.restart()
	eventually(p.t, serveTimeout, "the message is taken", func() bool { return p.redis.Do(p.t, 0, "LLEN", "default") == int64(0) })
	p.db.Restart(p.t)
}

// databaseAway takes the platform's database away while a job ends. Where nanoos
// has its own rows elsewhere the job ends meanwhile.
func (p *platform) databaseAway(id string) {
	p.t.Helper()
	p.has(id, job.Running)
	p.db.Kill(p.t)
	if p.worker == nil {
		p.has(id, job.Completed)
	}
	p.db.Restart(p.t)
	p.isComplete(id)
	p.ran(id, 1)
}

// has waits until nanoos has a job in a state.
func (p *platform) has(id string, state job.State) {
	p.t.Helper()
	eventually(p.t, jobTimeout, "job "+id+" is "+string(state), func() bool {
		j, err := p.client.Get(p.t.Context(), id)
		return err == nil && j.State == state
	})
}

// ran checks how many attempts a job took.
func (p *platform) ran(id string, attempts int) {
	p.t.Helper()
	if j, err := p.client.Get(p.t.Context(), id); err != nil || j.Attempt != attempts {
		p.t.Errorf("job %s took %d attempts, %v; want %d", id, j.Attempt, err, attempts)
	}
}

// isComplete checks the life of a job that went well, and that its task tells
// the same.
func (p *platform) isComplete(id string) simulation {
	p.t.Helper()
	s := p.await(id, "COMPLETED")
	if s.Progress != 1 || s.ErrorMessage != "" || s.StartedAt == "" || s.FinishedAt == "" || s.WorkerID == "" {
		p.t.Errorf("the row of %s: %+v", id, s)
	}
	if s.Summary["energy"] == nil || s.Converged == nil || len(s.Artifacts) == 0 {
		p.t.Errorf("the result of %s: %v, converged %v, artifacts %v", id, s.Summary, s.Converged, s.Artifacts)
	}
	p.lived(id, s, "PENDING", "QUEUED", "RUNNING", "COMPLETED")
	result := p.taskOf(id)
	var returned struct {
		JobID   string `json:"job_id"`
		Status  string
		Summary map[string]any
	}
	if err := json.Unmarshal(result.Result, &returned); err != nil || result.State != "SUCCESS" || returned.JobID != id || returned.Status != "success" {
		p.t.Errorf("the task of %s: %s %s, %v", id, result.State, result.Result, err)
	}
	if returned.Summary["energy_eV"] == nil {
		p.t.Errorf("the task of %s returns no energy: %v", id, returned.Summary)
	}
	delete(returned.Summary, "message") // words may differ
	for name, value := range returned.Summary {
		if diff := cmp.Diff(s.Summary[name], value); diff != "" {
			p.t.Errorf("%s of %s by its row (-) and its task (+):\n%s", name, id, diff)
		}
	}
	return s
}

// rose checks that the platform saw a job come further while it ran.
func (p *platform) rose(id string, s simulation) {
	p.t.Helper()
	seen := map[float64]bool{}
	for _, now := range s.History {
		if now.Status == "RUNNING" {
			seen[now.Progress] = true
		}
	}
	if len(seen) < 3 {
		p.t.Errorf("the platform saw too little of the progress of %s: %+v", id, s.History)
	}
}

// isFailed checks a job that failed for a reason.
func (p *platform) isFailed(id, reason string) {
	p.t.Helper()
	s := p.await(id, "FAILED")
	if !strings.Contains(s.ErrorMessage, reason) || s.Summary != nil || s.FinishedAt == "" {
		p.t.Errorf("the row of %s: %+v", id, s)
	}
	p.lived(id, s, "PENDING", "FAILED")
	if result := p.taskOf(id); result.State != "FAILURE" || !strings.Contains(string(result.Result), reason) {
		p.t.Errorf("the task of %s: %s %s", id, result.State, result.Result)
	}
}

// isCancelled checks a job that was cancelled, and that its task is over.
func (p *platform) isCancelled(id string, states ...string) {
	p.t.Helper()
	s := p.await(id, "CANCELLED")
	p.has(id, job.Cancelled)
	if s.Summary != nil {
		p.t.Errorf("a cancelled job has the result %v", s.Summary)
	}
	p.lived(id, s, states...)
	if result := p.taskOf(id); result.State != "REVOKED" {
		p.t.Errorf("the task of %s: %s %s", id, result.State, result.Result)
	}
}

// legal are the moves of the platform's rows.
var legal = map[string][]string{
	"PENDING": {"QUEUED", "CANCELLED", "FAILED"}, "QUEUED": {"RUNNING", "CANCELLED", "FAILED"}, "RUNNING": {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"},
}

// lived checks the history of a row: nanoos made legal moves only, these states
// were passed in this order, progress rose, and a result came before the end.
func (p *platform) lived(id string, s simulation, states ...string) {
	p.t.Helper()
	before, passed := moment{}, 0
	for _, now := range s.History {
		if passed < len(states) && now.Status == states[passed] {
			passed++
		}
		ours := now.By == "nanoos-bridge"
		switch {
		case ours && now.Status != before.Status && !slices.Contains(legal[before.Status], now.Status):
			p.t.Errorf("nanoos moved %s from %s to %s", id, before.Status, now.Status)
		case ours && now.Progress < before.Progress:
			p.t.Errorf("the progress of %s fell from %v to %v", id, before.Progress, now.Progress)
		case now.Status == "COMPLETED" && now.Results != 1:
			p.t.Errorf("%s was complete with %d results", id, now.Results)
		}
		before = now
	}
	if passed < len(states) {
		p.t.Errorf("%s did not pass through %v: %+v", id, states, s.History)
	}
}

// within checks a number of a summary.
func (p *platform) within(what string, got any, want, margin float64) {
	p.t.Helper()
	if x, ok := got.(float64); !ok || x < want-margin || x > want+margin {
		p.t.Errorf("%s is %v, want %v ± %v", what, got, want, margin)
	}
}
