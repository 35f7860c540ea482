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
	{"ALeaseIsFreeFromTheMomentItEnds", func(b *bench) {
		var first, second, third bool
		b.write(func(tx store.Tx) (err error) { // in which time stands still
			if first, err = tx.Lead(b.Context(), "a", 0); err != nil {
				return err
			}
			if second, err = tx.Lead(b.Context(), "b", time.Second); err != nil {
				return err
			}
			third, err = tx.Lead(b.Context(), "a", time.Second)
			return err
		})
		b.same("answers", []bool{first, second, third}, []bool{true, true, false})
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
