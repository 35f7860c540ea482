package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Backup writes the state of one commit to a new file, while this or another
// process writes on, and reads the whole of it back before it calls it good (G21).
func Backup(ctx context.Context, database, path string) error {
	if err := copyDatabase(ctx, database, path); err != nil {
		return fmt.Errorf("back up %s: %w", database, err)
	}
	return nil
}

// Restore makes a database at path from a backup. Between the two, workers may
// have gone on: no lease from before fits any more, and the installation stays
// frozen until a person has looked at it.
func Restore(ctx context.Context, backup, path string) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("restore: make the database directory: %w", err)
	}
	lock, err := lockProcess(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for _, name := range []string{path, path + "-wal", path + "-journal"} { // a log would be replayed into it
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return exists(name)
		}
	}
	// It gets its name when it is complete: half of it must not look like a
	// database that was restored.
	unfinished := path + ".restoring"
	if err := removeFile(unfinished); err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	if err := copyDatabase(ctx, backup, unfinished); err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	err = freeze(ctx, unfinished, backup)
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err == nil {
		err = syncFile(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", backup, err), removeFile(unfinished))
	}
	return nil
}

// copyDatabase copies one snapshot of a database into a new file of this user
// alone, makes it durable and checks every page and index of it.
func copyDatabase(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	to, err := filepath.Abs(to) // SQLite takes some relative ones for addresses
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite would go by the umask
	if errors.Is(err, fs.ErrExist) {
		return exists(to)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = withDatabase(ctx, from, []string{"busy_timeout(5000)"}, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "VACUUM INTO ?", to)
		return err
	})
	if err == nil {
		err = syncFile(to) // which VACUUM leaves to us
	}
	if err == nil {
		err = syncFile(filepath.Dir(to))
	}
	if err == nil {
		err = fullCheck(ctx, to)
	}
	if err != nil {
		return errors.Join(err, removeFile(to))
	}
	return nil
}

// fullCheck reads all of a database that nobody else uses.
func fullCheck(ctx context.Context, path string) error {
	return withDatabase(ctx, path, []string{"query_only(ON)"}, func(db *sql.DB) error {
		var answer string
		if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&answer); err != nil {
			return fmt.Errorf("check %s: %w", path, err)
		}
		if answer != "ok" {
			return &job.Error{Code: job.Internal, Message: "the copy of the database is damaged", Why: path + ": " + answer,
				Fix: "look at the kernel's log and the disk; the original was not changed"}
		}
		return nil
	})
}

const (
	raiseIncarnation = `
INSERT INTO meta (key, value) VALUES ('incarnation', '1')
ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)`
	// raiseFences puts every lease of before behind: the bits above the fortieth
	// of a fence count the restores, and no job has 2^40 owners.
	raiseFences = `
UPDATE jobs SET fence = fence + (1 << 40), rev = rev + 1 WHERE state IN ('PENDING', 'QUEUED', 'RUNNING')`
)

// freeze makes the database of a restored installation out of a backup.
func freeze(ctx context.Context, path, backup string) error {
	why := fmt.Sprintf("restored at %s from %s", time.Now().UTC().Format(time.RFC3339), backup)
	return withDatabase(ctx, path, []string{"synchronous(FULL)"}, func(db *sql.DB) error {
		if err := checkBackup(ctx, db); err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after the commit
		for _, st := range []struct {
			query string
			args  []any
		}{{raiseIncarnation, nil}, {raiseFences, nil}, {upsertMeta, []any{"frozen", why}}} {
			if _, err := tx.ExecContext(ctx, st.query, st.args...); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

// checkBackup refuses a database that is not one of ours.
func checkBackup(ctx context.Context, db *sql.DB) error {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('jobs', 'meta', 'lanes')").Scan(&n)
	if err == nil && n < 3 {
		return &job.Error{Code: job.Invalid, Message: "this is no backup of nanoos", Why: strconv.Itoa(n) + " of 3 tables are there",
			Fix: "choose a file that nanoos has written as a backup"}
	}
	return err
}

// withDatabase runs fn on a database that it opens for it.
func withDatabase(ctx context.Context, path string, pragmas []string, fn func(*sql.DB) error) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path, pragmas))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(fn(db), db.Close())
}

func exists(path string) error {
	return &job.Error{Code: job.Conflict, Message: fmt.Sprintf("%s exists already", path),
		Fix: "choose another path, or move the file away"}
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFile makes a file or directory durable.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
