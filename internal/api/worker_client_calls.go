package api

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// How long calls may take, beyond the wait that a long poll asks for.
const (
	attachTimeout    = 30 * time.Second
	beatTimeout      = 10 * time.Second
	finishTimeout    = 30 * time.Second
	leaveTimeout     = 5 * time.Second
	interruptTimeout = 2 * time.Second
)

// Attach implements worker.Queue.
func (c *WorkerClient) Attach(ctx context.Context, s job.Session, found []job.Found) (job.Attachment, error) {
	var out attachReply
	err := c.try(ctx, func(at *Client) error {
		out = attachReply{}
		return c.post(ctx, at, "attach", attachTimeout, attachRequest{Session: s, Found: found}, &out)
	})
	if err != nil {
		return job.Attachment{}, plain(err)
	}
	c.known.attached(s.Worker, out.Proof)
	return job.Attachment{Carry: c.known.took(out.Carry), Fenced: out.Fenced}, nil
}

// Claim implements worker.Queue. When ctx ends it asks the server to answer at
// once and returns what that brings, so that no lease is lost on its way.
func (c *WorkerClient) Claim(ctx context.Context, worker string, free job.Offer, max int, wait time.Duration) ([]job.Lease, error) {
	in := claimRequest{Worker: worker, Proof: c.known.session(worker), Free: free, Max: max, Wait: job.Duration(wait)}
	var out claimReply
	err := c.try(ctx, func(at *Client) error {
		out, in.Poll = claimReply{}, rand.Text()
		call, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		answered := make(chan struct{})
		var watch sync.WaitGroup
		defer watch.Wait()
		defer close(answered)
		watch.Go(func() {
			select {
			case <-answered:
			case <-ctx.Done():
				c.interrupt(call, at, in, answered)
				cancel(context.Cause(ctx))
			}
		})
		return c.post(call, at, "claim", wait+callSlack, in, &out)
	})
	leases := c.known.took(out.Leases)
	if len(leases) > 0 {
		return leases, nil
	}
	return nil, plain(err)
}

// interrupt ends a claim that waits, and waits a little for its answer.
func (c *WorkerClient) interrupt(ctx context.Context, at *Client, claim claimRequest, answered <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, interruptTimeout)
	defer cancel()
	in := interruptRequest{Worker: claim.Worker, Proof: claim.Proof, Poll: claim.Poll}
	if c.post(ctx, at, "interrupt", interruptTimeout, in, &nothing{}) != nil {
		return // the claim is cut: what it may have got is given back, or found missing
	}
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// Beat implements worker.Queue.
func (c *WorkerClient) Beat(ctx context.Context, worker string, held []job.Held) ([]job.Order, error) {
	var out ordersReply
	in := beatRequest{Worker: worker, Proof: c.known.session(worker), Held: held}
	err := c.try(ctx, func(at *Client) error {
		out = ordersReply{}
		return c.post(ctx, at, "beat", beatTimeout, in, &out)
	})
	if err == nil {
		c.known.beat(held)
	}
	return out.Orders, plain(err)
}

// Orders implements worker.Queue.
func (c *WorkerClient) Orders(ctx context.Context, worker string, wait time.Duration) ([]job.Order, error) {
	var out ordersReply
	in := ordersRequest{Worker: worker, Proof: c.known.session(worker), Wait: job.Duration(wait)}
	err := c.try(ctx, func(at *Client) error {
		out = ordersReply{}
		return c.post(ctx, at, "orders", wait+callSlack, in, &out)
	})
	return out.Orders, plain(err)
}

// Leave implements worker.Queue.
func (c *WorkerClient) Leave(ctx context.Context, worker string) error {
	in := leaveRequest{Worker: worker, Proof: c.known.session(worker)}
	err := c.try(ctx, func(at *Client) error {
		return c.post(ctx, at, "leave", leaveTimeout, in, &nothing{})
	})
	return plain(err)
}

// known is what the servers gave this worker: proofs, and which files its jobs
// have.
type known struct {
	mu       sync.Mutex
	sessions map[string]proof      // guarded by mu; by worker
	leases   map[job.ID]knownLease // guarded by mu
}

// knownLease is a lease that this worker has, or had a moment ago.
type knownLease struct {
	fence job.Fence
	proof proof
	files []job.File
	// beaten says that a beat has named it: when a later one does not, it is over.
	beaten bool
}

func (k *known) attached(worker string, p proof) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sessions == nil {
		k.sessions = map[string]proof{}
	}
	k.sessions[worker] = p
}

func (k *known) session(worker string) proof {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sessions[worker]
}

// took remembers leases.
func (k *known) took(wire []leaseWire) []job.Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases == nil {
		k.leases = map[job.ID]knownLease{}
	}
	leases := make([]job.Lease, len(wire))
	for i, l := range wire {
		leases[i] = l.Lease
		if k.leases[l.Job.ID].fence <= l.Fence {
			k.leases[l.Job.ID] = knownLease{fence: l.Fence, proof: l.Proof, files: l.Job.Spec.Files}
		}
	}
	return leases
}

// beat forgets the leases that the worker no longer holds.
func (k *known) beat(held []job.Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	named := make(map[job.ID]bool, len(held))
	for _, h := range held {
		named[h.ID] = true
	}
	for id, l := range k.leases {
		switch {
		case named[id]:
			l.beaten = true
			k.leases[id] = l
		case l.beaten:
			delete(k.leases, id)
		}
	}
}

// prove returns the proof of a lease, "" if it is not known.
func (k *known) prove(id job.ID, fence job.Fence) proof {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.leases[id]; l.fence == fence {
		return l.proof
	}
	return ""
}

// ended forgets a lease.
func (k *known) ended(id job.ID, fence job.Fence) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases[id].fence == fence {
		delete(k.leases, id)
	}
}
