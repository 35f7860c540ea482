package postgres

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
	"github.com/nano-os/nanoos/internal/store/sqlite"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// shared is the cluster of all tests that need no server of their own.
var shared pgtest.Shared

func TestMain(m *testing.M) {
	flag.Parse()
	// A look at all that is stored takes a hundred round trips here, so fewer
	// checks than usual have to do, unless somebody asks for more.
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		_ = checks.Value.Set("20")
	}
	code := m.Run()
	shared.Close()
	durable.Close()
	os.Exit(code)
}

func TestPostgresKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openURL(t, emptyDB(t)) })
}

func TestStoresOfOneDatabaseKeepTheContractTogether(t *testing.T) {
	t.Parallel()
	storetest.RunShared(t, func(t *testing.T) (a, b store.Store) {
		url := emptyDB(t)
		return openURL(t, url), openURL(t, url)
	})
}

func TestPostgresAndSQLiteAgreeWithTheModel(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	storetest.RunModel(t, func(t *testing.T, now func() time.Time) store.Store {
		s := openURL(t, url)
		s.wipe(t)
		s.opt.now = now
		return s
	}, func(t *testing.T, now func() time.Time) store.Store {
		s, err := sqlite.Open(filepath.Join(t.TempDir(), string(job.NewID())), sqlite.Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// openURL opens a store on a server that need not be safe.
func openURL(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, Options{AllowUnsafeServer: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// databases are those that tests have finished with.
var databases = make(chan string, 100)

// emptyDB returns the URL of a database that holds at most an empty schema.
func emptyDB(t *testing.T) string {
	t.Helper()
	var url string
	select {
	case url = <-databases:
		s := openURL(t, url)
		s.wipe(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	default:
		url = shared.Get(t).CreateDB(t)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			databases <- url
		}
	})
	return url
}

// wipe empties a store that was just opened.
func (s *Store) wipe(t testing.TB) {
	t.Helper()
	b := &pgx.Batch{}
	for _, table := range tables {
		switch table.name {
		case "meta":
			b.Queue(`DELETE FROM nanoos.meta WHERE key <> 'min_reader'`)
		case "leases":
			b.Queue(`DELETE FROM nanoos.leases WHERE name <> 'leader'`)
			b.Queue(`UPDATE nanoos.leases SET owner = '', until = 0`)
		case "event_seq":
			b.Queue(`UPDATE nanoos.event_seq SET last = 0`)
		default:
			b.Queue("DELETE FROM nanoos." + table.name)
		}
	}
	b.Queue("DELETE FROM nanoos.writers")
	if err := s.writer.conn.send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}
