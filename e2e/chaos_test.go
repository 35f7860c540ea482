package e2e

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/faultproxy"
	"github.com/nano-os/nanoos/internal/job"
)

// TestChaos kills workers, servers and connections to the database at random
// under a mixed load, then lets everything come to rest and decides the
// invariants. CHAOS_KILLS and CHAOS_SEED make the long form of "make chaos".
func TestChaos(t *testing.T) {
	t.Parallel()
	kills := fromEnvironment(t, "CHAOS_KILLS", 40)
	seed := fromEnvironment(t, "CHAOS_SEED", int(time.Now().Unix()))
	t.Logf("CHAOS_SEED=%d CHAOS_KILLS=%d", seed, kills)
	c := newCluster(t, layout{servers: 2, private: true})
	for i := range 3 {
		c.addWorker("--tag", fmt.Sprint("whale", i))
	}
	c.awaitWorkers(3)
	ch := &chaos{cluster: c, rng: rand.New(rand.NewPCG(uint64(seed), 0)), faults: map[string]int{}}
	// A server that finds no database when it starts ends, and is started again.
	for _, s := range c.servers {
		s.supervised = true
	}
	ch.warm()
	before := ch.resources()
	watcher := follow(c.servers[0].client)
	ch.launchWhales(kills)

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ch.submitUntil(stop, rand.New(rand.NewPCG(uint64(seed), 1)))
	}()
	for last := 0; ch.kills < kills; {
		ch.harm()
		if ch.kills/100 > last {
			last = ch.kills / 100
			t.Logf("%d kills so far", ch.kills)
		}
	}
	close(stop)
	<-stopped
	ch.heal()
	began := time.Now()
	c.settled(10 * time.Minute)
	t.Logf("all jobs had ended %v after the last fault", time.Since(began).Round(100*time.Millisecond))
	pickups := ch.pickups()
	c.unbroken = ch.whales
	h := c.check(500, func(h *history) {
		h.Pickups, h.Resources = pickups, ch.compared(before)
		if len(h.Events) > 0 {
			h.Followed = watcher.stop(h.Events[len(h.Events)-1].Seq)
		}
	})
	ch.report(h)
}

// TestChaosAnyOneOfFive: two servers and three workers finish their jobs while
// any one of the five is killed and started again. CHAOS_JOBS makes the long form.
func TestChaosAnyOneOfFive(t *testing.T) {
	t.Parallel()
	jobs := fromEnvironment(t, "CHAOS_JOBS", 300)
	rng := seeded(t)
	c := newCluster(t, layout{servers: 2, workers: 3, private: true, lostAfter: time.Minute})
	for sent := 0; sent < jobs; {
		n := min(1000, jobs-sent)
		c.submitMany(n, `{"steps": 1, "step_seconds": 0.01}`)
		sent += n
	}
	began, kills := time.Now(), 0
	for c.left() > 0 {
		wait(t.Context(), time.Duration(300+rng.IntN(1500))*time.Millisecond)
		if i := rng.IntN(5); i < 2 {
			c.servers[i].kill()
			c.servers[i].start()
			c.awaitServer(c.servers[i])
		} else {
			c.workers[i-2].kill()
			c.workers[i-2].start()
		}
		kills++
		if time.Since(began) > time.Duration(jobs)*500*time.Millisecond+time.Minute {
			t.Fatalf("%d jobs are left after %v", c.left(), time.Since(began))
		}
	}
	t.Logf("%d jobs and %d kills in %v", jobs, kills, time.Since(began).Round(time.Second))
	c.check(100)
}

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// submitMany stores up to 10 000 jobs in one call, again and again until it is
// answered.
func (c *cluster) submitMany(n int, params string) {
	c.t.Helper()
	r := api.BulkRequest{Atomic: true}
	for range n {
		r.Jobs = append(r.Jobs, api.JobRequest{Engine: "mock", Parameters: json.RawMessage(params), Key: crand.Text(),
			Resources: api.ResourcesInput{CPUs: 1, Memory: 64 << 20}, Retry: soon()})
	}
	result := ask(c, func(s *api.Client, ctx context.Context) (api.BulkResult, error) { return s.SubmitBulk(ctx, r) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, item := range result.Items {
		if item.Job == nil {
			c.t.Fatalf("job %d was refused: %+v", i, item.Problem)
		}
		c.submissions = append(c.submissions, submission{Key: r.Jobs[i].Key, ID: item.Job.ID, Answer: accepted, Want: job.Completed})
	}
}

// left counts the jobs that have not ended.
func (c *cluster) left() int64 {
	c.t.Helper()
	var n int64
	for _, q := range ask(c, (*api.Client).Queues) {
		for s, jobs := range q.Jobs {
			if !s.Terminal() {
				n += jobs
			}
		}
	}
	return n
}

// chaos harms a cluster.
type chaos struct {
	*cluster
	rng    *rand.Rand
	kills  int
	faults map[string]int
	whales []job.ID
}

// whaleQueue keeps its jobs when their worker is silent for long: frozen and cut
// off workers must not cost a whale its attempt.
const whaleQueue = "whales"

// warm runs some jobs, so that connections and caches are there when the base
// line is taken.
func (ch *chaos) warm() {
	ch.t.Helper()
	ask(ch.cluster, func(s *api.Client, ctx context.Context) (api.QueueInfo, error) {
		return s.MakeQueue(ctx, api.QueueRequest{Name: whaleQueue, LostAfter: job.Duration(time.Hour)})
	})
	ch.submitMany(30, quick)
	ch.settled(time.Minute)
}

// launchWhales puts one long job on each worker, for about as long as the faults
// will take: 0.7 s each were measured.
func (ch *chaos) launchWhales(kills int) {
	ch.t.Helper()
	for i := range ch.workers {
		id := ch.submit(fmt.Sprintf(`{"steps": %d, "step_seconds": 0.5}`, max(60, kills*3/2)), job.Completed, func(r *api.JobRequest) {
			r.Queue, r.Resources.Tags = whaleQueue, []string{fmt.Sprint("whale", i)}
			r.Resources.Walltime = job.Duration(24 * time.Hour)
		})
		ch.running(id)
		ch.whales = append(ch.whales, id)
	}
}

// harm does one fault and counts it.
func (ch *chaos) harm() {
	wait(context.Background(), time.Duration(50+ch.rng.IntN(400))*time.Millisecond)
	w, s := ch.workers[ch.rng.IntN(len(ch.workers))], ch.servers[ch.rng.IntN(len(ch.servers))]
	moment := time.Duration(ch.rng.IntN(1500)) * time.Millisecond
	if ch.rng.IntN(20) == 0 {
		moment = 3 * lostAfter / 2
	}
	switch n := ch.rng.IntN(100); {
	case n < 35:
		ch.count("worker killed", true)
		w.kill()
		wait(context.Background(), moment/3)
		w.start()
	case n < 55:
		ch.count("server killed", true)
		s.kill()
		wait(context.Background(), moment/3)
		s.start()
	case n < 70:
		ch.count("connections to the database cut", true)
		s.link.Cut()
	case n < 80:
		ch.count("connection to the database cut in an answer", true)
		s.link.CutAfter(faultproxy.Down, ch.rng.IntN(2000))
	case n < 83:
		ch.count("worker told to leave", false)
		w.stop()
		w.start()
	case n < 87:
		ch.count("worker frozen", false)
		w.freeze()
		wait(context.Background(), moment)
		w.thaw()
	case n < 90:
		ch.count("server frozen", false)
		s.freeze()
		wait(context.Background(), moment)
		s.thaw()
	case n < 94:
		ch.count("worker cut off", false)
		w.cut()
		wait(context.Background(), moment)
		w.heal()
	case n < 98:
		ch.count("connection of a worker cut in an answer", false)
		for _, l := range w.links {
			l.CutAfter(faultproxy.Direction(ch.rng.IntN(2)), ch.rng.IntN(4000))
		}
	default:
		ch.count("database killed", true)
		ch.db.Kill(ch.t)
		ch.db.Restart(ch.t)
	}
}

func (ch *chaos) count(fault string, kill bool) {
	ch.faults[fault]++
	ch.kills += boolInt(kill)
}

// heal ends all faults.
func (ch *chaos) heal() {
	for _, s := range ch.servers {
		s.link.Heal()
		ch.awaitServer(s)
	}
	for _, w := range ch.workers {
		for _, l := range w.links {
			l.Heal()
		}
	}
	ch.awaitWorkers(len(ch.workers))
}

// submitUntil is a person's mixed day: most jobs are well, some fail in every
// way of the mock engine, some are cancelled, some are tried again.
func (ch *chaos) submitUntil(stop <-chan struct{}, rng *rand.Rand) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if ch.left() > 150 {
			wait(context.Background(), 200*time.Millisecond)
			continue
		}
		params, want := someJob(rng)
		id := ch.submit(params, want, func(r *api.JobRequest) {
			r.Priority = new(rng.IntN(21))
			r.Retry.Max = new(1 + rng.IntN(2))
			r.Resources.Log = 64 << 10
			if rng.IntN(50) == 0 {
				r.RunAt = time.Now().Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			}
		})
		switch rng.IntN(20) {
		case 0:
			wait(context.Background(), time.Duration(rng.IntN(500))*time.Millisecond)
			ch.chance(id)
			ch.cancel(id)
		case 1:
			ch.again(rng)
		}
		wait(context.Background(), time.Duration(rng.IntN(100))*time.Millisecond)
	}
}

// someJob returns parameters of the mock engine and how such a job must end.
func someJob(rng *rand.Rand) (params string, want job.State) {
	run := fmt.Sprintf(`"steps": %d, "step_seconds": %.3f`, 1+rng.IntN(4), 0.005+0.2*rng.Float64())
	switch rng.IntN(20) {
	case 0:
		return "{" + run + `, "fail_at_step": 1, "exit_code": 3}`, job.Failed
	case 1:
		return "{" + run + `, "fail_at_step": 1, "fail_attempts": 1}`, job.Completed
	case 2:
		return "{" + run + `, "signal": "SIGSEGV"}`, job.Failed
	case 3:
		return "{" + run + `, "converge": false}`, job.Failed
	case 4:
		return "{" + run + `, "children": 2, "ignore_sigterm": true}`, job.Completed
	case 5:
		return "{" + run + `, "output_bytes": 1000000}`, ""
	case 6:
		return "{" + run + `, "memory_mb": 600}`, ""
	}
	return "{" + run + "}", job.Completed
}

// chance forgets how a job must end: from here on that depends.
func (ch *chaos) chance(id job.ID) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	i := slices.IndexFunc(ch.submissions, func(s submission) bool { return s.ID == id })
	ch.submissions[i].Want = ""
}

// again retries a job that has failed.
func (ch *chaos) again(rng *rand.Rand) {
	page := ask(ch.cluster, func(s *api.Client, ctx context.Context) (api.JobList, error) {
		return s.Page(ctx, api.ListQuery{States: []job.State{job.Failed}, All: true, Limit: 50})
	})
	if len(page.Items) == 0 {
		return
	}
	id := page.Items[rng.IntN(len(page.Items))].ID
	ch.chance(id)
	ask(ch.cluster, func(s *api.Client, ctx context.Context) (api.Job, error) {
		// Each request may take effect, answered or not.
		ch.mu.Lock()
		ch.retries[id]++
		ch.mu.Unlock()
		j, err := s.Retry(ctx, string(id), "the test says so")
		if job.CodeOf(err) == job.Conflict {
			err = nil
		}
		return j, err
	})
}

// pickups measures how long a job waits in quiet, with room.
func (ch *chaos) pickups() []delay {
	ch.t.Helper()
	var delays []delay
	for i := range 5 {
		j := ch.ended(ch.submit(quick, job.Completed))
		delays = append(delays, delay{fmt.Sprint("pickup ", i+1), j.StartedAt.Sub(j.QueuedAt), 2 * time.Second})
	}
	return delays
}

func (ch *chaos) resources() []resources {
	ch.t.Helper()
	var all []resources
	for _, s := range ch.servers {
		all = append(all, ch.usage(s))
	}
	return all
}

// compared waits for the servers to come to rest, and compares what they hold
// together with the base line: workers move from one to the other.
func (ch *chaos) compared(before []resources) []usage {
	ch.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		then, now := total(before), total(ch.resources())
		goroutines := usage{"goroutines of the servers", then.goroutines, now.goroutines, 20}
		files := usage{"open files of the servers", then.files, now.files, 20}
		rest := now.goroutines <= then.goroutines+goroutines.Slack && now.files <= then.files+files.Slack
		if rest || time.Now().After(deadline) {
			return []usage{goroutines, files}
		}
		wait(context.Background(), time.Second)
	}
}

func total(all []resources) resources {
	var sum resources
	for _, r := range all {
		sum.goroutines += r.goroutines
		sum.files += r.files
	}
	return sum
}

// report says what was done and what became of it.
func (ch *chaos) report(h *history) {
	outcomes := map[string]int{}
	for id, j := range h.Jobs {
		code := string(j.State)
		if as := h.Attempts[id]; j.State == job.Failed && len(as) > 0 {
			code += " " + as[len(as)-1].Outcome
		}
		outcomes[strings.TrimSpace(code+" "+string(j.Reason))]++
	}
	attempts, lost := 0, 0
	for _, as := range h.Attempts {
		attempts += len(as)
		for _, a := range as {
			lost += boolInt(a.Outcome == "lost")
		}
	}
	ch.t.Logf("%d kills, %d jobs, %d attempts (%d given up), %d starts, %d events", ch.kills, len(h.Jobs), attempts, lost, len(h.Starts), len(h.Events))
	for _, m := range []map[string]int{ch.faults, outcomes} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			ch.t.Logf("%6d  %s", m[k], k)
		}
	}
}
