package queue

import (
	"context"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// interrupted is a store in which something happens before a write.
type interrupted struct {
	store.Store
	before func()
}

func (i *interrupted) Write(ctx context.Context, fn func(store.Tx) error) error {
	if i.before != nil {
		i.before()
	}
	return i.Store.Write(ctx, fn)
}

func TestAWorkerThatComesBackAtTheLastMomentKeepsItsJobs(t *testing.T) {
	t.Parallel()
	now := noon
	st := &interrupted{Store: storetest.NewModel(func() time.Time { return now })}
	q, ctx, offer := New(st, Options{}), t.Context(), job.Offer{CPUs: 1, Memory: 2 << 30, Engines: []string{"mock"}}
	if _, err := q.Attach(ctx, job.Session{Worker: "w1", Host: "h1", Offer: offer}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(ctx, "t", job.Spec{Engine: "mock"}); err != nil {
		t.Fatal(err)
	}
	leases, err := q.Claim(ctx, "w1", offer, 1, 0)
	if err != nil || len(leases) != 1 {
		t.Fatalf("Claim = %v, %v", leases, err)
	}
	l := leader{since: noon, last: noon.Add(time.Hour)}
	now = noon.Add(time.Hour)
	writes := 0
	st.before = func() {
		// The first write promotes; before the second the job was found to be lost.
		if writes++; writes == 2 {
			if err := st.Store.Write(ctx, func(tx store.Tx) error { return tx.RenewWorker(ctx, "w1") }); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := q.maintain(ctx, &l); err != nil {
		t.Fatal(err)
	}
	if writes != 2 {
		t.Fatalf("%d writes, want one to promote and one to give up the job", writes)
	}
	if err := st.Read(ctx, func(tx store.ReadTx) error {
		j, err := tx.Job(ctx, "t", leases[0].Job.ID)
		if j.State != job.Running {
			t.Errorf("the job is %s: %s", j.State, j.Message)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
