package postgres

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
)

// Scratch makes an empty database beside the one that raw names, which it does
// not touch, and returns the address of the new one and what drops it again.
func Scratch(ctx context.Context, raw string) (scratch string, drop func(context.Context) error, err error) {
	cfg, err := parseURL(raw)
	if err != nil {
		return "", nil, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", nil, badURL("it is not a URL")
	}
	name := "nanoos_scratch_" + strings.ToLower(string(job.NewID()))
	u.Path = "/" + name
	srv := &server{cfg: cfg, bounds: usualBounds}
	quoted := pgx.Identifier{name}.Sanitize()
	if err := srv.run(ctx, "CREATE DATABASE "+quoted+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		return "", nil, &job.Error{Code: job.Unavailable, Message: "cannot make a database to measure in", Why: err.Error(), Err: err,
			Fix: "name a user with the right CREATEDB"}
	}
	return u.String(), func(ctx context.Context) error {
		if err := srv.run(ctx, "DROP DATABASE "+quoted); err != nil {
			return fmt.Errorf("drop the database %s: %w", name, err)
		}
		return nil
	}, nil
}

// run executes one statement, which may take its time, in a session of its own.
func (s *server) run(ctx context.Context, statement string) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.pg.Exec(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	_, err = c.pg.Exec(ctx, statement)
	return err
}
