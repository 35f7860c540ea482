package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/auth"
)

func newTokenNoun(a *app) *cobra.Command {
	noun := nounCommand("token", "tokens", "Tokens: who may speak to the servers.", `nanoos token create --role worker --name "gpu nodes"
nanoos token list
nanoos token revoke k3m7q2abcd`)
	noun.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	return noun
}

func newTokenCreate(a *app) *cobra.Command {
	var r api.TokenRequest
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token; its secret is shown this one time.", Args: noArgs,
		Long: `A worker's token can claim, report and move the files of its own jobs, in its queues, and nothing else. An
administrator's token can do everything. What is stored of a secret is its digest.`,
		Example: `nanoos token create --role worker --name "gpu nodes"
nanoos token create --role worker --name "guest nodes" --queue simulations --expires 90d
NANOOS_TOKEN=$(nanoos token create --role worker --name node7 -o id) nanoos worker --server http://a:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(auth.Roles, auth.Role(r.Role)) {
				return usage("one of: "+roleNames(), "there is no role %q", r.Role)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), r)
			if err != nil {
				return err
			}
			if a.opt.output == "table" {
				a.note("the secret is shown only now:")
				_, err = fmt.Fprintln(a.io.out, t.Secret)
				return err
			}
			return show(a, listing[api.TokenInfo]{doc: t, rows: []api.TokenInfo{t}, columns: tokenColumns(),
				id: func(t *api.TokenInfo) string { return t.Secret }})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Role, "role", string(auth.Worker), "what it is for: "+roleNames())
	f.StringVar(&r.Name, "name", "", "for people: whose it is")
	f.StringSliceVar(&r.Queues, "queue", nil, "queues that a worker with it may serve (default: all); may be repeated")
	f.Var(&durationFlag{&r.Lifetime}, "expires", "how long it is valid, as 90d (default: for ever)")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(strings.Split(roleNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func roleNames() string {
	names := make([]string, len(auth.Roles))
	for i, r := range auth.Roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func newTokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the tokens, without their secrets.", Args: noArgs,
		Example: `nanoos token list
nanoos token list -o wide
nanoos token list -o json | jq '.items[] | select(.role == "worker")'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			tokens, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if tokens == nil {
				tokens = []api.TokenInfo{}
			}
			doc := api.TokenList{APIVersion: api.Version, Kind: "TokenList", Items: tokens}
			return show(a, listing[api.TokenInfo]{doc: doc, rows: tokens, columns: tokenColumns(), empty: "no tokens",
				id: func(t *api.TokenInfo) string { return t.ID }})
		},
	}
}

func tokenColumns() []column[api.TokenInfo] {
	return []column[api.TokenInfo]{
		{name: "id", cell: func(_ *cells, t *api.TokenInfo) string { return t.ID }},
		{name: "role", cell: func(_ *cells, t *api.TokenInfo) string { return t.Role }},
		{name: "name", flex: true, cell: func(c *cells, t *api.TokenInfo) string { return orDefault(t.Name, c.missing()) }},
		{name: "queues", flex: true, cell: func(_ *cells, t *api.TokenInfo) string {
			return orDefault(strings.Join(t.Queues, " "), "all")
		}},
		{name: "created", cell: func(c *cells, t *api.TokenInfo) string { return c.when(t.CreatedAt) }},
		{name: "expires", cell: func(c *cells, t *api.TokenInfo) string {
			if t.ExpiresAt.IsZero() {
				return "never"
			}
			return c.when(t.ExpiresAt)
		}},
		{name: "state", cell: func(_ *cells, t *api.TokenInfo) string {
			if !t.RevokedAt.IsZero() {
				return "revoked"
			}
			return "valid"
		}, tone: func(t *api.TokenInfo) tone {
			if !t.RevokedAt.IsZero() {
				return dim
			}
			return green
		}},
		{name: "used", wide: true, cell: func(c *cells, t *api.TokenInfo) string { return c.when(t.UsedAt) }},
		{name: "secret", wide: true, cell: func(c *cells, t *api.TokenInfo) string { return orDefault(t.Secret, c.missing()) }},
	}
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN…", Short: "End tokens; whoever uses one is refused within 5 seconds.", Args: minArgs(1, "the id of a token"),
		Example: `nanoos token revoke k3m7q2abcd
nanoos token revoke k3m7q2abcd 7ydn2mkwqe
nanoos token list -o json | jq -r '.items[] | select(.role == "worker") | .id' | xargs nanoos token revoke`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, id := range args {
				if _, err := c.RevokeToken(cmd.Context(), id); err != nil {
					return err
				}
				a.note("token %s is revoked", id)
			}
			return nil
		},
	}
}
