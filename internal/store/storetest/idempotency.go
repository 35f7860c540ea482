package storetest

import (
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var idempotencyRules = []rule{
	{"G2_ByKeyReturnsTheJobAndItsDigest", func(b *bench) {
		j := full()
		b.write(func(tx store.Tx) error { return tx.InsertJobs(b.Context(), []job.Job{j}, []string{"digest-1"}) })
		var got job.Job
		var digest string
		b.read(func(tx store.ReadTx) (err error) {
			got, digest, err = tx.ByKey(b.Context(), j.Tenant, j.Spec.Key)
			return err
		})
		b.same("jobs", got, j)
		b.same("digests", digest, "digest-1")
	}},
	{"G2_AKeyInUseIsAConflict", func(b *bench) {
		j := keyed("a", "k")
		b.insert(j)
		fresh := queued()
		b.refused(job.Conflict, func(tx store.Tx) error {
			return tx.InsertJobs(b.Context(), []job.Job{fresh, keyed("a", "k")}, make([]string, 2))
		})
		b.absent(fresh.ID)
		b.refused(job.Conflict, func(tx store.Tx) error {
			return tx.InsertJobs(b.Context(), []job.Job{keyed("a", "twice"), keyed("a", "twice")}, make([]string, 2))
		})
	}},
	{"G17_TenantsHaveKeysOfTheirOwn", func(b *bench) {
		mine, theirs := keyed("a", "k"), keyed("b", "k")
		b.insert(mine, theirs)
		for _, want := range []job.Job{mine, theirs} {
			var got job.Job
			b.read(func(tx store.ReadTx) (err error) {
				got, _, err = tx.ByKey(b.Context(), want.Tenant, "k")
				return err
			})
			b.same("ids", got.ID, want.ID)
		}
	}},
	{"JobsWithoutAKeyDoNotCollide", func(b *bench) {
		b.insert(queued(), queued())
		b.insert(queued())
		for _, key := range []string{"", "never used"} {
			err := b.store.Read(b.Context(), func(tx store.ReadTx) error {
				_, _, err := tx.ByKey(b.Context(), job.DefaultTenant, key)
				return err
			})
			if job.CodeOf(err) != job.NotFound {
				b.Errorf("key %q: error is %v, want not_found", key, err)
			}
		}
	}},
	{"AKeyIsFreeAgainWhenItsInsertIsUndone", func(b *bench) {
		j := keyed("a", "k")
		b.refused(job.Invalid, func(tx store.Tx) error {
			if err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1)); err != nil {
				return err
			}
			return job.Errorf(job.Invalid, "undo")
		})
		b.insert(j)
	}},
}

func keyed(t job.Tenant, key string) job.Job {
	return queuedAs(func(j *job.Job) { j.Tenant, j.Spec.Key = t, key })
}
