package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var workerRules = []rule{
	{"WorkersComeBackByNameAndAreReplaced", func(b *bench) {
		x, y := worker("x"), store.Worker{Session: job.Session{Worker: "y"}}
		old := x
		old.Host, old.Draining = "old", false
		for _, w := range []store.Worker{y, old, x} {
			b.write(func(tx store.Tx) error { return tx.SaveWorker(b.Context(), w) })
		}
		b.same("workers", b.workers(), []store.Worker{x, y})
	}},
	{"RenewingSetsWhenItWasSeenAndNothingElse", func(b *bench) {
		x, y := worker("x"), worker("y")
		var now time.Time
		b.write(func(tx store.Tx) error {
			now = tx.Now()
			if err := tx.SaveWorker(b.Context(), x); err != nil {
				return err
			}
			if err := tx.SaveWorker(b.Context(), y); err != nil {
				return err
			}
			return tx.RenewWorker(b.Context(), "x")
		})
		x.SeenAt = now
		b.same("workers", b.workers(), []store.Worker{x, y})
		b.refused(job.NotFound, func(tx store.Tx) error { return tx.RenewWorker(b.Context(), "z") })
	}},
	{"OneWorkerIsReadByItsName", func(b *bench) {
		b.write(func(tx store.Tx) error { return tx.SaveWorker(b.Context(), worker("x")) })
		b.read(func(tx store.ReadTx) error {
			w, err := tx.Worker(b.Context(), "x")
			b.same("worker", w, worker("x"))
			return err
		})
		b.refused(job.NotFound, func(tx store.Tx) error {
			_, err := tx.Worker(b.Context(), "y")
			return err
		})
	}},
	{"ADeletedWorkerIsGone", func(b *bench) {
		b.write(func(tx store.Tx) error { return tx.SaveWorker(b.Context(), worker("x")) })
		for range 2 {
			b.write(func(tx store.Tx) error { return tx.DeleteWorker(b.Context(), "x") })
		}
		b.same("workers", b.workers(), []store.Worker(nil))
	}},
}

// worker returns a worker in which every field is set.
func worker(name string) store.Worker {
	return store.Worker{
		Session: job.Session{Worker: name, Host: "host", Boot: "boot", Version: "1.2",
			Offer: job.Offer{CPUs: 8, Memory: 1 << 34, GPUs: 2, Tags: []string{"a100"}, Queues: []string{"q"}, Engines: []string{"qe"}}},
		StartedAt: day, SeenAt: day.Add(time.Minute), Draining: true, EndedAt: day.Add(time.Hour),
	}
}

func (b *bench) workers() (ws []store.Worker) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		ws, err = tx.Workers(b.Context())
		return err
	})
	return ws
}
