package storetest_test

import (
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

func TestTheModelKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) store.Store { return storetest.NewModel(time.Now) })
}

func TestTheModelKeepsTheContractForTwoServers(t *testing.T) {
	t.Parallel()
	storetest.RunShared(t, func(*testing.T) (a, b store.Store) {
		m := storetest.NewModel(time.Now)
		return m, m
	})
}
