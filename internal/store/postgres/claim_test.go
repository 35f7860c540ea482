package postgres

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// F48: a server that stops for long holds no row that all servers share.
func TestF48_AStoppedTransactionHoldsNobodyElseUp(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	frozen, other := openURL(t, url), openURL(t, url)
	defer frozen.Close()
	defer other.Close()
	mine, theirs := benchJob(1), benchJob(1)
	if err := submit(other, mine, theirs); err != nil {
		t.Fatal(err)
	}
	inside, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := frozen.Write(t.Context(), func(tx store.Tx) error {
			if err := tx.InsertJobs(t.Context(), []job.Job{benchJob(1), benchJob(7)}, make([]string, 2)); err != nil {
				return err
			}
			err := increment(t.Context(), tx, theirs.ID)
			close(inside)
			<-goOn
			return err
		})
		if err != nil {
			t.Errorf("the stopped transaction: %v", err)
		}
	})
	<-inside
	began := time.Now()
	for range 10 {
		if err := submit(other, benchJob(1), benchJob(7)); err != nil {
			t.Errorf("submit: %v", err)
		}
		if err := other.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, mine.ID) }); err != nil {
			t.Errorf("increment: %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 changes took %v beside a stopped transaction", took)
	}
	close(goOn)
	wg.Wait()
}

// Two servers that claim at once take different jobs, and a stopped one does
// not keep the other from what is behind its jobs.
func TestS1_F48_AClaimPassesOverWhatAnotherHolds(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	stopped, other := openURL(t, url), openURL(t, url)
	defer stopped.Close()
	defer other.Close()
	jobs := []job.Job{benchJob(1), benchJob(1), benchJob(1), benchJob(1)}
	if err := submit(other, jobs...); err != nil {
		t.Fatal(err)
	}
	var lane store.LaneID
	if err := other.Read(t.Context(), func(tx store.ReadTx) error {
		lanes, err := tx.Lanes(t.Context())
		lane = lanes[0].ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	heads := func(tx store.ReadTx) []job.ID {
		heads, err := tx.Heads(t.Context(), []store.LaneID{lane}, 2)
		if err != nil {
			t.Errorf("heads: %v", err)
		}
		return idsOf(heads)
	}
	inside, goOn := make(chan []job.ID), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = stopped.Write(t.Context(), func(tx store.Tx) error {
			inside <- heads(tx)
			<-goOn
			return nil
		})
	})
	first := <-inside
	var second []job.ID
	err := other.Write(t.Context(), func(tx store.Tx) error {
		second = heads(tx)
		_, err := tx.LockJobs(t.Context(), second)
		return err
	})
	close(goOn)
	wg.Wait()
	if err != nil || !slices.Equal(first, []job.ID{jobs[0].ID, jobs[1].ID}) || !slices.Equal(second, []job.ID{jobs[2].ID, jobs[3].ID}) {
		t.Errorf("one claims %v and the other %v (%v) of %v", first, second, err, jobs)
	}
}
