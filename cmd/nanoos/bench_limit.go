package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// bareLoop is the limit: the statements of the store without anything around,
// as many jobs in a commit as are there, measured in the same run as the real
// thing. Its measurements return what each job took.
type bareLoop struct{ statements statements }

// statements are those of one kind of database. They are called one at a time.
type statements interface {
	// Submit stores jobs in one commit, and Bulk does so in the fastest way.
	Submit(ctx context.Context, n int) error
	Bulk(ctx context.Context, n int) error
	// Claim finishes the jobs that are held and starts up to n others, in one
	// commit.
	Claim(ctx context.Context, held []int64, n int) (claimed []int64, err error)
	Close() error
}

// submit stores n jobs, one a call, from several callers at once. What waits
// shares a commit.
func (l bareLoop) submit(ctx context.Context, callers, n int) ([]time.Duration, error) {
	calls := make(chan chan error, callers)
	var committing, calling sync.WaitGroup
	committing.Go(func() {
		for first := range calls {
			batch := []chan error{first}
			for len(calls) > 0 {
				batch = append(batch, <-calls)
			}
			err := l.statements.Submit(ctx, len(batch))
			for _, answer := range batch {
				answer <- err
			}
		}
	})
	took := make([]time.Duration, n)
	errs := make([]error, callers)
	for c := range callers {
		calling.Go(func() {
			answer := make(chan error, 1)
			for i := c; i < n && errs[c] == nil; i += callers {
				began := time.Now()
				calls <- answer
				errs[c] = cmp.Or(<-answer, context.Cause(ctx))
				took[i] = time.Since(began)
			}
		})
	}
	calling.Wait()
	close(calls)
	committing.Wait()
	return took, errors.Join(errs...)
}

// bulk stores n jobs, many in one commit.
func (l bareLoop) bulk(ctx context.Context, n int) ([]time.Duration, error) {
	var took []time.Duration
	for len(took) < n && ctx.Err() == nil {
		began := time.Now()
		batch := min(bulk, n-len(took))
		if err := l.statements.Bulk(ctx, batch); err != nil {
			return nil, err
		}
		for range batch {
			took = append(took, time.Since(began))
		}
	}
	return took, context.Cause(ctx)
}

// drain claims and finishes n jobs that were stored before, like a worker with
// drainSlots. Each commit holds the ends of the jobs of the last claim, and the
// next claim.
func (l bareLoop) drain(ctx context.Context, n int) ([]time.Duration, error) {
	var took []time.Duration
	var held []int64
	for len(took) < n && ctx.Err() == nil {
		began := time.Now()
		next, err := l.statements.Claim(ctx, held, min(drainSlots, n-len(took)-len(held)))
		if err != nil {
			return nil, err
		}
		for range held {
			took = append(took, time.Since(began))
		}
		if len(held)+len(next) == 0 {
			return nil, fmt.Errorf("drained %d jobs of %d: there are no more", len(took), n)
		}
		held = next
	}
	return took, context.Cause(ctx)
}

// pickup stores n jobs, one after the other, each for a claimer that waits for
// it; it takes the time from the submission to the commit of the claim.
func (l bareLoop) pickup(ctx context.Context, n int) ([]time.Duration, error) {
	wake, claimed := make(chan struct{}), make(chan error)
	var claiming sync.WaitGroup
	claiming.Go(func() {
		for range wake {
			_, err := l.statements.Claim(ctx, nil, 1)
			claimed <- err
		}
	})
	defer claiming.Wait()
	defer close(wake)
	var took []time.Duration
	for len(took) < n && ctx.Err() == nil {
		began := time.Now()
		if err := l.statements.Submit(ctx, 1); err != nil {
			return nil, err
		}
		wake <- struct{}{}
		if err := <-claimed; err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, context.Cause(ctx)
}
