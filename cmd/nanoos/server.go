package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

func newServerCommand(a *app) *cobra.Command {
	var flags config
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve workers and clients; any number of servers share one PostgreSQL.",
		Long: `Serve workers and clients; any number of servers share one PostgreSQL.

The database is named by --database, NANOOS_DATABASE or DATABASE_URL; the tables lie in the schema nanoos, beside
whatever else is there. All servers need the same --artifacts directory. Without a database it keeps everything in
the data directory: then it is the only server, and workers on other machines can still use it.

No job runs here: start "nanoos worker" on the machines that compute. See docs/guide/cluster.md.`,
		Example: `nanoos server --database postgres://nanoos@db/nanoos --artifacts /shared/nanoos
nanoos server --listen 0.0.0.0:8080 --tls-cert server.pem --tls-key server.key
nanoos server backup /backup/nanoos-monday`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cfg, err := a.configured(cmd, flags)
			if err != nil {
				return err
			}
			return a.server(cmd.Context(), cfg)
		},
	}
	flags.dataFlag(cmd)
	flags.databaseFlags(cmd)
	flags.serverFlags(cmd)
	cmd.AddCommand(newServerBackup(a), newServerRestore(a), newServerThaw(a), newServerCheck(a))
	return cmd
}

// server opens a server and runs it until ctx ends.
func (a *app) server(ctx context.Context, cfg config) error {
	if err := cfg.checkTimes(); err != nil {
		return err
	}
	s, err := openServing(ctx, cfg, a.logger())
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Fprintf(a.io.err, "nanoos %s serves at %s\n", version, s.url())
	fmt.Fprintf(a.io.err, "  database: %s; files in %s\n", cfg.databaseName(), cfg.artifacts())
	s.printNotes(a.io.err)
	fmt.Fprintf(a.io.err, "  try:  nanoos worker --server %s\n", s.url())
	if err := s.announce(); err != nil {
		return err
	}
	defer s.withdraw()
	return s.run(ctx)
}

// openServing opens a server without a worker. What it has opened it closes
// again when a later part fails.
func openServing(ctx context.Context, cfg config, log *slog.Logger) (*serving, error) {
	s := &serving{cfg: cfg, log: log, engines: engines()}
	err := s.openStore(ctx)
	here := runsHere{inputs: elsewhere(cfg.Settings)}
	if err == nil {
		err = s.openQueue(ctx, here)
	}
	if err == nil {
		err = s.openServer(ctx, here)
	}
	if err == nil {
		err = s.openCelery(ctx, nil)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// elsewhere is what a server knows of the machines that will run the jobs: the
// libraries that its configuration names, for these are shared, and no program.
func elsewhere(set worker.Settings) func(string) engine.Inputs {
	shared := worker.Machine{Libraries: set.Libraries}
	return shared.Inputs
}

// databaseName names the database for people, without its password.
func (c config) databaseName() string {
	if c.Database == "" {
		return c.sqliteFile()
	}
	return redacted(c.Database, "PostgreSQL")
}

// minPeriod keeps a busy machine from looking dead.
const minPeriod = job.Duration(100 * time.Millisecond)

// checkTimes refuses periods that would make live workers look dead.
func (c config) checkTimes() error {
	var problems []job.Problem
	add := func(flag, message, fix string) {
		problems = append(problems, job.Problem{Field: flag, Message: message, Fix: fix})
	}
	times := []struct {
		flag string
		d    job.Duration
	}{{"session", c.Session}, {"lost-after", c.LostAfter}, {"sweep", c.Sweep}, {"beat", c.Beat}}
	for _, t := range times {
		if t.d != 0 && t.d < minPeriod {
			add(t.flag, fmt.Sprintf("%s is too short", t.d), fmt.Sprintf("at least %s", minPeriod))
		}
	}
	if c.Session != 0 && c.LostAfter != 0 && c.LostAfter < c.Session {
		add("lost-after", "it is shorter than the session", "give a worker at least as long as contact may be silent")
	}
	return job.InvalidInput("the periods do not fit together", problems)
}
