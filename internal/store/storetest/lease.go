package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/store"
)

var leaseRules = []rule{
	{"OneLeadsUntilItsLeaseEnds", func(b *bench) {
		b.lead("a", time.Hour, true)
		b.lead("b", time.Hour, false)
		b.lead("a", time.Hour, true) // keeps it
		b.lead("a", 0, true)         // gives it up
		b.lead("b", time.Hour, true)
		b.lead("a", time.Hour, false)
	}},
	{"ARefusedLeaseChangesNothing", func(b *bench) {
		b.lead("a", time.Hour, true)
		b.lead("b", 0, false)
		b.lead("b", time.Hour, false)
	}},
}

func (b *bench) lead(name string, ttl time.Duration, want bool) {
	b.Helper()
	var held bool
	b.write(func(tx store.Tx) (err error) {
		held, err = tx.Lead(b.Context(), name, ttl)
		return err
	})
	if held != want {
		b.Errorf("%s leads: %t, want %t", name, held, want)
	}
}
