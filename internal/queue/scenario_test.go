package queue_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scenarios")

// A scenario is a file of paragraphs: commands, a line "----", and what they
// print. "go test -update" writes what they print today. Time is virtual; jobs
// are called by their names, and times are counted from the beginning.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(text)) })
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := gocmp.Diff(string(text), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// play runs a scenario and returns it with what it prints now.
func play(t *testing.T, text string) string {
	s := newStage(t)
	var out strings.Builder
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, checked := strings.Cut(paragraph, "\n----")
		out.WriteString(commands + "\n")
		var printed strings.Builder
		for line := range strings.Lines(commands) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				printed.WriteString(s.do(line))
			}
		}
		switch {
		case printed.Len() > 0:
			out.WriteString("----\n" + printed.String())
		case checked:
			out.WriteString("----\n")
		}
	}
	return out.String()
}

// stage is a queue on the model store, with a leader, in a bubble of virtual time.
type stage struct {
	t      *testing.T
	st     *storetest.Model
	q      *queue.Service
	begin  time.Time
	ids    map[string]job.ID
	leases map[string]job.Lease // the latest of each job
}

func newStage(t *testing.T) *stage {
	s := newLeaderless(t, time.Now)
	s.lead(s.q)
	return s
}

// newLeaderless is a stage whose store has that clock, and on which nobody leads.
func newLeaderless(t *testing.T, now func() time.Time) *stage {
	s := &stage{t: t, st: storetest.NewModel(now), begin: time.Now(), ids: map[string]job.ID{}, leases: map[string]job.Lease{}}
	s.q = queue.New(s.st, queue.Options{Name: "s1", MaxQueued: 100, Rand: func() float64 { return 0.5 },
		Shares: map[job.Tenant]float64{"rich": 2}})
	return s
}

// lead runs the leader's duties until the test ends.
func (s *stage) lead(q *queue.Service) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := q.Maintain(ctx); err != nil {
			s.t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	s.t.Cleanup(stop)
	synctest.Wait()
	return stop
}

// do runs one command: a word, arguments, and options as key=value. In texts _
// stands for a blank.
func (s *stage) do(line string) string {
	fields := strings.Fields(line)
	verb, opt := fields[0], map[string]string{}
	var args []string
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			if k == "why" || k == "message" {
				v = strings.ReplaceAll(v, "_", " ")
			}
			opt[k] = v
		} else {
			args = append(args, f)
		}
	}
	args = append(args, "", "")
	actor := queue.Actor{By: opt["by"], Why: opt["why"]}
	ctx := s.t.Context()
	t := job.Tenant(cmp.Or(opt["tenant"], "default"))
	var err error
	var j job.Job
	switch verb {
	case "submit":
		return s.submit(t, args[0], opt)
	case "attach":
		return s.attach(args[0], opt)
	case "claim":
		return s.claim(args[0], opt)
	case "beat":
		return s.beat(args[0], opt)
	case "orders":
		orders, err := s.q.Orders(ctx, args[0], 0)
		return s.printOrders(orders, err)
	case "finish":
		return s.finish(args[0], opt)
	case "leave":
		err = s.q.Leave(ctx, args[0])
	case "advance":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(d)
		synctest.Wait()
		return ""
	case "drain":
		err = s.q.DrainWorker(ctx, args[0], actor)
	case "undrain":
		err = s.q.ResumeWorker(ctx, args[0], actor)
	case "forget":
		err = s.q.ForgetWorker(ctx, args[0], actor)
	case "restore":
		err = s.restore(opt["why"])
	case "thaw":
		err = s.q.Thaw(ctx, actor)
	case "pause":
		err = s.q.PauseQueue(ctx, args[0], actor)
	case "resume":
		err = s.q.ResumeQueue(ctx, args[0], actor)
	case "cancel":
		j, err = s.q.Cancel(ctx, t, s.id(args[0]), actor)
	case "hold":
		j, err = s.q.Hold(ctx, t, s.id(args[0]), actor)
	case "release":
		j, err = s.q.Release(ctx, t, s.id(args[0]), actor)
	case "retry":
		j, err = s.q.Retry(ctx, t, s.id(args[0]), actor)
	case "priority":
		j, err = s.q.SetPriority(ctx, t, s.id(args[0]), job.Priority(number(s.t, args[1])))
	case "queue":
		err = s.q.SetQueue(ctx, store.Queue{Name: args[0], LostAfter: span(s.t, opt["lost_after"]), Walltime: span(s.t, opt["walltime"])})
	case "job":
		return s.job(args[0])
	case "history":
		return s.history(args[0])
	case "attempts":
		return s.attempts(args[0])
	case "explain":
		return s.explain(t, args[0])
	default:
		s.t.Fatalf("unknown command %q", line)
	}
	if err != nil {
		return s.failed(err)
	}
	if j.ID != "" {
		return s.show(j)
	}
	return ""
}

// restore does to the store what a restore of a backup taken now does.
func (s *stage) restore(why string) error {
	return s.st.Write(s.t.Context(), func(tx store.Tx) error {
		jobs, _, err := tx.Jobs(s.t.Context(), store.JobQuery{States: []job.State{job.Pending, job.Queued, job.Running}, Limit: 500})
		for i := range jobs {
			jobs[i].Fence += 1 << 40
		}
		return errors.Join(err, tx.SaveJobs(s.t.Context(), jobs), tx.SetMeta(s.t.Context(), "frozen", why))
	})
}

func (s *stage) submit(t job.Tenant, name string, opt map[string]string) string {
	spec := job.Spec{Name: name, Engine: cmp.Or(opt["engine"], "mock"), Queue: cmp.Or(opt["queue"], "default"), Key: opt["key"],
		Priority: job.Priority(number(s.t, cmp.Or(opt["priority"], "5"))), Held: opt["held"] != "", Params: json.RawMessage(cmp.Or(opt["params"], "{}"))}
	spec.Demand.CPUs = number(s.t, cmp.Or(opt["cpus"], "1"))
	if opt["tag"] != "" {
		spec.Demand.Tags = []string{opt["tag"]}
	}
	if opt["in"] != "" {
		spec.RunAt = time.Now().Add(time.Duration(span(s.t, opt["in"])))
	}
	if opt["retries"] != "" {
		spec.Retry = job.DefaultRetry
		spec.Retry.Max = number(s.t, opt["retries"])
	}
	done, err := s.q.Submit(s.t.Context(), t, spec)
	if err != nil {
		return s.failed(err)
	}
	s.ids[name] = done[0].Job.ID
	if done[0].Existing {
		return fmt.Sprintf("existing %s", s.show(done[0].Job))
	}
	return s.show(done[0].Job)
}

func (s *stage) attach(worker string, opt map[string]string) string {
	var found []job.Found
	for _, f := range list(opt["found"]) {
		name, n, _ := strings.Cut(f, "#")
		found = append(found, job.Found{ID: s.id(name), Attempt: number(s.t, n), Started: true})
	}
	cpus := number(s.t, cmp.Or(opt["cpus"], "4"))
	at, err := s.q.Attach(s.t.Context(), job.Session{Worker: worker, Host: cmp.Or(opt["host"], "host-of-"+worker),
		Offer: job.Offer{CPUs: cpus, Memory: 64 << 30, Engines: []string{"mock"}, Queues: list(opt["queues"])}}, found)
	if err != nil {
		return s.failed(err)
	}
	out := s.lease("carry", at.Carry)
	for _, f := range at.Fenced {
		out += fmt.Sprintf("fenced %s#%d", s.name(f.ID), f.Attempt)
		if f.Recorded {
			out += ", recorded"
		}
		out += "\n"
	}
	return cmp.Or(out, "nothing\n")
}

func (s *stage) claim(worker string, opt map[string]string) string {
	free := job.Offer{CPUs: number(s.t, cmp.Or(opt["cpus"], "4")), Memory: 64 << 30, Engines: []string{"mock"}, Queues: list(opt["queues"])}
	begin := time.Now()
	leases, err := s.q.Claim(s.t.Context(), worker, free, number(s.t, cmp.Or(opt["max"], "16")), time.Duration(span(s.t, opt["wait"])))
	if err != nil {
		return s.failed(err)
	}
	out := s.lease("got", leases)
	if opt["wait"] != "" {
		out += fmt.Sprintf("after %s\n", time.Since(begin))
	}
	return cmp.Or(out, "nothing\n")
}

func (s *stage) lease(verb string, leases []job.Lease) string {
	var out strings.Builder
	for _, l := range leases {
		s.leases[s.name(l.Job.ID)] = l
		fmt.Fprintf(&out, "%s %s#%d fence %d\n", verb, s.name(l.Job.ID), l.Job.Attempt, l.Fence)
	}
	return out.String()
}

// beat reports the jobs in held, each with the fence of its latest lease or one
// given as name@fence.
func (s *stage) beat(worker string, opt map[string]string) string {
	var held []job.Held
	for _, h := range list(opt["held"]) {
		name, f, given := strings.Cut(h, "@")
		entry := job.Held{ID: s.id(name), Fence: s.leases[name].Fence}
		if given {
			entry.Fence = job.Fence(number(s.t, f))
		}
		if opt["progress"] != "" {
			p, err := strconv.ParseFloat(opt["progress"], 64)
			if err != nil {
				s.t.Fatal(err)
			}
			entry.Progress = &job.Progress{Fraction: p}
		}
		held = append(held, entry)
	}
	orders, err := s.q.Beat(s.t.Context(), worker, held)
	return s.printOrders(orders, err)
}

func (s *stage) printOrders(orders []job.Order, err error) string {
	if err != nil {
		return s.failed(err)
	}
	var out strings.Builder
	for _, o := range orders {
		fmt.Fprintf(&out, "%s %s fence %d", o.Do, s.name(o.ID), o.Fence)
		if o.Why != "" {
			fmt.Fprintf(&out, ": %s", o.Why)
		}
		out.WriteString("\n")
	}
	return cmp.Or(out.String(), "nothing\n")
}

func (s *stage) finish(name string, opt map[string]string) string {
	l := s.leases[name]
	if opt["fence"] != "" {
		l.Fence = job.Fence(number(s.t, opt["fence"]))
	}
	out := job.Outcome{Exit: &job.Exit{Observed: true}, Verdict: job.Converged, Result: json.RawMessage(`{}`)}
	if opt["failure"] != "" {
		out = job.Outcome{Exit: &job.Exit{Observed: true, Code: 1}, Failure: &job.Failure{Class: job.Class(cmp.Or(opt["class"], "program")),
			Code: opt["failure"], Message: cmp.Or(opt["message"], "the program ended badly")}}
	}
	if opt["released"] != "" {
		out = job.Outcome{Released: true}
	}
	if err := s.q.Finish(s.t.Context(), l, out); err != nil {
		return s.failed(err)
	}
	return "ok\n"
}

func (s *stage) job(name string) string {
	var j job.Job
	err := s.st.Read(s.t.Context(), func(tx store.ReadTx) (err error) {
		j, err = tx.Job(s.t.Context(), "", s.id(name))
		return err
	})
	if err != nil {
		return s.failed(err)
	}
	return s.show(j)
}

// show is a job in one line.
func (s *stage) show(j job.Job) string {
	out := fmt.Sprintf("%s %s", j.Spec.Name, j.State)
	if j.Reason != "" {
		out += fmt.Sprintf(" (%s)", j.Reason)
	}
	out += fmt.Sprintf(" attempt %d", j.Attempt)
	if j.Failures > 0 || j.Losses > 0 {
		out += fmt.Sprintf(" failures %d losses %d", j.Failures, j.Losses)
	}
	if j.State == job.Running {
		out += " on " + j.Worker
	}
	if j.Progress != nil {
		out += fmt.Sprintf(" at %g", j.Progress.Fraction)
	}
	if !j.RunAt.IsZero() {
		out += " until " + s.at(j.RunAt)
	}
	if j.Message != "" {
		out += ": " + j.Message
	}
	return s.plain(out) + "\n"
}

func (s *stage) history(name string) string {
	var out strings.Builder
	err := s.st.Read(s.t.Context(), func(tx store.ReadTx) error {
		events, err := tx.EventsAfter(s.t.Context(), "", s.id(name), 0, 1000)
		for _, e := range events {
			fmt.Fprintf(&out, "%s %s\n", s.at(e.At), e.Kind)
		}
		return err
	})
	if err != nil {
		return s.failed(err)
	}
	return out.String()
}

func (s *stage) attempts(name string) string {
	var out strings.Builder
	err := s.st.Read(s.t.Context(), func(tx store.ReadTx) error {
		as, err := tx.Attempts(s.t.Context(), "", s.id(name))
		for _, a := range as {
			fmt.Fprintf(&out, "#%d on %s %s", a.Number, a.Worker, s.at(a.StartedAt))
			if a.Outcome != "" {
				fmt.Fprintf(&out, " … %s %s", s.at(a.EndedAt), a.Outcome)
			}
			out.WriteString("\n")
		}
		return err
	})
	if err != nil {
		return s.failed(err)
	}
	return cmp.Or(out.String(), "none\n")
}

func (s *stage) explain(t job.Tenant, name string) string {
	reasons, err := s.q.Explain(s.t.Context(), t, s.id(name))
	if err != nil {
		return s.failed(err)
	}
	var out strings.Builder
	for _, r := range reasons {
		fmt.Fprintf(&out, "%s: %s\n", r.Code, r.Message)
		if r.Fix != "" {
			fmt.Fprintf(&out, "  fix: %s\n", r.Fix)
		}
	}
	return s.plain(cmp.Or(out.String(), "it waits for nothing\n"))
}

func (s *stage) failed(err error) string {
	out := fmt.Sprintf("error %s: %v\n", job.CodeOf(err), err)
	if e, ok := errors.AsType[*job.Error](err); ok {
		fixes := []string{e.Fix}
		for _, p := range e.Problems {
			fixes = append(fixes, p.Fix)
		}
		for _, fix := range fixes {
			if fix != "" {
				out += "  fix: " + fix + "\n"
			}
		}
	}
	return s.plain(out)
}

// plain writes names for ids and counted times for the clock.
func (s *stage) plain(text string) string {
	for name, id := range s.ids {
		text = strings.ReplaceAll(text, string(id), "<"+name+">")
	}
	const layout = "2006-01-02 15:04:05 UTC"
	for i := 0; i+len(layout) <= len(text); i++ {
		if at, err := time.Parse(layout, text[i:i+len(layout)]); err == nil {
			text = text[:i] + s.at(at) + text[i+len(layout):]
		}
	}
	return text
}

func (s *stage) at(t time.Time) string { return "+" + t.Sub(s.begin).Round(time.Millisecond).String() }

func (s *stage) id(name string) job.ID { return cmp.Or(s.ids[name], job.ID(name)) }

func (s *stage) name(id job.ID) string {
	for name, known := range s.ids {
		if known == id {
			return name
		}
	}
	return string(id)
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func span(t *testing.T, s string) job.Duration {
	if s == "" {
		return 0
	}
	d, err := job.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// list reads "a,b,c".
func list(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(f string) bool { return f == "" })
}
