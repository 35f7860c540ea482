package postgres

import (
	"os"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// shared is the cluster of all tests that need no server of their own.
var shared pgtest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Close()
	os.Exit(code)
}

func TestPostgresKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openURL(t, shared.Get(t).CreateDB(t)) })
}

func TestStoresOfOneDatabaseKeepTheContractTogether(t *testing.T) {
	t.Parallel()
	storetest.RunShared(t, func(t *testing.T) (a, b store.Store) {
		url := shared.Get(t).CreateDB(t)
		return openURL(t, url), openURL(t, url)
	})
}

func TestPostgresAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	cluster := shared.Get(t)
	url := cluster.CreateDB(t)
	storetest.RunModel(t, func(t *testing.T, now func() time.Time) store.Store {
		s := openURL(t, url)
		s.wipe(t)
		s.opt.now = now
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

// wipe empties a store that was just opened.
func (s *Store) wipe(t testing.TB) {
	t.Helper()
	err := s.writer.conn.exec(t.Context(), `
TRUNCATE nanoos.lanes, nanoos.specs, nanoos.jobs, nanoos.labels, nanoos.progress, nanoos.attempts, nanoos.events,
	nanoos.queues, nanoos.workers, nanoos.tokens, nanoos.writers RESTART IDENTITY`)
	for _, q := range []string{`UPDATE nanoos.event_seq SET last = 0`, `UPDATE nanoos.leases SET owner = '', until = 0`, `DELETE FROM nanoos.meta WHERE key = 'k'`} {
		if err == nil {
			err = s.writer.conn.exec(t.Context(), q)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
