package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func TestServersThatStartAtOnceMigrateOnce(t *testing.T) {
	t.Parallel()
	url := shared.Get(t).CreateDB(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), url, Options{AllowUnsafeServer: true})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := submit(s, benchJob(1)); err != nil {
				t.Errorf("submit: %v", err)
			}
			s.Close()
		})
	}
	wg.Wait()
	c := openConn(t, url)
	if s, err := schemaState(t.Context(), c); err != nil || !s.complete(ours(t)) {
		t.Errorf("the schema is at %+v (%v)", s, err)
	}
}

// nextRelease is what we have and a migration of a later release.
func nextRelease(t *testing.T, steps ...string) [][]string { return append(ours(t), steps) }

func TestF37_AMigrationThatIsKilledGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	url := shared.Get(t).CreateDB(t)
	openURL(t, url).Close()
	once := "INSERT INTO nanoos.meta (key, value) VALUES ('first step', 'done')" // fails if it is done again
	c := openConn(t, url)
	err := migrateAlone(t.Context(), c, nextRelease(t, once, "SELECT pg_terminate_backend(pg_backend_pid())", "CREATE TABLE nanoos.later ()"))
	if err == nil {
		t.Fatal("the session was not killed")
	}
	c = openConn(t, url)
	if err := migrateAlone(t.Context(), c, nextRelease(t, once, "SELECT 1", "CREATE TABLE nanoos.later ()")); err != nil {
		t.Fatal(err)
	}
	if s, err := schemaState(t.Context(), c); err != nil || s != (state{int64(len(ours(t)) + 1), 3}) {
		t.Errorf("the schema is at %+v (%v)", s, err)
	}
	s := openURL(t, url) // this release on the schema of the next (F36)
	defer s.Close()
	if err := submit(s, benchJob(1)); err != nil {
		t.Error(err)
	}
	if _, err := c.pg.Exec(t.Context(), "UPDATE nanoos.meta SET value = '99' WHERE key = 'min_reader'"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), url, Options{AllowUnsafeServer: true}); job.CodeOf(err) != job.Conflict {
		t.Errorf("a schema that is too new: error is %v", err)
	}
}

func TestF37_AMigrationOfOursMayBeKilledAfterEveryStep(t *testing.T) {
	t.Parallel()
	files := ours(t)
	last := len(files) - 1
	for done := range len(files[last]) {
		url := shared.Get(t).CreateDB(t)
		c := openConn(t, url)
		if err := migrateAlone(t.Context(), c, files[:last]); err != nil {
			t.Fatal(err)
		}
		killed := append(slices.Clone(files[last][:done]), "SELECT pg_terminate_backend(pg_backend_pid())")
		if err := migrateAlone(t.Context(), c, append(slices.Clone(files[:last]), killed)); err == nil {
			t.Fatal("the session was not killed")
		}
		s := openURL(t, url)
		if err := submit(s, benchJob(1)); err != nil {
			t.Errorf("killed after step %d: submit: %v", done, err)
		}
		s.Close()
		if at, err := schemaState(t.Context(), openConn(t, url)); err != nil || !at.complete(files) {
			t.Errorf("killed after step %d: the schema is at %+v (%v)", done, at, err)
		}
	}
}

// A migration that waits for a reader does not make the others wait for it.
func TestF37_S9_AMigrationYieldsToTheWorkOfOldServers(t *testing.T) {
	t.Parallel()
	url := shared.Get(t).CreateDB(t)
	s := openURL(t, url)
	defer s.Close()
	reader := openConn(t, url)
	tx, err := reader.pg.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "SELECT count(*) FROM nanoos.jobs")
	}
	if err != nil {
		t.Fatal(err)
	}
	c := openConn(t, url)
	if _, err := c.pg.Exec(t.Context(), "SET lock_timeout = '50ms'"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- migrateAlone(context.WithoutCancel(t.Context()), c, nextRelease(t, "ALTER TABLE nanoos.jobs ADD COLUMN later text"))
	}()
	for range 10 {
		if err := submit(s, benchJob(1)); err != nil {
			t.Errorf("submit beside a migration: %v", err)
		}
	}
	select {
	case err := <-done:
		t.Errorf("the migration did not wait for the reader: %v", err)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := submit(s, benchJob(1)); err != nil {
		t.Errorf("submit after the migration: %v", err)
	}
}

func TestF38_ALongSnapshotIsReportedAndClaimsGoOn(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	jobs := make([]job.Job, 400)
	for i := range jobs {
		jobs[i] = benchJob(1)
	}
	if err := submit(s, jobs...); err != nil {
		t.Fatal(err)
	}
	holder, err := s.server.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.close()
	tx, err := holder.pg.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err == nil {
		_, err = tx.Exec(t.Context(), "SELECT count(*) FROM nanoos.jobs")
	}
	if err != nil {
		t.Fatal(err)
	}
	var lane store.LaneID
	if err := s.Read(t.Context(), func(tx store.ReadTx) error {
		lanes, err := tx.Lanes(t.Context())
		lane = lanes[0].ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var first, last time.Duration
	for range 40 {
		began := time.Now()
		if n, err := claimAndFinish(s, lane, 10); err != nil || n != 10 {
			t.Fatalf("claimed %d: %v", n, err)
		}
		last = time.Since(began)
		if first == 0 {
			first = last
		}
	}
	if last > 20*first+time.Second {
		t.Errorf("claims slow down from %v to %v", first, last)
	}
	h, err := s.Health(t.Context())
	if err != nil || h.OldestSnapshot <= 0 || h.OldestQueued != 0 || h.WALBytes <= 0 || h.LockWaits != 0 {
		t.Errorf("health is %+v (%v)", h, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := submit(s, benchJob(1)); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Health(t.Context()); err != nil || h.OldestQueued <= 0 {
		t.Errorf("health is %+v (%v)", h, err)
	}
}

func TestStatementsEndAtTheEndOfALine(t *testing.T) {
	t.Parallel()
	got := statements("-- one; two\nSELECT ';' AS x;\n\nSELECT 2;\n")
	if len(got) != 2 || !strings.HasSuffix(got[0], "AS x") || got[1] != "SELECT 2" {
		t.Errorf("statements are %q", got)
	}
}

func ours(t *testing.T) [][]string {
	t.Helper()
	files, err := readMigrations(migrations)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// openConn opens a session on a database.
func openConn(t *testing.T, url string) *conn {
	t.Helper()
	cfg, err := parseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&server{cfg: cfg, bounds: usualBounds}).connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}
