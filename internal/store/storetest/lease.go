package storetest

import (
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
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
			if first, err = tx.Lead(b.Context(), "leader", "a", 0); err != nil {
				return err
			}
			if second, err = tx.Lead(b.Context(), "leader", "b", time.Second); err != nil {
				return err
			}
			third, err = tx.Lead(b.Context(), "leader", "a", time.Second)
			return err
		})
		b.same("answers", []bool{first, second, third}, []bool{true, true, false})
	}},
	{"ARefusedLeaseChangesNothing", func(b *bench) {
		b.lead("a", time.Hour, true)
		b.lead("b", 0, false)
		b.lead("b", time.Hour, false)
	}},
	{"EachDutyHasItsOwnLease", func(b *bench) {
		var held []bool
		for _, duty := range []string{"leader", "celery", "another"} {
			for _, name := range []string{duty + " a", duty + " b"} {
				b.write(func(tx store.Tx) error {
					leads, err := tx.Lead(b.Context(), duty, name, time.Hour)
					held = append(held, leads)
					return err
				})
			}
		}
		b.same("answers", held, []bool{true, false, true, false, true, false})
	}},
	{"ARefusedTransactionTakesNoLease", func(b *bench) {
		for _, name := range []string{"a", "b"} {
			b.refused(job.Invalid, func(tx store.Tx) error {
				if leads, err := tx.Lead(b.Context(), "celery", name, time.Hour); err != nil || !leads {
					return fmt.Errorf("%s leads: %t (%v)", name, leads, err)
				}
				return job.Errorf(job.Invalid, "undo")
			})
		}
	}},
}

func (b *bench) lead(name string, ttl time.Duration, want bool) {
	b.Helper()
	var held bool
	b.write(func(tx store.Tx) (err error) {
		held, err = tx.Lead(b.Context(), "leader", name, ttl)
		return err
	})
	if held != want {
		b.Errorf("%s leads: %t, want %t", name, held, want)
	}
}
