package e2e

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// Deploys: servers and workers come and go by plan, and clients do not care.

// client submits under load as a careful client does: when a call fails it asks
// once more, another server, with the same key.
type client struct {
	cancel context.CancelFunc
	// strict clients expect that one retry cures everything (G14); where servers
	// are killed they may have to live without an answer.
	strict bool
	wg     sync.WaitGroup
	sent   atomic.Int64
	again  atomic.Int64
}

// careful starts n such clients.
func (c *cluster) careful(n int, strict bool) *client {
	ctx, cancel := context.WithCancel(context.Background())
	cl := &client{cancel: cancel, strict: strict}
	for i := range n {
		cl.wg.Go(func() {
			for turn := i; ctx.Err() == nil; turn++ {
				c.sendCarefully(cl, turn)
				wait(ctx, 10*time.Millisecond)
			}
		})
	}
	c.t.Cleanup(cl.stop)
	return cl
}

func (c *cluster) sendCarefully(cl *client, turn int) {
	r := api.JobRequest{Engine: "mock", Parameters: json.RawMessage(quick), Key: crand.Text(), Resources: api.ResourcesInput{Memory: 64 << 20}, Retry: soon()}
	s := submission{Key: r.Key, Answer: unknown}
	for try := range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		j, _, err := c.servers[(turn+try)%len(c.servers)].client.Submit(ctx, r)
		cancel()
		if err == nil {
			s.ID, s.Answer, s.Want = j.ID, accepted, job.Completed
			break
		}
		cl.again.Add(1)
		if try == 1 && cl.strict {
			c.t.Errorf("G14: one retry with the same key did not cure: %v", err)
		}
	}
	cl.sent.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.submissions = append(c.submissions, s)
}

func (cl *client) stop() { cl.cancel(); cl.wg.Wait() }

// TestF36G14_RollingUpgradeAndBack: servers and workers are replaced one after another
// under load; no client sees an error that one retry does not cure.
func TestF36G14_RollingUpgradeAndBack(t *testing.T) {
	t.Parallel()
	other := otherBinary(t)
	c := newCluster(t, layout{servers: 2, workers: 2, lostAfter: time.Minute})
	whales := c.whales(`{"steps": 200, "step_seconds": 0.1}`)
	cl := c.careful(2, true)
	var adoptions []delay
	for swap := range 4 {
		binaries := []string{other, binary}
		for _, s := range c.servers {
			s.stop()
			s.binary = binaries[swap%2]
			s.start()
			c.awaitServer(s)
		}
		w := c.workers[swap%2]
		w.stop()
		w.binary = binaries[(swap/2)%2]
		before := c.adopted(whales[swap%2])
		began := time.Now()
		w.start()
		eventually(t, 20*time.Second, "the worker has its whale again", func() bool {
			return c.adopted(whales[swap%2]) > before || c.get(whales[swap%2]).State.Terminal()
		})
		adoptions = append(adoptions, delay{fmt.Sprintf("adoption after swap %d", swap+1), time.Since(began), 10 * time.Second})
	}
	cl.stop()
	t.Logf("%d submissions, %d of them asked twice", cl.sent.Load(), cl.again.Load())
	c.unbroken = whales
	c.check(20, func(h *history) { h.Adoptions = adoptions })
}

// whales puts one long job on each worker: the i-th on worker i.
func (c *cluster) whales(params string) []job.ID {
	c.t.Helper()
	ids := make([]job.ID, len(c.workers))
	for range ids {
		// A whale takes more than half of a worker, so that each gets one.
		id := c.submit(params, job.Completed, func(r *api.JobRequest) { r.Resources.CPUs = c.layout.cpus/2 + 1 })
		ids[slices.Index(c.workers, c.host(c.running(id)))] = id
	}
	if slices.Contains(ids, "") {
		c.t.Fatalf("two whales are on one worker: %v", ids)
	}
	return ids
}

// otherBinary is nanoos of another version: that of CHAOS_PREVIOUS, or this
// source under another name.
func otherBinary(t *testing.T) string {
	t.Helper()
	need(t)
	if path := os.Getenv("CHAOS_PREVIOUS"); path != "" {
		return path
	}
	path := filepath.Join(dataDir(t), "nanoos")
	if out, err := build(path, "cmd/nanoos", "other"); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// TestI23_ServersKilledWhileClientsSubmit: every key is one job, whatever the
// client was told.
func TestI23_ServersKilledWhileClientsSubmit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 2, workers: 2, lostAfter: time.Minute})
	cl := c.careful(3, false)
	rng := seeded(t)
	for i := range 10 {
		wait(t.Context(), time.Duration(200+rng.IntN(300))*time.Millisecond)
		s := c.servers[i%2]
		s.kill()
		s.start()
		c.awaitServer(s)
	}
	cl.stop()
	t.Logf("%d submissions, %d of them asked twice", cl.sent.Load(), cl.again.Load())
	c.check(20)
}

// TestF37_AMigrationKilledMidway: whoever comes next completes it, and many may
// come at once.
func TestF37_AMigrationKilledMidway(t *testing.T) {
	t.Parallel()
	c := newInstallation(t, layout{})
	rng := seeded(t)
	for round := range 6 {
		c.dbURL = c.db.CreateDB(t)
		c.servers = nil
		for range 2 {
			c.addServer()
		}
		wait(t.Context(), time.Duration(20+rng.IntN(150))*time.Millisecond)
		for _, s := range c.servers {
			s.kill()
		}
		for _, s := range c.servers {
			s.start()
		}
		for _, s := range c.servers {
			c.awaitServer(s)
		}
		database := c.dbURL[strings.LastIndex(c.dbURL, "/")+1 : strings.LastIndex(c.dbURL, "?")]
		if invalid := c.db.SQL(t, database, "SELECT count(*) FROM pg_index WHERE NOT indisvalid"); invalid != "0" {
			t.Errorf("round %d: %s indexes are not valid", round, invalid)
		}
		for _, s := range c.servers {
			s.stop()
		}
	}
}
