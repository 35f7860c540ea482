package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nano-os/nanoos/internal/store/postgres"
	"github.com/nano-os/nanoos/internal/store/sqlite"
)

// benchPlace is a kind of database to measure on.
type benchPlace struct {
	name string
	url  string // of PostgreSQL; empty means SQLite
}

func (b *bench) places() []benchPlace {
	places := []benchPlace{{name: "sqlite"}}
	if b.opt.database != "" {
		places = append(places, benchPlace{"postgresql", b.opt.database})
	}
	return places
}

// bed is a server on a database of its own, and the limit on another.
type bed struct {
	*serving
	place benchPlace
	limit bareLoop
	ends  []func() error // in reverse order
}

// openBed opens a server that is not known to anybody, and lets it run.
func (b *bench) openBed(ctx context.Context, place benchPlace) (*bed, error) {
	o := &bed{place: place}
	if err := b.openParts(ctx, o); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (b *bench) openParts(ctx context.Context, o *bed) error {
	dir, err := os.MkdirTemp(b.dir, "bed-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	o.ends = append(o.ends, func() error { return os.RemoveAll(dir) })
	cfg := config{Data: dir, Listen: "127.0.0.1:0"}
	if cfg.Database, err = o.scratch(ctx); err != nil {
		return err
	}
	if o.serving, err = openServing(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	o.start(ctx)
	if err := b.noteDurable(ctx, o); err != nil {
		return err
	}
	return o.openLimit(ctx, filepath.Join(dir, "limit"))
}

// scratch makes a database on PostgreSQL, for SQLite none is needed.
func (o *bed) scratch(ctx context.Context) (string, error) {
	if o.place.url == "" {
		return "", nil
	}
	url, drop, err := postgres.Scratch(ctx, o.place.url)
	if err != nil {
		return "", err
	}
	o.ends = append(o.ends, func() error { return drop(context.WithoutCancel(ctx)) })
	return url, nil
}

func (o *bed) openLimit(ctx context.Context, dir string) error {
	url, err := o.scratch(ctx)
	if err != nil {
		return err
	}
	if url == "" {
		o.limit.statements, err = sqlite.OpenLimit(dir)
	} else {
		o.limit.statements, err = postgres.OpenLimit(ctx, url, postgres.Options{})
	}
	if err != nil {
		return fmt.Errorf("open the limit: %w", err)
	}
	o.ends = append(o.ends, o.limit.statements.Close)
	return nil
}

// start runs the server until the bed is closed.
func (o *bed) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	var failed error
	running.Go(func() { failed = runParts(ctx, part{"queue", o.queue.Maintain}, part{"server", o.serve}) })
	o.ends = append(o.ends, func() error {
		cancel()
		running.Wait()
		o.serving.close()
		return failed
	})
}

func (o *bed) close() error {
	var errs []error
	for _, end := range slices.Backward(o.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// noteDurable writes down once what a commit of this database waits for.
func (b *bench) noteDurable(ctx context.Context, o *bed) error {
	known := func(d benchDatabase) bool { return d.Name == o.place.name }
	if slices.ContainsFunc(b.report.Durable, known) {
		return nil
	}
	durable, err := o.store.(interface {
		Durable(context.Context) (string, error)
	}).Durable(ctx)
	if err != nil {
		return err
	}
	b.report.Durable = append(b.report.Durable, benchDatabase{o.place.name, durable})
	return nil
}

// bare is the limit's turn.
func (o *bed) bare(about string, run func(context.Context) (sample, error)) *contestant {
	return &contestant{way: "limit", about: about, run: run}
}

// overHTTPOnly are goals of the rows that are measured over HTTP.
func overHTTPOnly(goals ...benchGoal) func(string) []benchGoal {
	return func(way string) []benchGoal {
		if way != "http" {
			return nil
		}
		return goals
	}
}
