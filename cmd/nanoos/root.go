package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nano-os/nanoos/internal/engine"
)

// streams are what a command reads and writes. Standard output carries data
// only; everything else goes to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share: the streams, the flags that they have in
// common, and the outside world.
type app struct {
	io      streams
	opt     options
	getenv  func(string) string
	now     func() time.Time
	engines []engine.Engine
}

// options are the flags that every command has.
type options struct {
	url       string
	output    string
	columns   string
	noHeaders bool
	utc       bool
	colour    string
	quiet     bool
	debug     bool
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, io streams) int {
	a := &app{io: io, getenv: os.Getenv, now: time.Now, engines: engines()}
	a.opt.output = outputAsked(args, a.getenv)
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	a.report(err)
	return exitCode(err)
}

// outputAsked finds -o before the flags are parsed, so that a mistake in
// another flag is reported in the form asked for.
func outputAsked(args []string, getenv func(string) string) string {
	asked := getenv("NANOOS_OUTPUT")
	for i, arg := range args {
		switch {
		case arg == "--":
			return asked
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			asked = args[i+1]
		case strings.HasPrefix(arg, "--output="):
			asked = strings.TrimPrefix(arg, "--output=")
		case strings.HasPrefix(arg, "-o") && !strings.HasPrefix(arg, "--"):
			asked = strings.TrimPrefix(strings.TrimPrefix(arg, "-o"), "=")
		}
	}
	return asked
}

// Groups of commands in the overview.
const (
	groupStart = "start"
	groupJobs  = "jobs"
	groupSite  = "site"
	groupMore  = "more"
)

func newRoot(a *app) *cobra.Command {
	// The order in which commands are added here is the order of the help.
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "nanoos",
		Short: "Run materials simulations: queue them, watch them converge, keep what they found.",
		Example: `nanoos run examples/silicon/scf.yaml
nanoos up
nanoos submit pw.in --cores 4 --follow`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkOptions() },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(a.io.out)
	root.SetErr(a.io.err)
	root.SetIn(a.io.in)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { a.help(cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { a.help(cmd); return nil })
	root.SetFlagErrorFunc(flagError)
	a.addOptions(root)
	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start here"},
		&cobra.Group{ID: groupJobs, Title: "Jobs"},
		&cobra.Group{ID: groupSite, Title: "The installation"},
		&cobra.Group{ID: groupMore, Title: "More"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupStart, newRunCommand(a), newUpCommand(a), newSubmitCommand(a), newParseCommand(a), newStructureNoun(a), newDoctorCommand(a))
	add(groupJobs, jobCommands(a)...)
	add(groupJobs, newTopCommand(a), newJobNoun(a))
	add(groupSite, newStatusCommand(a), newQueueNoun(a), newWorkerCommand(a), newServerCommand(a), newTokenNoun(a), newEngineNoun(a))
	add(groupMore, newBenchCommand(a), newVersionCommand(a), newCompletionCommand(a), newHelpCommand(a, root))
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	return root
}

// jobCommands are the verbs that people use daily, as they appear both at the
// top and below the noun job.
func jobCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newListCommand(a), newGetCommand(a), newLogsCommand(a), newWatchCommand(a), newWaitCommand(a),
		newCancelCommand(a), newRetryCommand(a), newHoldCommand(a), newReleaseCommand(a), newExplainCommand(a),
	}
}

func newJobNoun(a *app) *cobra.Command {
	noun := nounCommand("job", "jobs", "Everything that can be done with jobs, by noun and verb.", `nanoos job list --state failed
nanoos job events @last
nanoos job cp @last pw.in .`)
	noun.AddCommand(jobCommands(a)...)
	noun.AddCommand(newFilesCommand(a), newCopyCommand(a), newPriorityCommand(a), newEventsCommand(a))
	return noun
}

// nounCommand is a command that only holds verbs.
func nounCommand(name, plural, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: name, Aliases: []string{plural}, Short: short, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(append(known, c.Name()), c.Aliases...)
		}
	}
	fix := "see: " + cmd.CommandPath() + " --help"
	if advice := didYouMean(word, slices.Values(known)); advice != "" {
		fix = advice
	}
	return usage(fix, "there is no command %q", strings.TrimPrefix(cmd.CommandPath()+" "+word, "nanoos "))
}

// flagError words a mistake in the flags, with the flag that was meant.
func flagError(cmd *cobra.Command, err error) error {
	message := err.Error()
	fix := "see: " + cmd.CommandPath() + " --help"
	if name, ok := strings.CutPrefix(message, "unknown flag: --"); ok {
		name, _, _ = strings.Cut(name, "=")
		message = "there is no flag --" + name
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if advice := didYouMean(name, slices.Values(known)); advice != "" {
			fix = strings.ReplaceAll(advice, `"`, "")
			fix = strings.Replace(fix, "mean ", "mean --", 1)
		}
	} else if shorthand, ok := strings.CutPrefix(message, "unknown shorthand flag: "); ok {
		message = "there is no flag " + shorthand
	}
	return usage(fix, "%s", message)
}

func (a *app) addOptions(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&a.opt.output, "output", "o", orDefault(a.opt.output, "table"), "`FORMAT`: "+strings.Join(formats, ", "))
	f.StringVar(&a.opt.columns, "columns", "", "`NAMES` of the columns of a table or csv, or help")
	f.BoolVar(&a.opt.noHeaders, "no-headers", false, "leave out the headers of a table or csv")
	f.BoolVar(&a.opt.utc, "utc", false, "show times in UTC")
	f.StringVar(&a.opt.colour, "color", "auto", "`WHEN` to use colour: always, never, auto")
	f.BoolVar(&a.opt.quiet, "quiet", false, "say nothing but the data and errors")
	f.StringVar(&a.opt.url, "url", "", "`ADDRESS` of the server (NANOOS_URL; else the one that runs here)")
	f.BoolVar(&a.opt.debug, "debug", false, "show the cause behind an error")
	group(root, "Output", "output", "columns", "no-headers", "utc", "color", "quiet")
	group(root, "Connection", "url", "debug")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"always", "never", "auto"}, cobra.ShellCompDirectiveNoFileComp))
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (a *app) checkOptions() error {
	if !slices.Contains(formats, a.opt.output) {
		fix := didYouMean(a.opt.output, slices.Values(formats))
		return usage(strings.TrimSpace(fix+" One of: "+strings.Join(formats, ", ")), "there is no output format %q", a.opt.output)
	}
	if !slices.Contains([]string{"always", "never", "auto"}, a.opt.colour) {
		return usage("one of: always, never, auto", "--color %s is not known", a.opt.colour)
	}
	return nil
}

func (a *app) outScreen() screen { return newScreen(a.io.out, a.opt.colour, a.getenv) }
func (a *app) errScreen() screen { return newScreen(a.io.err, a.opt.colour, a.getenv) }

// cells is how values are written on standard output.
func (a *app) cells() *cells {
	s := a.outScreen()
	zone := time.Local
	if a.opt.utc {
		zone = time.UTC
	}
	return &cells{now: a.now(), relative: s.tty && a.opt.output != "wide", zone: zone, screen: s}
}

// note tells people something on standard error.
func (a *app) note(format string, args ...any) {
	if !a.opt.quiet {
		fmt.Fprintf(a.io.err, "%s\n", oneLine(fmt.Sprintf(format, args...)))
	}
}

// data reports whether the answer is meant for a program.
func (a *app) data() bool { return a.opt.output != "table" && a.opt.output != "wide" }

// exactArgs and minArgs refuse a wrong number of arguments in our words.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("nanoos "+strings.TrimPrefix(cmd.UseLine(), "nanoos "), "%s takes %s, not %d arguments", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

func minArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usage("see: "+cmd.CommandPath()+" --help", "%s needs %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("see: "+cmd.CommandPath()+" --help", "%s takes no argument %q", cmd.CommandPath(), args[0])
	}
	return nil
}
