package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// shared is the platform's server of all tests that leave it alive.
var shared pgtest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Close()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// world is a platform's database, and a queue with a worker beside it.
type world struct {
	t       *testing.T
	cluster *pgtest.Cluster
	url     string
	later   bool
	// platform is the platform's own session.
	platform *pgx.Conn
	st       store.Store
	q        *queue.Service
}

// generations runs a test on both schemas.
func generations(t *testing.T, test func(*testing.T, *world)) {
	for _, name := range []string{"first", "later"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, shared.Get(t), name))
		})
	}
}

func newWorld(t *testing.T, cluster *pgtest.Cluster, generation string) *world {
	t.Helper()
	w := &world{t: t, cluster: cluster, url: cluster.CreateDB(t), later: generation == "later", st: storetest.NewModel(time.Now)}
	for _, file := range []string{generation + ".sql", "guard.sql"} {
		ddl, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		w.sql(string(ddl))
	}
	w.q = queue.New(w.st, queue.Options{})
	if _, err := w.q.Attach(t.Context(), job.Session{Worker: "node7-abc123", Host: "h", Boot: "b", Offer: offer}, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

var offer = job.Offer{CPUs: 64, Memory: 1 << 40, Engines: []string{"mock", "qe", "lammps"}}

// sql does what the platform does, and returns the first row of what comes last.
func (w *world) sql(statements string) string {
	w.t.Helper()
	if w.platform == nil || w.platform.IsClosed() {
		w.connect()
	}
	results, err := w.platform.PgConn().Exec(context.Background(), statements).ReadAll()
	if err != nil {
		w.t.Fatalf("%s: %v", statements, err)
	}
	var values []string
	for _, r := range results {
		for _, row := range r.Rows[:min(1, len(r.Rows))] {
			values = nil
			for _, v := range row {
				values = append(values, string(v))
			}
		}
	}
	return strings.Join(values, "|")
}

func (w *world) connect() {
	w.t.Helper()
	c, err := pgx.Connect(context.Background(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.platform = c
	w.t.Cleanup(func() { _ = c.Close(context.Background()) })
}

// byHand changes rows without regard to the rules.
func (w *world) byHand(statements string) { w.sql("SET LOCAL platform.by_hand = 'on'; " + statements) }

// add makes a row of the platform's.
func (w *world) add(columns, values string) job.ID {
	w.t.Helper()
	id := job.NewID()
	own, extra := "", ""
	if w.later {
		own, extra = ", owner_id", ", '"+string(owner)+"'"
	}
	w.sql(fmt.Sprintf("INSERT INTO simulation_jobs (id, %s%s) VALUES ('%s', %s%s)", columns, own, id, values, extra))
	return id
}

const owner = "0b5c6f0e-7f0a-4a53-8d5c-1f2d3c4b5a69"

// pending adds a row that waits to be run.
func (w *world) pending() job.ID {
	w.t.Helper()
	return w.add("name, status, engine, parameters", `'a job', 'PENDING', 'Mock', '{"steps": 2}'`)
}

// column reads one value of a row; "" for NULL.
func (w *world) column(id job.ID, expression string) string {
	w.t.Helper()
	return w.sql(fmt.Sprintf("SELECT coalesce((%s)::text, '') FROM simulation_jobs WHERE id = '%s'", expression, id))
}

func (w *world) result(id job.ID, expression string) string {
	w.t.Helper()
	return w.sql(fmt.Sprintf("SELECT coalesce((%s)::text, '') FROM simulation_results WHERE simulation_job_id = '%s'", expression, id))
}

// wait waits until a value of a row is what it should be.
func (w *world) wait(id job.ID, expression, want string) {
	w.t.Helper()
	got := ""
	eventually(w.t, func() bool {
		got = w.column(id, expression)
		return got == want
	}, func() string { return fmt.Sprintf("%s of %s is %q, want %q", expression, id, got, want) })
}

// patience bounds a wait for real processes on a busy machine.
const patience = 30 * time.Second

func eventually(t *testing.T, done func() bool, otherwise func() string) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal(otherwise())
		}
	}
}

// open returns a bridge that does not run yet.
func (w *world) open() *Bridge {
	w.t.Helper()
	b, err := Open(w.t.Context(), w.url, Options{Store: w.st, Queue: w.q, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(b.Close)
	return b
}

// run runs a bridge until stop is called, or the test ends.
func (w *world) run(b *Bridge) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	w.t.Cleanup(stop)
	return stop
}

// submit does what the front door does with a message for a row.
func (w *world) submit(b *Bridge, id job.ID) {
	w.t.Helper()
	spec, err := b.Import(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.q.SubmitAs(w.t.Context(), job.DefaultTenant, id, spec); err != nil {
		w.t.Fatal(err)
	}
	if err := b.Queued(w.t.Context(), id, "task-"+string(id)); err != nil {
		w.t.Fatal(err)
	}
}

// claim starts the oldest job that waits.
func (w *world) claim() job.Lease {
	w.t.Helper()
	leases, err := w.q.Claim(w.t.Context(), "node7-abc123", offer, 1, 0)
	if err != nil || len(leases) != 1 {
		w.t.Fatalf("claimed %v, %v", leases, err)
	}
	return leases[0]
}

func (w *world) progress(l job.Lease, p job.Progress) {
	w.t.Helper()
	if _, err := w.q.Beat(w.t.Context(), "node7-abc123", []job.Held{{ID: l.Job.ID, Fence: l.Fence, Progress: &p}}); err != nil {
		w.t.Fatal(err)
	}
}

// succeeded is the outcome of a good run.
func succeeded(id job.ID) job.Outcome {
	return job.Outcome{Verdict: job.Converged, Exit: &job.Exit{Observed: true}, Result: json.RawMessage(fmt.Sprintf(
		`{"outcome":"success","verdict":"converged","summary":{"energy_eV":-215.5,"band_gap_eV":1.1,"natoms":2},"files":[{"name":"stdout","size":120,"sha256":"x","key":"jobs/%s/1/stdout"},
		{"name":"a b.log","size":7,"sha256":"y","key":"jobs/%[1]s/1/a~20b.log"}],"warnings":[],"series":[{"name":"scf","title":"null \u0000 and \\u0000"}],"provenance":{"engine":"mock","nanoos":"v1","host":"node7.cluster"}}`, id))}
}

func (w *world) finish(l job.Lease, out job.Outcome) {
	w.t.Helper()
	if err := w.q.Finish(w.t.Context(), l, out); err != nil {
		w.t.Fatal(err)
	}
}

// job reads one of ours.
func (w *world) job(id job.ID) (j job.Job) {
	w.t.Helper()
	err := w.st.Read(w.t.Context(), func(tx store.ReadTx) (err error) {
		j, err = tx.Job(w.t.Context(), "", id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// hold locks a row in a transaction of the platform's until release is called.
func (w *world) hold(id job.ID) (release func()) {
	w.t.Helper()
	c, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := c.Exec(w.t.Context(), "BEGIN; SELECT FROM simulation_jobs WHERE id = '"+string(id)+"' FOR UPDATE"); err != nil {
		w.t.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = c.Close(context.Background()) })
	w.t.Cleanup(release)
	return release
}
