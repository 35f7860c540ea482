package postgres

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
)

// Restore fills an empty database from a backup, in one transaction. Between
// the two, workers may have gone on: no lease from before fits any more, and
// the installation stays frozen until a person has looked at it (G21).
func Restore(ctx context.Context, url string, r io.Reader) error {
	cfg, err := parseURL(url)
	if err != nil {
		return err
	}
	srv := &server{cfg: cfg, bounds: usualBounds}
	c, err := srv.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if err := checkServer(ctx, c, Options{AllowUnsafeServer: true}); err != nil { // Open is strict
		return err
	}
	if err := c.takeTime(ctx); err != nil {
		return fault("restore", err)
	}
	if err := restore(ctx, c, r); err != nil {
		return cause(ctx, fault("restore", err))
	}
	return migrate(ctx, c)
}

func restore(ctx context.Context, c *conn, r io.Reader) error {
	in, header, err := openBackup(r)
	if err != nil {
		return err
	}
	tx, err := c.pg.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing after a commit
	if err := makeEmpty(ctx, tx, header); err != nil {
		return err
	}
	if err := in.fill(ctx, tx, header); err != nil {
		return err
	}
	if err := freeze(ctx, tx, header.At); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// backupReader reads the parts of a backup one after the other.
type backupReader struct {
	zip     *gzip.Reader
	tar     *tar.Reader
	current string // the part at hand; "" at the end
}

func openBackup(r io.Reader) (*backupReader, backupHeader, error) {
	var h backupHeader
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, h, badBackup(err)
	}
	in := &backupReader{zip: zip, tar: tar.NewReader(zip)}
	if err := in.next(); err != nil {
		return nil, h, err
	}
	if in.current != "header.json" {
		return nil, h, badBackup(fmt.Errorf("it begins with %q", in.current))
	}
	if err := json.NewDecoder(io.LimitReader(in.tar, pieceSize)).Decode(&h); err != nil {
		return nil, h, badBackup(err)
	}
	if h.Format != backupFormat {
		return nil, h, badBackup(fmt.Errorf("its format is %q", h.Format))
	}
	for _, t := range h.Tables {
		if !slices.ContainsFunc(tables, func(known struct{ name string }) bool { return known.name == t.Name }) || len(t.Columns) == 0 {
			return nil, h, badBackup(fmt.Errorf("table %q is unknown", t.Name))
		}
	}
	return in, h, in.next()
}

// next goes to the next part.
func (in *backupReader) next() error {
	h, err := in.tar.Next()
	if errors.Is(err, io.EOF) {
		in.current = ""
		return nil
	}
	if err != nil {
		return badBackup(err)
	}
	in.current = h.Name
	return nil
}

func badBackup(err error) error {
	return &job.Error{Code: job.Invalid, Message: "this is no whole backup of nanoos", Why: err.Error(), Err: err,
		Fix: "choose a file that nanoos has written as a backup; nothing was changed"}
}

// makeEmpty makes the schema of a backup, in a database that has none or one
// without content.
func makeEmpty(ctx context.Context, tx pgx.Tx, header backupHeader) error {
	version := header.Schema
	files, err := readMigrations(migrations)
	if err != nil {
		return err
	}
	if version < 1 || version > int64(len(files)) {
		return &job.Error{Code: job.Conflict, Message: "the backup belongs to a newer version of nanoos",
			Why: fmt.Sprintf("it has schema %d; this program knows %d", version, len(files)), Fix: "restore it with that version"}
	}
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass('nanoos.specs') IS NOT NULL").Scan(&exists); err != nil {
		return err
	}
	if exists {
		var used bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM nanoos.specs) OR EXISTS (SELECT 1 FROM nanoos.events)
	OR EXISTS (SELECT 1 FROM nanoos.workers) OR EXISTS (SELECT 1 FROM nanoos.tokens)`).Scan(&used)
		if err != nil {
			return err
		}
		if used {
			return &job.Error{Code: job.Conflict, Message: "the database is in use by nanoos already",
				Why: "it has jobs, events, workers or tokens", Fix: "restore into a new database"}
		}
	}
	steps := []string{"DROP SCHEMA IF EXISTS nanoos CASCADE"}
	steps = append(steps, strings.Split(createSchema, ";\n")...)
	for i, file := range files[:version] {
		steps = append(steps, file...)
		steps = append(steps, fmt.Sprint("INSERT INTO nanoos.schema (version, steps) VALUES (", i+1, ", ", len(file), ")"))
	}
	for _, t := range header.Tables { // what the migrations put there is in the backup, too
		steps = append(steps, "DELETE FROM "+pgx.Identifier{"nanoos", t.Name}.Sanitize())
	}
	for _, s := range steps {
		if _, err := tx.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("make the schema: %w", err)
		}
	}
	return nil
}

// fill copies the tables and checks them against the manifest.
func (in *backupReader) fill(ctx context.Context, tx pgx.Tx, header backupHeader) error {
	got := backupManifest{}
	for _, t := range header.Tables {
		sum, err := in.table(ctx, tx.Conn(), t)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		got[t.Name] = sum
	}
	if in.current != "manifest.json" {
		return badBackup(errNoManifest)
	}
	var want backupManifest
	if err := json.NewDecoder(io.LimitReader(in.tar, pieceSize)).Decode(&want); err != nil {
		return badBackup(err)
	}
	if _, err := io.Copy(io.Discard, in.zip); err != nil { // to its check sum
		return badBackup(err)
	}
	for name, sum := range got {
		if want[name] != sum {
			return badBackup(fmt.Errorf("table %s has %d rows with hash %s, and the manifest says %d with %s",
				name, sum.Rows, sum.SHA256, want[name].Rows, want[name].SHA256))
		}
	}
	return nil
}

// table copies the pieces of one table.
func (in *backupReader) table(ctx context.Context, c *pgx.Conn, t backupTable) (tableSum, error) {
	sum := sha256.New()
	rows := &tableReader{in: in, table: t.Name}
	tag, err := c.PgConn().CopyFrom(ctx, io.TeeReader(rows, sum), "COPY "+t.target()+" FROM STDIN")
	if rows.err != nil {
		err = rows.err
	}
	return tableSum{Rows: tag.RowsAffected(), SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

// tableReader reads the pieces of a table until another part begins.
type tableReader struct {
	in    *backupReader
	table string
	err   error
}

func (r *tableReader) Read(p []byte) (int, error) {
	for path.Dir(r.in.current) == r.table {
		n, err := r.in.tar.Read(p)
		if errors.Is(err, io.EOF) {
			if err = r.in.next(); err != nil {
				r.err = err
				return n, err
			}
			if n == 0 {
				continue
			}
		} else if err != nil {
			r.err = badBackup(err)
			return n, r.err
		}
		return n, nil
	}
	return 0, io.EOF
}

const (
	// The numbers go on behind those of the backup.
	continueNumbers = `
SELECT setval('nanoos.specs_seq_seq', 1 + coalesce((SELECT max(seq) FROM nanoos.specs), 0), false),
	setval('nanoos.lanes_id_seq', 1 + coalesce((SELECT max(id) FROM nanoos.lanes), 0), false)`
	raiseIncarnation = `
INSERT INTO nanoos.meta (key, value) VALUES ('incarnation', '1')
ON CONFLICT (key) DO UPDATE SET value = (nanoos.meta.value::bigint + 1)::text`
	// raiseFences puts every lease of before behind: the bits above the fortieth
	// of a fence count the restores, and no job has 2^40 owners.
	raiseFences = `
UPDATE nanoos.jobs SET fence = fence + (1::bigint << 40), rev = rev + 1 WHERE state IN ('PENDING', 'QUEUED', 'RUNNING')`
)

// freeze makes the database of a restored installation out of a backup.
func freeze(ctx context.Context, tx pgx.Tx, backup time.Time) error {
	var now time.Time
	if err := tx.QueryRow(ctx, selectNow).Scan(&now); err != nil {
		return err
	}
	why := fmt.Sprintf("restored at %s from the backup of %s", now.UTC().Format(time.RFC3339), backup.UTC().Format(time.RFC3339))
	for _, s := range []statement{{continueNumbers, nil}, {raiseIncarnation, nil}, {raiseFences, nil}, {upsertMeta, []any{"frozen", why}}} {
		if _, err := tx.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
	}
	return nil
}
