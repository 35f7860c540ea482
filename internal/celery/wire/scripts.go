package wire

import (
	"context"
	_ "embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed scripts/claim.lua
	claimText string
	//go:embed scripts/renew.lua
	renewText string
	//go:embed scripts/restore.lua
	restoreText string
	//go:embed scripts/unlock.lua
	unlockText string
	//go:embed scripts/follow.lua
	followText string
	//go:embed scripts/store.lua
	storeText string
	//go:embed scripts/answer.lua
	answerText string

	claimScript   = redis.NewScript(claimText)
	renewScript   = redis.NewScript(renewText)
	restoreScript = redis.NewScript(restoreText)
	unlockScript  = redis.NewScript(unlockText)
	followScript  = redis.NewScript(followText)
	storeScript   = redis.NewScript(storeText)
	answerScript  = redis.NewScript(answerText)
)

// execution is one of a script.
type execution struct {
	keys []string
	args []any
}

// runAll executes a script for each in one round trip. A Redis that does not know
// the script gets it and is asked again. Should another have taught it meanwhile,
// in the middle of many, some run twice: every script of which there are many can
// bear that. The answers are in order.
func runAll(ctx context.Context, r *redis.Client, script *redis.Script, runs []execution) ([]*redis.Cmd, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	for again := false; ; again = true {
		cmds := make([]*redis.Cmd, len(runs))
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, one := range runs {
				cmds[i] = p.EvalSha(ctx, script.Hash(), one.keys, one.args...)
			}
			return nil
		})
		if err == nil || again || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			return cmds, err
		}
		if err := script.Load(ctx, r).Err(); err != nil {
			return nil, err
		}
	}
}
