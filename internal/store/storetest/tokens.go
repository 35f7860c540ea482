package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/store"
)

var tokenRules = []rule{
	{"TokensComeBackByIDAndAreReplaced", func(b *bench) {
		x, y := token("x"), auth.Token{ID: "y", Role: auth.Admin}
		old := x
		old.Name = "old"
		for _, t := range []auth.Token{y, old, x} {
			b.write(func(tx store.Tx) error { return tx.SaveToken(b.Context(), t) })
		}
		b.same("tokens", b.tokens(), []auth.Token{x, y})
	}},
	{"ADeletedTokenIsGone", func(b *bench) {
		b.write(func(tx store.Tx) error { return tx.SaveToken(b.Context(), token("x")) })
		for range 2 {
			b.write(func(tx store.Tx) error { return tx.DeleteToken(b.Context(), "x") })
		}
		b.same("tokens", b.tokens(), []auth.Token(nil))
	}},
}

// token returns a token in which every field is set.
func token(id string) auth.Token {
	return auth.Token{ID: id, Role: auth.Worker, Name: "gpu nodes", Digest: "d1", Queues: []string{"q"},
		CreatedAt: day, ExpiresAt: day.Add(time.Hour), RevokedAt: day.Add(time.Minute)}
}

func (b *bench) tokens() (ts []auth.Token) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		ts, err = tx.Tokens(b.Context())
		return err
	})
	return ts
}
