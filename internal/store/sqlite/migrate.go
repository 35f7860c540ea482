package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/pressly/goose/v3"

	"github.com/nano-os/nanoos/internal/job"
)

// Migrations only add; what a later one removes, no program of the release
// before uses any more (S9).
//
//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is the newest migration this program knows.
const schemaVersion = 3

// migrate brings the schema up to schemaVersion. A newer schema is left as it
// is, and refused if its min_reader says that this program cannot work on it.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if version > schemaVersion {
		return checkReader(ctx, db, version)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from version %d: %w", version, err)
	}
	return nil
}

func checkReader(ctx context.Context, db *sql.DB, version int64) error {
	var text string
	err := db.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'min_reader'").Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read min_reader: %w", err)
	}
	if min, err := strconv.ParseInt(text, 10, 64); err == nil && min <= schemaVersion {
		return nil
	}
	return &job.Error{
		Code:    job.Conflict,
		Message: "the database belongs to a newer version of nanoos",
		Why:     fmt.Sprintf("its schema %d needs a program for schema %s or later; this one knows %d", version, text, schemaVersion),
		Fix:     "start the newer version, or restore the backup from before the upgrade",
	}
}
