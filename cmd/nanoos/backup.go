package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres"
	"github.com/nano-os/nanoos/internal/store/sqlite"
)

// offline is a command on the database itself, without a server.
func (a *app) offline(use, short, long, example string, args cobra.PositionalArgs, do func(context.Context, config, []string) error) *cobra.Command {
	var flags config
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: args}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := a.configured(cmd, flags)
		if err != nil {
			return err
		}
		return do(cmd.Context(), cfg, args)
	}
	flags.dataFlag(cmd)
	flags.databaseFlags(cmd)
	return cmd
}

func newServerBackup(a *app) *cobra.Command {
	return a.offline("backup FILE", "Write the state of one moment to a file, while everything runs.",
		`The file holds the database: jobs, results, history, tokens (their digests). Files of runs lie in the artifacts
directory, whose files never change once written: copy it after this command, with any tool.`,
		`nanoos server backup /backup/monday.nanoos --database postgres://nanoos@db/nanoos
nanoos server backup /backup/monday.db --data /var/lib/nanoos
nanoos server restore /backup/monday.nanoos --database postgres://nanoos@db/fresh`,
		exactArgs(1, "the file to write"), a.backup)
}

func (a *app) backup(ctx context.Context, cfg config, args []string) error {
	path := args[0]
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return &job.Error{Code: job.Conflict, Message: path + " is there already", Fix: "a backup overwrites nothing: choose another name"}
	}
	var err error
	if cfg.Database == "" {
		err = sqlite.Backup(ctx, cfg.sqliteFile(), path)
	} else {
		err = backupPostgres(ctx, cfg.Database, path)
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", cfg.databaseName(), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	a.note("wrote %s, %d bytes; now copy the artifacts: %s", path, info.Size(), cfg.artifacts())
	return nil
}

// backupPostgres writes beside the name asked for and renames at the end, so
// that what has the name is whole.
func backupPostgres(ctx context.Context, url, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".backup-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	db, err := postgres.Open(ctx, url, postgres.Options{})
	if err == nil {
		err = errors.Join(db.Backup(ctx, f), db.Close())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func newServerRestore(a *app) *cobra.Command {
	return a.offline("restore FILE", "Put a backup into an empty database; it starts frozen.",
		`Nothing that ran before the restore can speak for a job any more. The restored installation starts frozen: it can be
looked at, but runs nothing until "nanoos server thaw". Restore the artifacts directory as well, with the tool that copied it.`,
		`nanoos server restore /backup/monday.nanoos --database postgres://nanoos@db/fresh
nanoos server restore /backup/monday.db --data /var/lib/nanoos
nanoos server thaw --database postgres://nanoos@db/fresh`,
		exactArgs(1, "the file of a backup"), a.restore)
}

func (a *app) restore(ctx context.Context, cfg config, args []string) error {
	var err error
	if cfg.Database == "" {
		if err := makeDataDir(cfg.Data); err != nil {
			return err
		}
		err = sqlite.Restore(ctx, args[0], cfg.sqliteFile())
	} else {
		var f *os.File
		if f, err = os.Open(args[0]); err == nil {
			err = errors.Join(postgres.Restore(ctx, cfg.Database, f), f.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", args[0], err)
	}
	a.note("restored into %s; it is frozen", cfg.databaseName())
	a.note("look at it, restore the artifacts to %s, start the servers, then: nanoos server thaw", cfg.artifacts())
	return nil
}

func newServerThaw(a *app) *cobra.Command {
	return a.offline("thaw", "Let a restored installation run again.",
		`Workers then say what is on their disks: programs that still run are taken over where the backup knows of them, and
stopped where their job has ended or lives elsewhere.`,
		`nanoos server thaw --database postgres://nanoos@db/nanoos
nanoos server thaw --data /var/lib/nanoos
nanoos server check --data /var/lib/nanoos`,
		noArgs, a.thaw)
}

func (a *app) thaw(ctx context.Context, cfg config, _ []string) error {
	return withDatabase(ctx, cfg, func(db database) error {
		if err := queue.New(db, queue.Options{}).Thaw(ctx, queue.Actor{By: userName()}); err != nil {
			return err
		}
		a.note("%s runs again", cfg.databaseName())
		return nil
	})
}

func newServerCheck(a *app) *cobra.Command {
	return a.offline("check", "Look whether the database can be used, and what is in it.",
		`It opens the database as a server would: it brings the tables up to date and refuses what a server would refuse.`,
		`nanoos server check --database postgres://nanoos@db/nanoos
nanoos server check --data /var/lib/nanoos
DATABASE_URL=postgresql+asyncpg://nanoos@db/nanoos nanoos server check`,
		noArgs, a.checkDatabase)
}

func (a *app) checkDatabase(ctx context.Context, cfg config, _ []string) error {
	return withDatabase(ctx, cfg, func(db database) error {
		return db.Read(ctx, func(tx store.ReadTx) error {
			counts, err := tx.Counts(ctx, "")
			if err != nil {
				return err
			}
			frozen, err := tx.Meta(ctx, "frozen")
			if err != nil {
				return err
			}
			var jobs, open int64
			for _, c := range counts {
				jobs += c.Jobs
				if !c.State.Terminal() {
					open += c.Jobs
				}
			}
			state := "in use"
			if frozen != "" {
				state = "frozen after a restore: nanoos server thaw"
			}
			_, err = fmt.Fprintf(a.io.out, "database: %s\njobs: %d, not ended: %d\nstate: %s\n", cfg.databaseName(), jobs, open, state)
			return err
		})
	})
}

// userName is who gives a command on this machine, for the record.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

func withDatabase(ctx context.Context, cfg config, fn func(database) error) (err error) {
	if cfg.Database == "" {
		if _, err := os.Stat(cfg.sqliteFile()); err != nil {
			return &job.Error{Code: job.NotFound, Message: "there is no database in " + cfg.Data,
				Why: err.Error(), Fix: "name another directory with --data, or PostgreSQL with --database"}
		}
	}
	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(db)
}
