package postgres

import (
	"context"
	"sync"
	"testing"
)

func TestS5_HintsReachTheOthersTogetherAndNotOurselves(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	a, b := openURL(t, url), openURL(t, url)
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	own, heard := make(chan uint8, 100), make(chan uint8, 100)
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Listen(ctx, func(k uint8) { own <- k }) })
	wg.Go(func() { _ = b.Listen(ctx, func(k uint8) { heard <- k }) })
	for _, c := range []chan uint8{own, heard} {
		if k := <-c; k != everyKind {
			t.Errorf("the begin of listening tells %x", k)
		}
	}
	var told uint8
	for range 100 {
		a.Notify(1)
		a.Notify(4)
	}
	n := 0
	for told != 5 {
		told |= <-heard
		n++
	}
	if n > 3 {
		t.Errorf("200 hints came as %d notifications", n)
	}
	a.Notify(2)
	for told&2 == 0 {
		told |= <-heard
	}
	cancel()
	wg.Wait()
	if len(own) > 0 {
		t.Error("a store hears itself")
	}
}
