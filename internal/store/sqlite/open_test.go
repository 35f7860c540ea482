package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func TestTheLibraryIsNewEnoughForWAL(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := checkVersion(t.Context(), db, ""); err != nil {
		t.Error(err)
	}
	for version, ok := range map[string]bool{
		"3.51.3": true, "3.51.10": true, "3.52.0": true, "4.0": true, "3.51.2": false, "3.9.9": false, "3.51": false, "": true, "junk": false,
	} {
		if err := checkVersion(t.Context(), db, version); (err == nil) != ok {
			t.Errorf("version %q: error is %v", version, err)
		}
	}
	_, err = Open(filepath.Join(t.TempDir(), "nanoos.db"), Options{version: "3.51.2"})
	if err == nil || !strings.Contains(err.Error(), "3.51.3 is needed") {
		t.Errorf("open with an old library: %v", err)
	}
}

// The driver and its C library have no stable interface between them: only the
// pair that was released together works.
func TestTheDriverIsLinkedWithTheLibcItWasBuiltFor(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.GoMod}}", "modernc.org/libc", "modernc.org/sqlite").Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 {
		t.Fatalf("list the modules: %v: %q", err, out)
	}
	linked, _, _ := strings.Cut(lines[0], " ")
	_, driver, _ := strings.Cut(lines[1], " ")
	mod, err := os.ReadFile(driver)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == "modernc.org/libc" {
			if fields[1] != linked {
				t.Errorf("the driver needs libc %s; linked is %s", fields[1], linked)
			}
			return
		}
	}
	t.Errorf("%s does not require libc", driver)
}

func TestS7_EveryConnectionIsSetUpForDurability(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "mmap_size": "0",
	} {
		for name, get := range map[string]func() *sql.Row{
			"writer": func() *sql.Row { return s.writer.conn.sql.QueryRowContext(t.Context(), "PRAGMA "+pragma) },
			"reader": func() *sql.Row { return s.reads.QueryRowContext(t.Context(), "PRAGMA "+pragma) },
		} {
			var got string
			if err := get().Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %q (%v), want %q", name, pragma, got, err, want)
			}
		}
	}
	if _, err := s.reads.ExecContext(t.Context(), "DELETE FROM jobs"); err == nil {
		t.Error("a reader can write")
	}
}

func TestF41_ASecondServerIsRefusedAndToldWhoHoldsTheDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nanoos.db")
	s := openAt(t, path, Options{})
	_, err := Open(path, Options{})
	if job.CodeOf(err) != job.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("error is %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, path, Options{}).Close(); err != nil {
		t.Errorf("reopened: %v", err)
	}
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "data")
	s := openAt(t, filepath.Join(dir, "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	if err := submit(s, benchJob(1)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "nanoos.db": 0o600, "nanoos.db-wal": 0o600, "nanoos.db-shm": 0o600, "nanoos.db.lock": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
}

func TestNetworkFileSystemsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "nanoos.db"), Options{filesystem: func(string) (string, error) { return "NFS", nil }})
	if job.CodeOf(err) != job.Invalid || !strings.Contains(err.Error(), "NFS") {
		t.Errorf("error is %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("the refused directory holds %v", entries)
	}
	if name, err := networkFilesystem(dir); name != "" || err != nil {
		t.Errorf("a local directory is on %q (%v)", name, err)
	}
}

func TestADatabaseWithStrangeNamesOpens(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b.db", "50%.db", "q?mode=memory.db", "h#sh.db", "ü.db"} {
		path := filepath.Join(t.TempDir(), name)
		s := openAt(t, path, Options{})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%q was not written: %v", name, err)
		}
	}
}

func TestG22_ADamagedDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nanoos.db")
	s := openAt(t, path, Options{})
	for range 20 {
		if err := submit(s, benchJob(1), benchJob(1), benchJob(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() []byte{
		"overwritten": func() []byte {
			b := append([]byte(nil), whole...)
			for i := len(b) / 2; i < len(b)/2+8192; i++ {
				b[i] = 0xa5
			}
			return b
		},
		"cut":            func() []byte { return whole[:len(whole)/2/4096*4096] },
		"another format": func() []byte { return []byte(strings.Repeat("not a database\n", 1000)) },
	} {
		bad := filepath.Join(t.TempDir(), "bad.db")
		if err := os.WriteFile(bad, damage(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bad, Options{}); job.CodeOf(err) != job.Internal {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestS9_ANewerSchemaIsUsedOrRefusedByItsMinReader(t *testing.T) {
	t.Parallel()
	for minReader, want := range map[string]job.Code{"1": "", strconv.Itoa(schemaVersion): "", strconv.Itoa(schemaVersion + 1): job.Conflict, "junk": job.Conflict} {
		path := filepath.Join(t.TempDir(), "nanoos.db")
		s := openAt(t, path, Options{})
		err := s.Write(t.Context(), func(tx store.Tx) error { return tx.SetMeta(t.Context(), "min_reader", minReader) })
		if err == nil {
			_, err = s.writer.conn.exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
		}
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		s, err = Open(path, Options{})
		if job.CodeOf(err) != want {
			t.Errorf("min_reader %s: error is %v", minReader, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestF37_ADatabaseOfEveryEarlierReleaseIsBroughtUp(t *testing.T) {
	t.Parallel()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	for version := int64(1); version < schemaVersion; version++ {
		path := filepath.Join(t.TempDir(), "nanoos.db")
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
		if err == nil {
			_, err = p.UpTo(t.Context(), version)
		}
		if err == nil {
			_, err = db.Exec("INSERT INTO meta (key, value) VALUES ('written by', 'an earlier release')")
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, path, Options{})
		err = s.Write(t.Context(), func(tx store.Tx) error {
			by, err := tx.Meta(t.Context(), "written by")
			if by == "" {
				t.Errorf("version %d: a row is gone", version)
			}
			return errors.Join(err, tx.SaveTickets(t.Context(), []store.Ticket{{Door: "d", ID: "t"}}))
		})
		if err = errors.Join(err, submit(s, benchJob(1)), s.Close()); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// One row that cannot be decoded must not take others down with it.
func TestABrokenRowFailsAlone(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	good, bad := benchJob(1), benchJob(1)
	good.State, bad.State = job.Running, job.Running
	if err := submit(s, bad, good); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.conn.exec("UPDATE specs SET spec = '{broken' WHERE seq = 1"); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	err := s.Write(ctx, func(tx store.Tx) error {
		page, _, err := tx.Jobs(ctx, store.JobQuery{})
		running, err2 := tx.RunningOn(ctx, "")
		locked, err3 := tx.LockJobs(ctx, []job.ID{bad.ID, good.ID})
		for what, jobs := range map[string][]job.Job{"listing": page, "running": running, "lock": locked} {
			if len(jobs) != 1 || jobs[0].ID != good.ID {
				t.Errorf("%s has %d jobs", what, len(jobs))
			}
		}
		if _, err := tx.Job(ctx, "", bad.ID); job.CodeOf(err) != job.Internal || !strings.Contains(err.Error(), string(bad.ID)) {
			t.Errorf("the broken job: %v", err)
		}
		return errors.Join(err, err2, err3)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := s.Write(context.Background(), func(store.Tx) error { return nil })
	if job.CodeOf(err) != job.Unavailable {
		t.Errorf("write after close: %v", err)
	}
}
