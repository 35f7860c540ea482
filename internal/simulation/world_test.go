package simulation

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
	"github.com/nano-os/nanoos/internal/worker"
)

// world is one run of the simulation.
type world struct {
	chance  *chance
	mutant  mutant
	faults  *faults
	history *history
	model   store.Store
	files   files
	machine *worker.Machine
	servers []*server
	hosts   []*host
	began   time.Time
	trace   func(string) // nil for silence

	ctx    context.Context // ends with the run
	stormy context.Context // ends with the faults
	wg     sync.WaitGroup

	found []violation // by the watch over the calm
}

// files are the only real ones: what a work directory may look like.
type files struct{ state, marked, bare string }

var makeFiles = sync.OnceValues(func() (files, error) {
	dir, err := os.MkdirTemp("", "simulation")
	if err != nil {
		return files{}, err
	}
	f := files{state: dir, marked: filepath.Join(dir, "marked"), bare: filepath.Join(dir, "bare")}
	for _, d := range []string{f.marked, f.bare} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return files{}, err
		}
	}
	return f, os.WriteFile(filepath.Join(f.marked, markerFile), nil, 0o600)
})

// outcome is what a run showed.
type outcome struct {
	violations []violation
	story      []string // every change of a row, with its time
	jobs       int
	starts     int
	commits    int
	virtual    time.Duration
}

// simulate runs one seed.
func simulate(t *testing.T, seed uint64, m mutant, trace func(string)) outcome {
	t.Helper()
	f, err := makeFiles()
	if err != nil {
		t.Fatal(err)
	}
	var out outcome
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed, m, f, trace)
		w.run()
		out = w.outcome()
	})
	return out
}

func newWorld(seed uint64, m mutant, f files, trace func(string)) *world {
	ch := newChance(seed, "world")
	w := &world{
		chance: ch, mutant: m, faults: newFaults(ch.of("faults")), history: newHistory(), model: storetest.NewModel(time.Now), files: f,
		machine: &worker.Machine{HostName: "simulated", StateDir: f.state, Programs: map[string]string{"simulated": filepath.Join(f.state, "no-such-program")}},
		began:   time.Now(), trace: trace,
	}
	w.servers = []*server{{world: w, name: "s1"}, {world: w, name: "s2", skew: 10 * time.Minute}}
	for _, name := range []string{"a", "b", "c"} {
		w.hosts = append(w.hosts, &host{world: w, name: name, disk: map[place]*directory{}})
	}
	return w
}

// run is the storm and the calm after it.
func (w *world) run() {
	var end, calm context.CancelFunc
	w.ctx, end = context.WithCancel(context.Background())
	w.stormy, calm = context.WithTimeout(w.ctx, w.chance.within(2*time.Minute, 5*time.Minute))
	defer w.wg.Wait()
	defer end()
	defer calm()
	for _, s := range w.servers {
		s.start()
	}
	for _, h := range w.hosts {
		h.startWorker()
	}
	var clients sync.WaitGroup
	for n := range 2 {
		c := newClient(w, n)
		clients.Go(func() { c.live(w.stormy) })
	}
	clients.Go(w.trouble)
	<-w.stormy.Done()
	w.calm()
	clients.Wait()
	w.watch()
}

// deliver runs what the network owes; it ends with the world.
func (w *world) deliver(do func()) { w.wg.Go(do) }

func (w *world) nameOf(id job.ID) string { return w.history.row(id).Name }

// outcome judges the run.
func (w *world) outcome() outcome {
	h := w.history
	out := outcome{violations: append(w.found, check(h)...), jobs: len(h.order), starts: len(h.journal), commits: len(h.commits), virtual: time.Since(w.began)}
	events := 0
	for _, c := range h.commits {
		events += len(c.events)
		for _, ch := range c.changes {
			out.story = append(out.story, fmt.Sprintf("%s %s %s %+v", c.at.Format(time.RFC3339Nano), c.op.kind, c.op.worker, ch.after))
		}
	}
	slices.Sort(out.story)
	_ = w.model.Read(context.Background(), func(tx store.ReadTx) error {
		last, err := tx.LastEvent(context.Background())
		if err != nil || last != int64(events) {
			out.violations = append(out.violations, violation{"I13", fmt.Sprintf("%d events were committed, and the last has number %d", events, last)})
		}
		return err
	})
	return out
}

// ask calls a server directly, as a person at its console does.
func (w *world) ask(s *server, kind string, do func(context.Context, *queue.Service) error) error {
	l := s.current()
	return do(withOp(w.ctx, &op{kind: kind, chance: w.chance.of("console/" + kind + time.Since(w.began).String())}), l.queue)
}
