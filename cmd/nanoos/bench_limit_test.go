package main

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/sqlite"
)

func TestWhatTheLimitStoresIsWhatTheStoreReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	statements, err := sqlite.OpenLimit(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := bareLoop{statements}
	for _, step := range []struct {
		name string
		want int
		do   func() (int, error)
	}{
		{"submit", 7, func() (int, error) { took, err := l.submit(t.Context(), 3, 7); return len(took), err }},
		{"bulk", 1200, func() (int, error) { took, err := l.bulk(t.Context(), 1200); return len(took), err }},
		{"drain", 1100, func() (int, error) { took, err := l.drain(t.Context(), 1100); return len(took), err }},
		{"pickup", 5, func() (int, error) { took, err := l.pickup(t.Context(), 5); return len(took), err }},
	} {
		n, err := step.do()
		if err != nil || n != step.want {
			t.Fatalf("%s: %d times, want %d: %v", step.name, n, step.want, err)
		}
	}
	if _, err := l.drain(t.Context(), 1000); err == nil {
		t.Error("drained more than there is")
	}
	if err := statements.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(filepath.Join(dir, "limit.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var counts []store.Count
	var page []job.Job
	err = s.Read(t.Context(), func(tx store.ReadTx) error {
		if counts, err = tx.Counts(t.Context(), ""); err != nil {
			return err
		}
		page, _, err = tx.Jobs(t.Context(), store.JobQuery{Oldest: true, Limit: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Count{
		{Queue: job.DefaultQueue, State: job.Running, Jobs: 5},
		{Queue: job.DefaultQueue, State: job.Completed, Jobs: 1207},
	}
	if d := cmp.Diff(want, counts); d != "" {
		t.Errorf("counts differ (-want +got):\n%s", d)
	}
	if len(page) != 1 || page[0].State != job.Completed || page[0].Attempt != 1 || page[0].Spec.Engine != "mock" {
		t.Errorf("the oldest job is %+v", page)
	}
}
