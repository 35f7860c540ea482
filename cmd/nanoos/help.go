package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// groupAnnotation names the group that a flag is listed in.
const groupAnnotation = "nanoos_group"

// group puts flags of a command under a heading of its help.
func group(cmd *cobra.Command, heading string, names ...string) {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f == nil {
			f = cmd.PersistentFlags().Lookup(name)
		}
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[groupAnnotation] = []string{heading}
	}
}

// help writes the help of a command to standard output.
func (a *app) help(cmd *cobra.Command) {
	s := a.outScreen()
	var b strings.Builder
	text := cmd.Short
	if cmd.Long != "" {
		text += "\n\n" + cmd.Long
	}
	b.WriteString(text + "\n")
	heading := func(title string) { b.WriteString("\n" + s.paint(bold, title) + "\n") }
	heading("Usage")
	b.WriteString("  " + strings.Join(usages(cmd), "\n  ") + "\n")
	if verbs := shortForms(cmd); verbs != "" {
		b.WriteString("  Also: " + verbs + "\n")
	}
	if cmd.Example != "" {
		heading("Examples")
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			b.WriteString("  " + line + "\n")
		}
	}
	writeCommands(&b, cmd, heading)
	writeFlags(&b, cmd, heading)
	if cmd.Parent() == nil {
		b.WriteString("\nHelp on a command: nanoos COMMAND --help. More: nanoos help exit-codes, formatting, environment.\n")
	}
	fmt.Fprint(a.io.out, b.String())
}

// usages are the ways to call a command: itself, and with the name of one below.
func usages(cmd *cobra.Command) []string {
	if !cmd.HasAvailableSubCommands() {
		return []string{cmd.UseLine()}
	}
	below := cmd.CommandPath() + " COMMAND [flags]"
	if cmd.Flags().Lookup("data") == nil {
		return []string{below}
	}
	return []string{cmd.UseLine(), below} // a process that can also be looked after
}

func shortForms(cmd *cobra.Command) string {
	var out []string
	for _, alias := range cmd.Aliases {
		out = append(out, strings.TrimSpace(cmd.Parent().CommandPath()+" "+alias))
	}
	return strings.Join(out, ", ")
}

func writeCommands(b *strings.Builder, cmd *cobra.Command, heading func(string)) {
	list := func(match func(*cobra.Command) bool) {
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && match(c) {
				fmt.Fprintf(b, "  %s  %s\n", pad(c.Name(), 10), c.Short)
			}
		}
	}
	if len(cmd.Groups()) == 0 {
		if cmd.HasAvailableSubCommands() {
			heading("Commands")
			list(func(*cobra.Command) bool { return true })
		}
		return
	}
	for _, g := range cmd.Groups() {
		heading(g.Title)
		list(func(c *cobra.Command) bool { return c.GroupID == g.ID })
	}
}

func writeFlags(b *strings.Builder, cmd *cobra.Command, heading func(string)) {
	groups := map[string][]*pflag.Flag{}
	var order []string
	visit := func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "Flags"
		if g := f.Annotations[groupAnnotation]; len(g) > 0 {
			name = g[0]
		}
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		groups[name] = append(groups[name], f)
	}
	cmd.Flags().SortFlags = false
	cmd.PersistentFlags().SortFlags = false
	cmd.LocalFlags().VisitAll(visit)
	cmd.InheritedFlags().VisitAll(visit)
	for _, last := range []string{"Output", "Connection"} {
		if i := slices.Index(order, last); i >= 0 {
			order = append(slices.Delete(order, i, i+1), last)
		}
	}
	for _, name := range order {
		heading(name)
		longest := 0
		var left, right []string
		for _, f := range groups[name] {
			l, r := flagHelp(f)
			left, right = append(left, l), append(right, r)
			longest = max(longest, len(l))
		}
		for i := range left {
			fmt.Fprintf(b, "  %s  %s\n", pad(left[i], longest), right[i])
		}
	}
}

func flagHelp(f *pflag.Flag) (left, right string) {
	value, text := pflag.UnquoteUsage(f)
	left = "    --" + f.Name
	if f.Shorthand != "" {
		left = "-" + f.Shorthand + ", --" + f.Name
	}
	if value != "" {
		left += " " + strings.ToUpper(value)
		// The name of the value begins its explanation, where it is a word.
		if rest, ok := strings.CutPrefix(text, value); ok {
			text = strings.ToLower(value) + rest
		}
	}
	switch f.DefValue {
	case "", "false", "0", "[]", "0s", "-1":
	default:
		text += " (default " + f.DefValue + ")"
	}
	return left, text
}

// newHelpCommand shows the help of a command, or a topic.
func newHelpCommand(a *app, root *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Help on a command, or on exit-codes, formatting, environment.",
		Example: `nanoos help submit
nanoos help exit-codes
nanoos help environment`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				a.help(root)
				return nil
			}
			if text, ok := topics[args[0]]; ok && len(args) == 1 {
				_, err := fmt.Fprint(a.io.out, text)
				return err
			}
			target, rest, err := root.Find(args)
			if err == nil && len(rest) == 0 && target != root {
				a.help(target)
				return nil
			}
			var known []string
			for name := range topics {
				known = append(known, name)
			}
			for _, c := range root.Commands() {
				known = append(append(known, c.Name()), c.Aliases...)
			}
			fix := didYouMean(args[0], slices.Values(known))
			return usage(orDefault(fix, "see: nanoos --help"), "there is no help on %q", strings.Join(args, " "))
		},
	}
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"exit-codes", "formatting", "environment"}, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// topics are texts on what concerns many commands.
var topics = map[string]string{
	"exit-codes": `Exit codes are part of the contract with scripts.

    0  done
    1  unexpected error
    2  wrong usage: a flag or an argument
    3  not found, or the id is ambiguous
    4  not signed in, or not allowed
    5  conflict: the job is not in a state that allows this
    6  quota or rate limit
    7  the server cannot be reached
    8  the input was rejected
    9  partly done: some of several items failed
   10  run, wait: at least one job failed or was quarantined
   11  run, wait: at least one job was cancelled, none failed
   12  wait: the time limit was reached, a job still goes on
   13  wait --require-converged: finished but not converged
  130  interrupted
  141  the reader of the output went away

`,
	"formatting": `Standard output carries data only; notes, progress and errors go to standard
error, so this always works:  nanoos ls -o json | jq

  -o table   columns that fit the terminal (default); nothing is cut elsewhere
  -o wide    all columns
  -o json    one document; lists are {items, next, total}
  -o jsonl   one object a line
  -o yaml    as json
  -o csv     comma-separated, exact values
  -o id      ids only, one a line

  --columns a,b,c   choose columns of table, wide and csv; --columns help lists them
  --no-headers      leave the headers out
  --utc             times in UTC

In JSON, times are ISO 8601 in UTC, durations seconds, sizes bytes, and other
quantities carry their unit in the name: energy_eV.
On a terminal times are relative and colours are used; NO_COLOR, CLICOLOR_FORCE,
TERM=dumb and --color change that.

Ids: the full id, any unambiguous beginning or end of at least 6 characters, the
job's name if it is unique, @last, @last-1 …, or - for ids from standard input.
`,
	"environment": `Settings come from the flag, then the environment, then the default.

  NANOOS_URL         address of the server; else the one that runs on this machine
  NANOOS_TOKEN       token of the server
  NANOOS_OUTPUT      default of -o
  XDG_STATE_HOME     the data of "nanoos up" and "nanoos run" is in $XDG_STATE_HOME/nanoos
                     (default ~/.local/state/nanoos)
  ESPRESSO_PSEUDO    directory of pseudopotentials
  LAMMPS_POTENTIALS  directory of potentials

  NO_COLOR, CLICOLOR_FORCE, FORCE_COLOR, TERM, COLUMNS, TZ, LC_ALL work as usual.
`,
}
