package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// TestInvariantsHoldWhateverHappens plays random histories of people, workers,
// lost replies, crashes and clocks, and checks the invariants after each step.
func TestInvariantsHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"submit":     w.submit,
			"attach":     w.attach,
			"claim":      w.claim,
			"lose claim": w.loseClaim,
			"beat":       w.beat,
			"end":        w.end,
			"finish":     w.finish,
			"late":       w.finishLate,
			"crash":      w.crash,
			"leave":      w.leave,
			"person":     w.person,
			"advance":    w.advance,
			"sweep":      w.sweep,
			"":           w.check,
		})
		w.settle(t)
	})
}

// world is a queue with two machines, and what a bystander knows of them.
type world struct {
	now    time.Time
	st     *storetest.Model
	q      *Service
	lead   leader
	hosts  [2]*machine
	spec   map[job.ID]job.Spec
	seen   map[job.ID]job.Job // at the last check
	gone   map[job.ID]bool    // cancel was acknowledged
	grants map[grant]string   // who was given a fence
	starts map[run]int        // I3: the start journal
	past   []job.Lease        // every lease that was ever given
	keys   map[string]job.ID  // I1
}

type grant struct {
	id    job.ID
	fence job.Fence
}

type run struct {
	id      job.ID
	attempt int
}

// machine is a host with a disk that survives, and a worker process that does not.
type machine struct {
	host   string
	starts int // of processes; every other one has another name
	up     bool
	mem    map[job.ID]job.Lease
	disk   map[run]*job.Outcome // programs here, and how they ended
}

func (m *machine) name() string { return fmt.Sprintf("%s-w%d", m.host, m.starts%2) }

func newWorld(t *rapid.T) *world {
	w := &world{now: noon, spec: map[job.ID]job.Spec{}, seen: map[job.ID]job.Job{}, gone: map[job.ID]bool{},
		grants: map[grant]string{}, starts: map[run]int{}, keys: map[string]job.ID{}}
	w.st = storetest.NewModel(func() time.Time { return w.now })
	w.q = New(w.st, Options{Name: "s", Rand: func() float64 { return 0.5 }})
	for i := range w.hosts {
		w.hosts[i] = &machine{host: fmt.Sprintf("h%d", i), mem: map[job.ID]job.Lease{}, disk: map[run]*job.Outcome{}}
	}
	return w
}

func (w *world) ctx() context.Context { return context.Background() }

func (w *world) submit(t *rapid.T) {
	if len(w.spec) >= 6 {
		t.Skip("enough jobs")
	}
	spec := job.Spec{Engine: "mock", Queue: "default", Priority: job.Priority(rapid.IntRange(0, 2).Draw(t, "priority")),
		Held: rapid.IntRange(0, 5).Draw(t, "held") == 0, Key: rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key"),
		Demand: job.Demand{CPUs: 1}, Retry: job.Retry{Max: rapid.IntRange(0, 2).Draw(t, "max"), MaxLosses: rapid.IntRange(0, 4).Draw(t, "losses"), Delay: job.Duration(time.Minute)}}
	got, err := w.q.Submit(w.ctx(), "t", spec)
	if job.CodeOf(err) == job.Conflict && w.keys[spec.Key] != "" {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if old, used := w.keys[spec.Key]; spec.Key != "" && used != got[0].Existing || got[0].Existing && old != got[0].Job.ID {
		t.Fatalf("I1: key %q made job %s after %s", spec.Key, got[0].Job.ID, old)
	}
	w.keys[spec.Key] = got[0].Job.ID
	w.spec[got[0].Job.ID] = got[0].Job.Spec
}

func (w *world) machine(t *rapid.T, up bool) *machine {
	m := w.hosts[rapid.IntRange(0, 1).Draw(t, "host")]
	if m.up != up {
		t.Skip("the worker is not in the state for this")
	}
	return m
}

func (w *world) attach(t *rapid.T) {
	m := w.machine(t, false)
	w.enter(t, m)
}

func (w *world) enter(t *rapid.T, m *machine) {
	if len(m.mem) == 0 && !m.up {
		m.starts++
	}
	var found []job.Found
	for r, end := range m.disk {
		found = append(found, job.Found{ID: r.id, Attempt: r.attempt, Started: true, Ended: end != nil})
	}
	at, err := w.q.Attach(w.ctx(), job.Session{Worker: m.name(), Host: m.host, Offer: job.Offer{CPUs: 2, Memory: 64 << 30, Engines: []string{"mock"}}}, found)
	if err != nil {
		t.Fatal(err)
	}
	m.up = true
	for _, f := range at.Fenced {
		delete(m.disk, run{f.ID, f.Attempt})
	}
	for _, l := range at.Carry {
		w.take(t, m, l)
	}
}

// take is what a worker does with a lease: start the program unless it is here.
func (w *world) take(t *rapid.T, m *machine, l job.Lease) {
	g := grant{l.Job.ID, l.Fence}
	if owner, given := w.grants[g]; given {
		t.Fatalf("I7: fence %d of job %s was given to %s and to %s", l.Fence, l.Job.ID, owner, m.name())
	}
	w.grants[g] = m.name()
	w.past = append(w.past, l)
	m.mem[l.Job.ID] = l
	r := run{l.Job.ID, l.Job.Attempt}
	if _, here := m.disk[r]; !here {
		m.disk[r] = nil
		w.starts[r]++
		if w.starts[r] > 1 {
			t.Fatalf("I3: attempt %d of job %s was started twice", r.attempt, r.id)
		}
	}
}

func (w *world) offer(m *machine) job.Offer {
	return job.Offer{CPUs: 2 - len(m.mem), Memory: 64 << 30, Engines: []string{"mock"}}
}

func (w *world) claim(t *rapid.T) {
	m := w.machine(t, true)
	leases, err := w.q.Claim(w.ctx(), m.name(), w.offer(m), 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if free := max(0, 2-len(m.mem)); len(leases) > free {
		t.Fatalf("%d leases for %d CPUs", len(leases), free)
	}
	for _, l := range leases {
		if rapid.IntRange(0, 5).Draw(t, "refuse") == 0 {
			// Nothing could be begun, so the lease is given back.
			w.grants[grant{l.Job.ID, l.Fence}] = m.name()
			if err := w.q.Finish(w.ctx(), l, job.Outcome{Released: true}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		w.take(t, m, l)
	}
}

// loseClaim is a claim whose answer never arrives.
func (w *world) loseClaim(t *rapid.T) {
	m := w.machine(t, true)
	leases, err := w.q.Claim(w.ctx(), m.name(), w.offer(m), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		w.grants[grant{l.Job.ID, l.Fence}] = m.name()
		w.past = append(w.past, l)
	}
}

func (w *world) beat(t *rapid.T) {
	m := w.machine(t, true)
	w.beatOf(t, m)
}

func (w *world) beatOf(t *rapid.T, m *machine) {
	var held []job.Held
	for id, l := range m.mem {
		held = append(held, job.Held{ID: id, Fence: l.Fence, Progress: &job.Progress{Fraction: 0.5}})
	}
	orders, err := w.q.Beat(w.ctx(), m.name(), held)
	if err != nil {
		t.Fatal(err)
	}
	if len(orders) != len(held) {
		t.Fatalf("%d orders for %d jobs held", len(orders), len(held))
	}
	for _, o := range orders {
		l := m.mem[o.ID]
		r := run{o.ID, l.Job.Attempt}
		switch o.Do {
		case job.Drop:
			delete(m.mem, o.ID)
			delete(m.disk, r)
		case job.Stop:
			if m.disk[r] == nil {
				m.disk[r] = &job.Outcome{Failure: &job.Failure{Class: job.ClassProgram, Code: "signal"}, Exit: &job.Exit{Observed: true, Signal: "SIGTERM"}}
			}
		}
	}
}

// end lets a program end, whether or not anybody watches.
func (w *world) end(t *rapid.T) {
	m := w.hosts[rapid.IntRange(0, 1).Draw(t, "host")]
	for _, r := range slices.SortedFunc(maps.Keys(m.disk), compareRuns) {
		if m.disk[r] == nil {
			m.disk[r] = rapid.SampledFrom([]*job.Outcome{
				{Exit: &job.Exit{Observed: true}, Result: json.RawMessage(`{}`)},
				{Exit: &job.Exit{Observed: true, Code: 1}, Failure: &job.Failure{Class: job.ClassProgram, Code: "exit_code"}},
				{Exit: &job.Exit{}, Failure: &job.Failure{Class: job.ClassInfrastructure, Code: "supervisor_lost"}},
				{Exit: &job.Exit{Observed: true}, Failure: &job.Failure{Class: job.ClassProgram, Code: "result_invalid", Digest: "d"}},
			}).Draw(t, "outcome")
			return
		}
	}
	t.Skip("nothing runs")
}

func compareRuns(a, b run) int {
	if a.id != b.id {
		return compareIDs(a.id, b.id)
	}
	return a.attempt - b.attempt
}

func compareIDs(a, b job.ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *world) finish(t *rapid.T) {
	m := w.machine(t, true)
	if !w.finishOne(t, m, rapid.Bool().Draw(t, "reply lost")) {
		t.Skip("nothing has ended")
	}
}

// finishOne reports one end that is on the disk, twice if the first answer is lost.
func (w *world) finishOne(t *rapid.T, m *machine, twice bool) bool {
	for _, id := range slices.SortedFunc(maps.Keys(m.mem), compareIDs) {
		l := m.mem[id]
		r := run{id, l.Job.Attempt}
		out := m.disk[r]
		if out == nil {
			continue
		}
		before := w.job(t, id)
		err := w.q.Finish(w.ctx(), l, *out)
		current := before.Fence == l.Fence
		if err == nil && !current {
			t.Fatalf("I7: job %s took a finish under fence %d, its fence is %d", id, l.Fence, before.Fence)
		}
		if err != nil && job.CodeOf(err) != job.Fenced {
			t.Fatal(err)
		}
		if err == nil && twice {
			first := w.job(t, id)
			if err := w.q.Finish(w.ctx(), l, *out); err != nil {
				t.Fatalf("R9: the repeated finish of job %s: %v", id, err)
			}
			if diff := cmp.Diff(first, w.job(t, id)); diff != "" {
				t.Fatalf("R9: the repeated finish changed job %s:\n%s", id, diff)
			}
		}
		delete(m.mem, id)
		delete(m.disk, r)
		return true
	}
	return false
}

// finishLate reports an end under a lease of the past.
func (w *world) finishLate(t *rapid.T) {
	if len(w.past) == 0 {
		t.Skip("no past")
	}
	l := rapid.SampledFrom(w.past).Draw(t, "lease")
	before := w.job(t, l.Job.ID)
	if before.Fence == l.Fence {
		t.Skip("the lease is current")
	}
	if err := w.q.Finish(w.ctx(), l, job.Outcome{Exit: &job.Exit{Observed: true}}); job.CodeOf(err) != job.Fenced {
		t.Fatalf("I7: job %s took a finish under fence %d, its fence is %d: %v", l.Job.ID, l.Fence, before.Fence, err)
	}
	if diff := cmp.Diff(before, w.job(t, l.Job.ID)); diff != "" {
		t.Fatalf("G3: a fenced finish changed job %s:\n%s", l.Job.ID, diff)
	}
}

func (w *world) crash(t *rapid.T) {
	m := w.machine(t, true)
	m.up, m.mem = false, map[job.ID]job.Lease{}
}

func (w *world) leave(t *rapid.T) {
	m := w.machine(t, true)
	if err := w.q.Leave(w.ctx(), m.name()); err != nil {
		t.Fatal(err)
	}
	m.up, m.mem = false, map[job.ID]job.Lease{}
}

func (w *world) person(t *rapid.T) {
	if len(w.spec) == 0 {
		t.Skip("no job")
	}
	id := rapid.SampledFrom(slices.SortedFunc(maps.Keys(w.spec), compareIDs)).Draw(t, "job")
	verb := rapid.SampledFrom([]string{"cancel", "hold", "release", "retry", "priority"}).Draw(t, "verb")
	before := w.job(t, id)
	var err error
	switch verb {
	case "cancel":
		if _, err = w.q.Cancel(w.ctx(), "t", id, Actor{By: "ada"}); err == nil {
			w.gone[id] = true
		}
	case "hold":
		_, err = w.q.Hold(w.ctx(), "t", id, Actor{})
	case "release":
		_, err = w.q.Release(w.ctx(), "t", id, Actor{})
	case "retry":
		if _, err = w.q.Retry(w.ctx(), "t", id, Actor{}); err == nil {
			delete(w.gone, id)
		}
	case "priority":
		_, err = w.q.SetPriority(w.ctx(), "t", id, job.Priority(rapid.IntRange(0, 2).Draw(t, "priority")))
	}
	if err == nil {
		return
	}
	if job.CodeOf(err) != job.Conflict {
		t.Fatalf("%s: %v", verb, err)
	}
	if diff := cmp.Diff(before, w.job(t, id)); diff != "" {
		t.Fatalf("a refused %s changed job %s:\n%s", verb, id, diff)
	}
}

func (w *world) advance(t *rapid.T) {
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute}).Draw(t, "by"))
}

func (w *world) sweep(t *rapid.T) {
	if _, err := w.q.maintain(w.ctx(), &w.lead); err != nil {
		t.Fatal(err)
	}
}

func (w *world) job(t *rapid.T, id job.ID) (j job.Job) {
	if err := w.st.Read(w.ctx(), func(tx store.ReadTx) (err error) {
		j, err = tx.Job(w.ctx(), "", id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return j
}

// check reads everything and compares it with the rules.
func (w *world) check(t *rapid.T) {
	if err := w.st.Read(w.ctx(), func(tx store.ReadTx) error {
		jobs, _, err := tx.Jobs(w.ctx(), store.JobQuery{Limit: 500})
		if err != nil {
			return err
		}
		if len(jobs) != len(w.spec) {
			t.Fatalf("I1: %d jobs were accepted and %d are stored", len(w.spec), len(jobs))
		}
		for _, j := range jobs {
			as, err := tx.Attempts(w.ctx(), "", j.ID)
			if err != nil {
				return err
			}
			events, err := tx.EventsAfter(w.ctx(), "", j.ID, 0, 10_000)
			if err != nil {
				return err
			}
			w.checkJob(t, j)
			checkAttempts(t, j, as)
			checkEvents(t, j, events)
			w.seen[j.ID] = j
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) checkJob(t *rapid.T, j job.Job) {
	old := w.seen[j.ID]
	switch {
	case j.Fence < old.Fence:
		t.Fatalf("job %s: its fence fell from %d to %d", j.ID, old.Fence, j.Fence)
	case j.Failures > j.Spec.Retry.Max || j.Losses > j.Spec.Retry.MaxLosses:
		t.Fatalf("I12: job %s used %d of %d and %d of %d", j.ID, j.Failures, j.Spec.Retry.Max, j.Losses, j.Spec.Retry.MaxLosses)
	case w.gone[j.ID] && (j.State == job.Completed || j.State == job.Failed || j.State == job.Queued || j.State == job.Pending):
		t.Fatalf("I11: job %s is %s although a cancel was acknowledged", j.ID, j.State)
	case j.State.Terminal() != !j.EndedAt.IsZero():
		t.Fatalf("job %s is %s and ended at %v", j.ID, j.State, j.EndedAt)
	case (j.State == job.Pending) != (j.Reason != ""):
		t.Fatalf("job %s is %s with reason %q", j.ID, j.State, j.Reason)
	case j.State != job.Pending && !j.RunAt.IsZero():
		t.Fatalf("job %s is %s and due at %v", j.ID, j.State, j.RunAt)
	case old.State == job.Completed && j.Rev != old.Rev:
		t.Fatalf("I4: job %s changed after it was completed", j.ID)
	}
}

func checkAttempts(t *rapid.T, j job.Job, as []job.Attempt) {
	if len(as) != j.Attempt && (len(as) != j.Attempt+1 || as[len(as)-1].Outcome != outcomeReleased) {
		t.Fatalf("I2: job %s has attempt %d and %d attempts", j.ID, j.Attempt, len(as))
	}
	for i, a := range as {
		open := j.State == job.Running && i == len(as)-1
		if a.Number != i+1 || open != (a.Outcome == "") || open != a.EndedAt.IsZero() {
			t.Fatalf("I2: job %s, %s, attempt %d of %d: %+v", j.ID, j.State, i+1, len(as), a)
		}
		if open && a.Worker != j.Worker {
			t.Fatalf("I6: job %s runs on %s, its attempt on %s", j.ID, j.Worker, a.Worker)
		}
	}
	if j.State == job.Completed && as[len(as)-1].Outcome != outcomeSucceeded {
		t.Fatalf("I10: job %s is COMPLETED by an attempt that %s", j.ID, as[len(as)-1].Outcome)
	}
}

// checkEvents replays the history: it moves as the states may, ends once, and
// ends where the job is.
func checkEvents(t *rapid.T, j job.Job, events []job.Event) {
	var last detail
	for i, e := range events {
		var d detail
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		// An attempt that returns passes QUEUED on its way to RUNNING.
		returned := last.State == job.Pending && d.State == job.Running && e.Kind == job.EventAdopted
		if i > 0 && !returned && !job.CanMove(last.State, d.State) {
			t.Fatalf("I4, I13: job %s went from %s to %s by %s", j.ID, last.State, d.State, e.Kind)
		}
		last = d
	}
	if last.State != j.State || last.Reason != j.Reason || last.Fence != j.Fence {
		t.Fatalf("I13: job %s is %s %s under fence %d; its history ends %s %s under fence %d",
			j.ID, j.State, j.Reason, j.Fence, last.State, last.Reason, last.Fence)
	}
}

// settle stops the faults: every job then ends within a bounded time (I17).
func (w *world) settle(t *rapid.T) {
	for range 400 {
		waiting := 0
		for id := range w.spec {
			j := w.job(t, id)
			if !j.State.Terminal() {
				waiting++
			}
			if j.Reason.Held() {
				if _, err := w.q.Release(w.ctx(), "t", id, Actor{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if waiting == 0 {
			return
		}
		for _, m := range w.hosts {
			if !m.up {
				w.enter(t, m)
			}
			w.beatOf(t, m)
			leases, err := w.q.Claim(w.ctx(), m.name(), w.offer(m), 2, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range leases {
				w.take(t, m, l)
			}
			for r, end := range m.disk {
				if end == nil {
					m.disk[r] = &job.Outcome{Exit: &job.Exit{Observed: true}}
				}
			}
			for w.finishOne(t, m, false) {
			}
		}
		w.sweep(t)
		w.now = w.now.Add(10 * time.Second)
		w.check(t)
	}
	for id := range w.spec {
		if j := w.job(t, id); !j.State.Terminal() {
			t.Errorf("I17: job %s is still %s %s: %s", id, j.State, j.Reason, j.Message)
		}
	}
}
