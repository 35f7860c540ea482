package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var queueRules = []rule{
	{"QueuesComeBackByNameAndAreReplaced", func(b *bench) {
		plain := store.Queue{Name: "b"}
		paused := store.Queue{Name: "a", Paused: &job.Request{By: "ann", At: day, Why: "upgrade"},
			Walltime: job.Duration(90 * time.Minute), LostAfter: job.Duration(1500 * time.Millisecond)}
		for _, q := range []store.Queue{plain, {Name: "a"}, paused} {
			b.write(func(tx store.Tx) error { return tx.SaveQueue(b.Context(), q) })
		}
		var got []store.Queue
		b.read(func(tx store.ReadTx) (err error) {
			got, err = tx.Queues(b.Context())
			return err
		})
		b.same("queues", got, []store.Queue{paused, plain})
	}},
	{"SettingsComeBackAndAreReplaced", func(b *bench) {
		for _, value := range []string{"", "one", "two é\n"} {
			if value != "" {
				b.write(func(tx store.Tx) error { return tx.SetMeta(b.Context(), "key", value) })
			}
			var got string
			b.read(func(tx store.ReadTx) (err error) {
				got, err = tx.Meta(b.Context(), "key")
				return err
			})
			b.same("settings", got, value)
		}
	}},
}
