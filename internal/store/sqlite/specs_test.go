package sqlite

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func TestLockedJobsHaveTheirSpecsWhetherRememberedOrNot(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	defer s.Close()
	// More than two generations hold.
	jobs := make([]job.Job, 12)
	for i := range jobs {
		jobs[i] = benchJob(i + 1)
		jobs[i].Spec.Structure = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	}
	if err := submit(s, jobs...); err != nil {
		t.Fatal(err)
	}
	for _, some := range [][]job.Job{jobs[:3], jobs, jobs[2:8], jobs} {
		for i, j := range locked(t, s, some) {
			if j.Spec.Demand.CPUs != some[i].Spec.Demand.CPUs || len(j.Spec.Structure) != 1<<20+2 {
				t.Errorf("job %d has a spec for %d CPUs with %d bytes", i, j.Spec.Demand.CPUs, len(j.Spec.Structure))
			}
		}
	}
}

func TestARolledBackSpecIsForgotten(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	defer s.Close()
	j, undo := benchJob(1), errors.New("undo")
	j.Spec.Name = "first"
	err := s.Write(t.Context(), func(tx store.Tx) error {
		if err := tx.InsertJobs(t.Context(), []job.Job{j}, make([]string, 1)); err != nil {
			return err
		}
		if _, err := tx.LockJobs(t.Context(), []job.ID{j.ID}); err != nil {
			return err
		}
		return undo
	})
	if !errors.Is(err, undo) {
		t.Fatal(err)
	}
	j.Spec.Name = "second"
	if err := submit(s, j); err != nil {
		t.Fatal(err)
	}
	if got := locked(t, s, []job.Job{j})[0].Spec.Name; got != "second" {
		t.Errorf("the spec is of the %s submission", got)
	}
}

func TestTheRowsPriorityWinsOverARememberedSpec(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	defer s.Close()
	j := benchJob(1)
	if err := submit(s, j); err != nil {
		t.Fatal(err)
	}
	got := locked(t, s, []job.Job{j})
	got[0].Spec.Priority = job.PriorityUrgent
	if err := s.Write(t.Context(), func(tx store.Tx) error { return tx.SaveJobs(t.Context(), got) }); err != nil {
		t.Fatal(err)
	}
	if p := locked(t, s, got)[0].Spec.Priority; p != job.PriorityUrgent {
		t.Errorf("the priority is %d", p)
	}
}

func locked(t *testing.T, s *Store, jobs []job.Job) (got []job.Job) {
	t.Helper()
	ids := make([]job.ID, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	err := s.Write(t.Context(), func(tx store.Tx) (err error) {
		got, err = tx.LockJobs(t.Context(), ids)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(jobs) {
		t.Fatalf("%d of %d jobs were locked", len(got), len(jobs))
	}
	return got
}
