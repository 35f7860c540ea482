package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/nano-os/nanoos/internal/job"
)

// Migrations only add; what a later one removes, no program of the release
// before uses any more (S9). Each statement is a step that commits together
// with the note that it was done, so a migration that is killed goes on where
// it was (F37).
//
//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrationLock is the advisory lock under which one server migrates:
	// "nanoos" in ASCII.
	migrationLock = 0x6e616e6f6f73
	// migrationWait bounds how long a server waits for another one to migrate,
	// and for the locks of a step. Building an index of a large table takes
	// minutes.
	migrationWait = 10 * time.Minute
)

// migrate brings the schema up to the newest migration of this program. A
// newer schema is left as it is, and refused if its min_reader says that this
// program cannot work on it.
func migrate(ctx context.Context, c *conn) error {
	files, err := readMigrations(migrations)
	if err != nil {
		return err
	}
	done, err := schemaState(ctx, c)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	newest := int64(len(files))
	if done.version > newest {
		return checkReader(ctx, c, done.version, newest)
	}
	if done.complete(files) {
		return nil
	}
	return migrateAlone(ctx, c, files)
}

// migrateAlone migrates while no other server does.
func migrateAlone(ctx context.Context, c *conn, files [][]string) error {
	ctx, cancel := context.WithTimeout(ctx, migrationWait)
	defer cancel()
	err := patiently(ctx, func() (bool, error) {
		var got bool
		err := c.pg.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&got)
		return got, err
	})
	if err != nil {
		return fmt.Errorf("wait for another server that migrates: %w", err)
	}
	defer c.pg.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(migrationLock)) // also freed with the session
	done, err := schemaState(ctx, c)
	if err == nil && done.version == 0 {
		_, err = c.pg.Exec(ctx, createSchema, pgx.QueryExecModeSimpleProtocol)
	}
	if err != nil {
		return fmt.Errorf("create the schema: %w", fault("create the schema", err))
	}
	for version := max(1, done.version); version <= int64(len(files)); version++ {
		if err := migrateFile(ctx, c, version, files[version-1]); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version, err)
		}
	}
	return nil
}

const createSchema = `
CREATE SCHEMA IF NOT EXISTS nanoos;
CREATE TABLE IF NOT EXISTS nanoos.schema (version bigint PRIMARY KEY, steps bigint NOT NULL)`

// state is how far the schema has come.
type state struct{ version, steps int64 }

func (s state) complete(files [][]string) bool {
	return s.version == int64(len(files)) && s.steps == int64(len(files[s.version-1]))
}

func schemaState(ctx context.Context, c *conn) (s state, err error) {
	var exists bool
	if err := c.pg.QueryRow(ctx, "SELECT to_regclass('nanoos.schema') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return s, fault("read the schema", err)
	}
	err = c.pg.QueryRow(ctx, "SELECT version, steps FROM nanoos.schema ORDER BY version DESC LIMIT 1").Scan(&s.version, &s.steps)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return s, fault("read the schema", err)
}

const (
	beginFile = `INSERT INTO nanoos.schema (version, steps) VALUES ($1, 0) ON CONFLICT DO NOTHING`
	readSteps = `SELECT steps FROM nanoos.schema WHERE version = $1`
	noteStep  = `UPDATE nanoos.schema SET steps = $2 WHERE version = $1`
)

// migrateFile runs the steps of a file that were not done yet. A step waits
// for its locks no longer than the session's lock_timeout, so that it does not
// hold up the work of others, and comes back.
func migrateFile(ctx context.Context, c *conn, version int64, steps []string) error {
	var done int64
	_, err := c.pg.Exec(ctx, beginFile, version)
	if err == nil {
		err = c.pg.QueryRow(ctx, readSteps, version).Scan(&done)
	}
	if err != nil {
		return fault("read the steps", err)
	}
	for i := done; i < int64(len(steps)); i++ {
		err := patiently(ctx, func() (bool, error) {
			err := migrateStep(ctx, c, version, i+1, steps[i])
			if busy(err) {
				return false, nil
			}
			return true, err
		})
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, fault("migrate", err))
		}
	}
	return nil
}

func migrateStep(ctx context.Context, c *conn, version, step int64, statement string) error {
	tx, err := c.pg.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing after a commit
	if _, err := tx.Exec(ctx, statement); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteStep, version, step); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// busy reports whether a statement gave up because of what others hold.
func busy(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == codeLockTimeout || e.Code == codeDeadlock)
}

// patiently tries until it is done, fails or ctx ends.
func patiently(ctx context.Context, try func() (done bool, err error)) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		done, err := try()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// readMigrations returns the statements of each file, in order. The files are
// numbered from 1 without a gap.
func readMigrations(files fs.FS) ([][]string, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([][]string, len(names))
	for i, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		all[i] = statements(string(b))
	}
	return all, nil
}

// statements splits a file at the semicolons that end a line.
func statements(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, ";\n") {
		if strings.TrimSpace(part) != "" {
			all = append(all, strings.TrimSpace(part))
		}
	}
	return all
}

func checkReader(ctx context.Context, c *conn, version, ours int64) error {
	var text string
	err := c.pg.QueryRow(ctx, "SELECT value FROM nanoos.meta WHERE key = 'min_reader'").Scan(&text)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fault("read min_reader", err)
	}
	if min, err := strconv.ParseInt(text, 10, 64); err == nil && min <= ours {
		return nil
	}
	return &job.Error{
		Code:    job.Conflict,
		Message: "the database belongs to a newer version of nanoos",
		Why:     fmt.Sprintf("its schema %d needs a program for schema %s or later; this one knows %d", version, text, ours),
		Fix:     "start the newer version, or restore the backup from before the upgrade",
	}
}
