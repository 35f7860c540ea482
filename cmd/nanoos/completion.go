package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:   "completion bash | zsh | fish | powershell",
		Short: "Print the completion script of a shell.",
		Example: `source <(nanoos completion bash)
nanoos completion zsh > "${fpath[1]}/_nanoos"
nanoos completion fish > ~/.config/fish/completions/nanoos.fish`,
		Args:      exactArgs(1, "the name of a shell"),
		ValidArgs: shells,
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		root := cmd.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.io.out, true)
		case "zsh":
			return root.GenZshCompletion(a.io.out)
		case "fish":
			return root.GenFishCompletion(a.io.out, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(a.io.out)
		}
		fix := didYouMean(args[0], slices.Values(shells))
		return usage(strings.TrimSpace(fix+" One of: "+strings.Join(shells, ", ")), "there is no completion for %q", args[0])
	}
	return cmd
}

// completionTime is how long a completion may ask the server. A shell that
// hangs on Tab is worse than one without names.
const completionTime = 300 * time.Millisecond

// completer offers words; an error offers nothing.
type completer func(ctx context.Context) ([]string, error)

// complete makes a cobra completion that asks the server in the time it has.
func (a *app) complete(offer completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), completionTime)
		defer cancel()
		words, err := offer(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeJobs makes the arguments of a command complete to the newest jobs.
func (a *app) completeJobs(cmd *cobra.Command) {
	cmd.ValidArgsFunction = a.complete(func(ctx context.Context) ([]string, error) {
		list, err := a.recentJobs(ctx, 50)
		if err != nil {
			return nil, err
		}
		words := []string{"@last\tthe newest job"}
		for i := range list {
			j := &list[i]
			words = append(words, fmt.Sprintf("%s\t%s %s", shortID(j.ID), oneLine(jobName(j)), stateWord(j)))
		}
		return words, nil
	})
}

func (a *app) completeQueues(cmd *cobra.Command, flag string) {
	offer := a.complete(func(ctx context.Context) ([]string, error) {
		queues, err := a.queues(ctx)
		words := make([]string, len(queues))
		for i, q := range queues {
			words[i] = q.Name
		}
		return words, err
	})
	if flag == "" {
		cmd.ValidArgsFunction = offer
		return
	}
	_ = cmd.RegisterFlagCompletionFunc(flag, offer)
}

func (a *app) completeEngines(cmd *cobra.Command) {
	var words []string
	for _, e := range a.engines {
		words = append(words, e.Name()+"\t"+e.Title())
	}
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}
