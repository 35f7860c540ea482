package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

func TestSQLiteKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{}) })
}

func TestSQLiteAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	storetest.RunModel(t, func(t *testing.T, now func() time.Time) store.Store {
		return openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{Now: now})
	})
}

func openAt(t testing.TB, path string, opt Options) *Store {
	t.Helper()
	s, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
