package storetest

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var insertRules = []rule{
	{"EveryFieldComesBack", func(b *bench) {
		j := full()
		b.insert(j)
		b.same("jobs", b.job(j.ID), j)
		zero := queued()
		b.insert(zero)
		b.same("jobs without options", b.job(zero.ID), zero)
	}},
	{"AResultIsStoredByteForByteAndApart", func(b *bench) {
		j := queued()
		j.State, j.Result = job.Completed, json.RawMessage("{ \"energy\" : 1.50e+2 }\n")
		b.insert(j)
		if got := b.result(j.ID); got != string(j.Result) {
			b.Errorf("result is %q, want %q", got, j.Result)
		}
		if got := b.job(j.ID); got.Result != nil {
			b.Errorf("Job returns the result %q", got.Result)
		}
	}},
	{"AJobWithoutResultHasNone", func(b *bench) {
		j := queued()
		b.insert(j)
		if got := b.result(j.ID); got != "" {
			b.Errorf("result is %q", got)
		}
	}},
	{"AnIDInUseIsAConflictAndNothingIsInserted", func(b *bench) {
		old, fresh := queued(), queued()
		b.insert(old)
		b.refused(job.Conflict, func(tx store.Tx) error {
			return tx.InsertJobs(b.Context(), []job.Job{fresh, old}, make([]string, 2))
		})
		b.refused(job.Conflict, func(tx store.Tx) error {
			return tx.InsertJobs(b.Context(), []job.Job{fresh, fresh}, make([]string, 2))
		})
		b.absent(fresh.ID)
	}},
	{"ARefusedInsertLeavesTheTransactionUsable", func(b *bench) {
		old, fresh, other := queued(), queued(), queued()
		b.insert(old)
		b.write(func(tx store.Tx) error {
			if err := tx.InsertJobs(b.Context(), []job.Job{fresh, old}, make([]string, 2)); job.CodeOf(err) != job.Conflict {
				return errors.New("the id is not refused")
			}
			return tx.InsertJobs(b.Context(), []job.Job{other}, make([]string, 1))
		})
		b.absent(fresh.ID)
		b.job(other.ID)
	}},
	{"AnErrorUndoesTheTransaction", func(b *bench) {
		j := queued()
		stop := errors.New("stop")
		err := b.store.Write(b.Context(), func(tx store.Tx) error {
			if err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1)); err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) {
			b.Errorf("error is %v", err)
		}
		b.absent(j.ID)
	}},
	{"InsertedJobsAreVisibleInTheirTransaction", func(b *bench) {
		j := full()
		var got job.Job
		b.write(func(tx store.Tx) error {
			if err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1)); err != nil {
				return err
			}
			var err error
			got, err = tx.Job(b.Context(), j.Tenant, j.ID)
			return err
		})
		b.same("jobs", got, j)
	}},
	{"TextOfAnyKindComesBack", func(b *bench) {
		j := queued()
		j.Spec.Name = "wörk'); DROP TABLE jobs;-- 日本\t\"x\""
		j.Message = "line one\nline two \x01"
		j.Spec.Labels = map[string]string{"": "empty name", "empty value": "", "l'abel": "v\"alue"}
		j.Spec.Queue = "queue's"
		b.insert(j)
		b.same("jobs", b.job(j.ID), j)
	}},
	{"ALargeJobComesBack", func(b *bench) {
		j := queued()
		j.Spec.Structure = json.RawMessage(`{"cif":"` + strings.Repeat("0123456789abcdef", 1<<16) + `"}`)
		j.Result = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
		b.insert(j)
		if got := b.result(j.ID); got != string(j.Result) {
			b.Errorf("the result has %d bytes, want %d", len(got), len(j.Result))
		}
		j.Result = nil
		b.same("jobs", b.job(j.ID), j)
	}},
	{"ASpecThatIsNotJSONIsInvalid", func(b *bench) {
		j := queued()
		j.Spec.Params = json.RawMessage(`{"cut`)
		b.refused(job.Invalid, func(tx store.Tx) error {
			return tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1))
		})
		b.absent(j.ID)
	}},
	{"TheStoreKeepsNoTieToTheCallersMemory", func(b *bench) {
		j := full()
		want := copyOf(j)
		b.insert(j)
		j.Spec.Labels["campaign"], j.Spec.Params[2], j.Cancel.By = "changed", 'X', "changed"
		got := b.job(j.ID)
		b.same("jobs", got, want)
		got.Spec.Labels["campaign"], got.Failure.Code = "changed", "changed"
		b.same("jobs read again", b.job(j.ID), want)
	}},
}

// absent asserts that no job has that id.
func (b *bench) absent(id job.ID) {
	b.Helper()
	err := b.store.Read(b.Context(), func(tx store.ReadTx) error {
		_, err := tx.Job(b.Context(), "", id)
		return err
	})
	if job.CodeOf(err) != job.NotFound {
		b.Errorf("job %s: error is %v, want not_found", id, err)
	}
}
