package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// bench is one run of the measurements.
type bench struct {
	opt    benchOptions
	dir    string
	report benchReport
	say    func(format string, args ...any)
}

// benchOptions are what a person may choose.
type benchOptions struct {
	data     string
	database string
	rows     []string
	quick    bool
	n        int // jobs per measurement, about
	rounds   int
	backlog  int // jobs that fit, behind which is claimed
	unfit    int // jobs that do not fit
	asleep   int // jobs that run while memory is looked at
}

// benchGroup is a part of the measurements that can be chosen by name. Each
// gets databases of its own, so that none finds what another has left.
type benchGroup struct {
	name  string
	about string
	run   func(*bench, context.Context, benchPlace) error
}

func benchGroups() []benchGroup {
	return []benchGroup{
		{"submit", "one job a call by 1 and 8 clients, and 1 000 jobs a call", (*bench).submit},
		{"drain", "claim, and finish with a stored result", (*bench).drain},
		{"pickup", "from the submission to an idle worker's hands, and at 300 jobs a second", (*bench).pickup},
		{"backlog", "claims beside many jobs that fit, and behind many that do not", (*bench).backlog},
		{"process", "processes that end at once, 4 at a time", (*bench).process},
		{"memory", "what a server and a worker occupy, idle and with many jobs", (*bench).memory},
	}
}

func newBenchCommand(a *app) *cobra.Command {
	var opt benchOptions
	groups := benchGroups()
	names := make([]string, len(groups))
	var about strings.Builder
	for i, g := range groups {
		names[i] = g.name
		fmt.Fprintf(&about, "  %-8s %s\n", g.name, g.about)
	}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure submit, drain, pickup and memory beside the limit of this machine.",
		Long: `Measure submit, drain, pickup and memory beside the limit of this machine.

The limit is a bare loop that issues the same statements, in the same round as nanoos itself: compare the ratios, for
the rates depend on who else uses the machine. Every commit is durable, as in real use. It measures on SQLite, and
with --database on PostgreSQL, too: in databases of its own, which it drops; the one that is named is not touched.

` + about.String(),
		Example: `nanoos bench --quick
nanoos bench --database postgres://nanoos@db/postgres -o json
nanoos bench --rows drain,pickup --rounds 5`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.quick {
				opt.shorten(cmd.Flags().Changed)
			}
			return a.bench(cmd.Context(), opt)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.data, "data", "", "parent of the temporary data directory (default: the system's)")
	f.StringVar(&opt.database, "database", "", "`URL` of a PostgreSQL in which databases may be made")
	f.StringSliceVar(&opt.rows, "rows", nil, "only these: "+strings.Join(names, ", "))
	f.BoolVar(&opt.quick, "quick", false, "a look in a minute: one round, few jobs")
	f.IntVarP(&opt.n, "number", "n", 2000, "jobs per measurement, about")
	f.IntVar(&opt.rounds, "rounds", 3, "how often each measurement and its limit take turns")
	f.IntVar(&opt.backlog, "backlog", 1_000_000, "jobs that fit, queued beside those that are claimed")
	f.IntVar(&opt.unfit, "unfit", 150_000, "jobs that do not fit, queued before those that are claimed")
	f.IntVar(&opt.asleep, "asleep", 1000, "jobs that run while memory is looked at")
	cmd.AddCommand(newBenchCeleryCommand(a))
	return cmd
}

// shorten makes a quick run of what was not asked for.
func (o *benchOptions) shorten(asked func(string) bool) {
	for _, f := range []struct {
		flag  string
		field *int
		quick int
	}{{"number", &o.n, 300}, {"rounds", &o.rounds, 1}, {"backlog", &o.backlog, 20_000}, {"unfit", &o.unfit, 5000}, {"asleep", &o.asleep, 20}} {
		if !asked(f.flag) {
			*f.field = f.quick
		}
	}
}

func (o *benchOptions) check() error {
	var problems []job.Problem
	for _, f := range []struct {
		flag        string
		value       int
		least, most int
	}{{"number", o.n, 10, 100_000}, {"rounds", o.rounds, 1, 100}, {"backlog", o.backlog, 1000, 1_000_000}, {"unfit", o.unfit, 1000, 990_000}, {"asleep", o.asleep, 1, 5000}} {
		if f.value < f.least || f.value > f.most {
			problems = append(problems, job.Problem{Field: "--" + f.flag, Message: fmt.Sprintf("cannot measure with %d", f.value),
				Fix: fmt.Sprintf("choose %d … %d", f.least, f.most)})
		}
	}
	groups := benchGroups()
	for _, name := range o.rows {
		if !slices.ContainsFunc(groups, func(g benchGroup) bool { return g.name == name }) {
			problems = append(problems, job.Problem{Field: "--rows", Message: fmt.Sprintf("there is no measurement %q", name), Fix: "nanoos bench --help lists them"})
		}
	}
	return job.InvalidInput("nothing was measured", problems)
}

func (a *app) bench(ctx context.Context, opt benchOptions) (err error) {
	if err := opt.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(opt.data, "nanoos-bench-")
	if err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	b := &bench{opt: opt, dir: dir, say: func(format string, args ...any) {
		fmt.Fprintf(a.io.err, "%4.0fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}}
	b.report = benchReport{
		APIVersion: api.Version, Kind: "BenchReport", Version: version, At: began.UTC(), CPUs: runtime.NumCPU(), Load: loadAverage(),
		Number: opt.n, Rounds: opt.rounds, Backlog: opt.backlog, Unfit: opt.unfit, Asleep: opt.asleep,
	}
	if err := b.measureAll(ctx); err != nil {
		return err
	}
	if a.opt.output == "json" {
		enc := json.NewEncoder(a.io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(b.report)
	}
	return b.report.print(a.io.out)
}

// measureAll goes through the chosen groups, each on one database after the
// other.
func (b *bench) measureAll(ctx context.Context) error {
	for _, g := range benchGroups() {
		if len(b.opt.rows) > 0 && !slices.Contains(b.opt.rows, g.name) {
			continue
		}
		for _, place := range b.places() {
			b.say("%s on %s", g.name, place.name)
			if err := g.run(b, ctx, place); err != nil {
				return fmt.Errorf("measure %s on %s: %w", g.name, place.name, err)
			}
		}
	}
	return nil
}
