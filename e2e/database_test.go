package e2e

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/faultproxy"
	"github.com/nano-os/nanoos/internal/job"
)

// What happens to the database and to the way to it.

// quick is a job that is over soon.
const quick = `{"steps": 2, "step_seconds": 0.05}`

// load submits jobs until stopped, and returns how many there were.
type load struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (c *cluster) load(every time.Duration) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, done: make(chan struct{})}
	c.t.Cleanup(l.stop)
	go func() {
		defer close(l.done)
		for ctx.Err() == nil {
			c.submit(quick, job.Completed)
			wait(ctx, every)
		}
	}()
	return l
}

func (l *load) stop() { l.cancel(); <-l.done }

// TestF21_PostgreSQLStopsAndStartsUnderLoad: programs do not notice, and no job
// is lost or ends twice.
func TestF21_PostgreSQLStopsAndStartsUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 2, workers: 2, private: true, lostAfter: time.Minute})
	whale := c.submit(`{"steps": 120, "step_seconds": 0.1}`, job.Completed)
	c.running(whale)
	l := c.load(50 * time.Millisecond)
	for i := range 4 {
		wait(t.Context(), time.Second)
		if i%2 == 0 {
			c.db.Stop(t)
		} else {
			c.db.Kill(t)
		}
		wait(t.Context(), time.Second)
		c.db.Restart(t)
	}
	wait(t.Context(), time.Second)
	l.stop()
	c.unbroken = []job.ID{whale}
	c.check(50)
}

// TestF22_AFrozenPostgreSQL: requests get their answer in time, nothing piles
// up, and everything goes on afterwards.
func TestF22_AFrozenPostgreSQL(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1, private: true, lostAfter: 5 * time.Minute})
	s := c.servers[0]
	whale := c.submit(`{"steps": 300, "step_seconds": 0.1}`, job.Completed)
	c.running(whale)
	before := c.usage(s)
	c.db.Freeze(t)
	defer c.db.Thaw(t)
	frozen := time.Now()
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
			defer cancel()
			began := time.Now()
			_, _, err := s.client.Submit(ctx, api.JobRequest{Engine: "mock", Parameters: json.RawMessage(quick)})
			if job.CodeOf(err) != job.Unavailable {
				t.Errorf("a submission to a frozen database: %v", err)
			}
			if took := time.Since(began); took > 35*time.Second {
				t.Errorf("the answer took %v", took)
			}
		})
	}
	clients.Wait()
	t.Logf("20 submissions were refused within %v", time.Since(frozen).Round(time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.client.Ready(ctx); err == nil {
		t.Error("the server calls itself ready")
	}
	c.db.Thaw(t)
	c.awaitServer(s)
	// What the database did not answer may have been stored all the same.
	c.unbroken = []job.ID{whale}
	c.check(10)
	usage := before
	eventually(t, 30*time.Second, "goroutines and descriptors are back at the base line", func() bool {
		usage = c.usage(s)
		return usage.goroutines <= before.goroutines+10 && usage.files <= before.files+10
	})
	t.Logf("before %+v, after %+v", before, usage)
}

// resources are what a server holds.
type resources struct{ goroutines, files, connections int }

func (c *cluster) usage(s *server) resources {
	c.t.Helper()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	s.client.Close()
	body, err := s.open(context.Background(), "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^go_goroutines (\d+)$`).FindSubmatch(raw)
	if m == nil {
		c.t.Fatalf("no goroutines in the metrics:\n%s", raw)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		c.t.Fatal(err)
	}
	return resources{goroutines: n, files: s.openFiles(), connections: s.link.Counts().Connections}
}

// TestF23_TheConnectionCutDuringTheCommit: whatever was lost, a submission under
// a key is one job, and a job has one outcome.
func TestF23_TheConnectionCutDuringTheCommit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1, lostAfter: time.Minute})
	rng := seeded(t)
	for range 40 {
		// Everything that the database answers from here on, up to some byte.
		c.servers[0].link.CutAfter(faultproxy.Down, rng.IntN(600))
		c.submit(quick, job.Completed)
	}
	if n := c.servers[0].link.Counts().Cuts; n < 20 {
		t.Errorf("only %d connections were cut", n)
	}
	c.servers[0].link.Heal()
	c.check(80)
}

// seeded returns a source of chance that can be repeated.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestI23_AnAnswerThatIsLost: the client asks again with the same key, and there
// is one job.
func TestI23_AnAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	link := c.proxy(c.servers[0].listen)
	client := api.NewClient("http://"+link.Addr(), "")
	lost := 0
	for range 40 {
		r := api.JobRequest{Engine: "mock", Parameters: json.RawMessage(quick), Key: crand.Text()}
		link.CutAfter(faultproxy.Down, 0)
		_, _, err := client.Submit(t.Context(), r)
		if err != nil {
			lost++
			if job.CodeOf(err) != job.Unavailable {
				t.Errorf("an answer that is lost is %v", err)
			}
		}
		link.Heal()
		j, existing, err := client.Submit(t.Context(), r)
		if err != nil || !existing {
			t.Errorf("asked again: existing %v, %v", existing, err)
		}
		c.submissions = append(c.submissions, submission{Key: r.Key, ID: j.ID, Answer: accepted, Want: job.Completed})
	}
	if lost < 35 {
		t.Errorf("only %d answers were lost", lost)
	}
	c.check(40)
}

// TestF24_ASlowWayToTheDatabase: below the session's length leases stay valid;
// above it contact is lost, and comes back, with the same attempt.
func TestF24_ASlowWayToTheDatabase(t *testing.T) {
	t.Parallel()
	const session = 6 * time.Second // many times the beat, so that only the way counts
	c := newCluster(t, layout{servers: 1, workers: 1, lostAfter: 2 * time.Minute, serverArgs: []string{"--session", session.String()}})
	id := c.submit(`{"steps": 200, "step_seconds": 0.1}`, job.Completed)
	c.running(id)
	link := c.servers[0].link
	link.Latency(20 * time.Millisecond)
	for range 20 {
		wait(t.Context(), 200*time.Millisecond)
		if j := c.get(id); j.ContactLost {
			t.Fatal("contact is lost at 20 ms in each direction")
		}
	}
	link.Blackhole()
	wait(t.Context(), session+2*time.Second)
	link.Heal()
	eventually(t, 30*time.Second, "contact is back", func() bool { return !c.get(id).ContactLost })
	if j := c.ended(id); j.Attempt != 1 {
		t.Errorf("attempt %d", j.Attempt)
	}
	c.unbroken = []job.ID{id}
	c.check(1)
}

// TestF26F39_ADatabaseThatForgets: it is restored from a backup taken under load,
// starts frozen, and goes on from what it knows. What it has forgotten is fenced.
func TestF26F39_ADatabaseThatForgets(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 2, lostAfter: time.Minute})
	known := c.submit(`{"steps": 250, "step_seconds": 0.1}`, job.Completed)
	c.running(known)
	l := c.load(20 * time.Millisecond)
	eventually(t, 30*time.Second, "there is some history", func() bool { return len(c.known()) > 20 })
	backup := c.dir + "/backup"
	c.command("server", "backup", backup)
	l.stop()
	forgotten := c.submit(`{"steps": 600, "step_seconds": 0.1}`, "")
	c.running(forgotten)

	c.servers[0].kill()
	c.dbURL = c.db.CreateDB(t)
	c.command("server", "restore", backup)
	s := c.servers[0]
	s.env = append(s.env, "DATABASE_URL="+c.throughProxy(s))
	s.start()
	c.awaitServer(s)

	_, _, err := s.client.Submit(t.Context(), api.JobRequest{Engine: "mock", Parameters: json.RawMessage(quick)})
	if err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a frozen installation took a job: %v", err)
	}
	started := c.starts()
	wait(t.Context(), 2*session)
	if now := c.starts(); now != started {
		t.Errorf("frozen, and %d programs were started", now-started)
	}
	if len(processesOf(t, known)) == 0 || len(processesOf(t, forgotten)) == 0 {
		t.Error("frozen, and a program was stopped")
	}
	c.command("server", "thaw")
	c.ended(c.submit(quick, job.Completed))
	eventually(t, 60*time.Second, "the program of a job that nobody knows is stopped", func() bool { return len(processesOf(t, forgotten)) == 0 })
	if j := c.ended(known); j.State != job.Completed || j.Attempt != 1 {
		t.Errorf("the job that the backup knows ended %s in attempt %d", j.State, j.Attempt)
	}
	// The rest of the history belongs to two databases: only the new one is checked.
	c.mu.Lock()
	c.submissions = nil
	c.mu.Unlock()
	c.check(20, func(h *history) {
		for _, j := range h.Jobs {
			if j.Key != "" {
				h.Submissions = append(h.Submissions, submission{Key: j.Key, Answer: unknown})
			}
		}
		h.Restored = true
		// Programs that had started after the backup started again, by right.
		h.Starts = nil
	})
}

// starts counts the programs that were started so far.
func (c *cluster) starts() int {
	c.t.Helper()
	starts, err := readStarts(filepath.Join(c.dir, "starts"))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(starts)
}

// throughProxy is the database's address behind the server's proxy.
func (c *cluster) throughProxy(s *server) string {
	c.t.Helper()
	address, err := url.Parse(c.dbURL)
	if err != nil {
		c.t.Fatal(err)
	}
	address.Host = s.link.Addr()
	return address.String()
}

// command runs a command of nanoos on the database.
func (c *cluster) command(args ...string) string {
	c.t.Helper()
	out, errOut, code := nanoos(c.t, append(c.env, "DATABASE_URL="+c.dbURL, "NANOOS_ARTIFACTS="+c.dir+"/artifacts"), args...)
	if code != 0 {
		c.t.Fatalf("nanoos %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// known lists the jobs of the installation.
func (c *cluster) known() []api.Job {
	c.t.Helper()
	return ask(c, func(s *api.Client, ctx context.Context) ([]api.Job, error) {
		var jobs []api.Job
		for j, err := range s.List(ctx, api.ListQuery{All: true, Limit: 500}) {
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, j)
		}
		return jobs, nil
	})
}

// TestF30_TheClockOfTheDatabaseJumps: jobs may be late, and never have two
// authorities.
func TestF30_TheClockOfTheDatabaseJumps(t *testing.T) {
	t.Parallel()
	set, env := movableClock(t)
	c := newCluster(t, layout{servers: 2, workers: 2, private: true, postgresEnv: env})
	whales := c.whales(`{"steps": 200, "step_seconds": 0.1}`)
	l := c.load(100 * time.Millisecond)
	// The last is the latest, so that nothing is due in an hour.
	for _, offset := range []string{"+1h", "+0", "-1h", "+2h"} {
		set(offset)
		wait(t.Context(), lostAfter)
	}
	l.stop()
	c.unbroken = whales
	c.check(20)
}

// movableClock is an environment in which the clock of a program that uses the C
// library goes by what is set.
func movableClock(t *testing.T) (set func(offset string), env []string) {
	t.Helper()
	need(t)
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("libfaketime is not installed")
		}
		t.Skip("SKIPPED: libfaketime is not installed")
	}
	dir := dataDir(t)
	if err := os.Chmod(dir, 0o755); err != nil { // for the user that PostgreSQL runs as
		t.Fatal(err)
	}
	file := filepath.Join(dir, "offset")
	set = func(offset string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(offset+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	set("+0")
	return set, []string{"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + file, "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1"}
}

// TestF32_ManyJobsAtOnceAndEverybodyReconnects: no collapse.
func TestF32_ManyJobsAtOnceAndEverybodyReconnects(t *testing.T) {
	t.Parallel()
	const jobs = 300
	c := newCluster(t, layout{servers: 2, workers: 3, cpus: 8})
	due := time.Now().Add(3 * time.Second)
	var r api.BulkRequest
	for range jobs {
		r.Jobs = append(r.Jobs, api.JobRequest{Engine: "mock", Parameters: json.RawMessage(`{"steps": 1, "step_seconds": 0}`),
			Key: crand.Text(), RunAt: due, Resources: api.ResourcesInput{Memory: 64 << 20}, Retry: soon()})
	}
	result, err := c.servers[0].client.SubmitBulk(t.Context(), r)
	if err != nil || result.Accepted != jobs {
		t.Fatalf("accepted %d: %v", result.Accepted, err)
	}
	for i, item := range result.Items {
		c.submissions = append(c.submissions, submission{Key: r.Jobs[i].Key, ID: item.Job.ID, Answer: accepted, Want: job.Completed})
	}
	wait(t.Context(), time.Until(due))
	for _, w := range c.workers {
		for _, l := range w.links {
			l.Cut()
		}
	}
	c.settled(90 * time.Second)
	t.Logf("%d jobs that became ready at once ended %v later", jobs, time.Since(due).Round(100*time.Millisecond))
	c.check(20)
}

// TestF38_ALongSnapshot does not stop claims.
func TestF38_ALongSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	c.ended(c.submit(quick, job.Completed))
	ctx, cancel := context.WithCancel(t.Context())
	database := c.dbURL[strings.LastIndex(c.dbURL, "/")+1 : strings.LastIndex(c.dbURL, "?")]
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		c.db.SQL(t, database, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM nanoos.jobs; SELECT pg_sleep(8); COMMIT")
	}()
	var slowest time.Duration
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-reader:
			cancel()
			t.Logf("%d jobs while the snapshot was open; the slowest pickup took %v", n, slowest)
			if n < 5 {
				t.Errorf("only %d jobs were run", n)
			}
		default:
			j := c.ended(c.submit(quick, job.Completed))
			slowest = max(slowest, j.StartedAt.Sub(j.QueuedAt))
		}
	}
	cancel()
	c.check(10, func(h *history) { h.Pickups = []delay{{"a claim beside a long snapshot", slowest, 2 * time.Second}} })
}

// TestF48_AFrozenLeaderDoesNothingTwice: another server takes its duties, and
// what it does when it thaws is guarded.
func TestF48_AFrozenLeaderDoesNothingTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 2, workers: 2})
	fail := func(r *api.JobRequest) {
		r.Retry = &api.RetryInput{Max: new(3), Delay: new(job.Duration(2 * time.Second))}
	}
	for round := range 4 {
		for range 10 {
			c.submit(`{"steps": 1, "step_seconds": 0.05, "fail_at_step": 1, "fail_attempts": 2}`, job.Completed, fail)
		}
		// Whoever leads is one of the two.
		s := c.servers[round%2]
		s.freeze()
		wait(t.Context(), 4*sweep)
		s.thaw()
	}
	c.check(40)
}
