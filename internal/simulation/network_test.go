package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/worker"
)

const (
	// callTimeout is what a client adds to the time that a call may wait.
	callTimeout = 10 * time.Second
	// lastAnswer is how long a claim that its worker gave up is still listened to.
	lastAnswer = 2 * time.Second
)

var (
	errLost    = &job.Error{Code: job.Unavailable, Message: "the server does not answer"}
	errNoRoute = &job.Error{Code: job.Unavailable, Message: "connection refused"}
)

// wire is the network between one machine and the servers.
type wire struct {
	toServer, fromServer atomic.Bool // cut
}

// link is a client of the servers on a machine: the worker.Queue of a worker, and
// what people use.
type link struct {
	world *world
	proc  *process
	wire  *wire
	life  int // of the machine's processes

	mu    sync.Mutex
	calls map[string]int // so far, by what they are about; guarded by mu
	fails map[string]int // those that failed: the next goes to the other server; guarded by mu
}

// next is the stream and the server of the next call: calls of different kinds
// may be made at the same instant, in any order.
func (l *link) next(o *op) (*chance, *server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls, l.fails = map[string]int{}, map[string]int{}
	}
	about := o.kind + "/" + o.about
	l.calls[about]++
	ch := l.world.chance.of(fmt.Sprintf("%s.%d/%s/%d", l.proc.name, l.life, about, l.calls[about]))
	return ch, l.world.servers[(l.life+l.fails[about])%len(l.world.servers)]
}

func (l *link) failed(o *op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fails[o.kind+"/"+o.about]++
}

var _ worker.Queue = (*link)(nil)

func (l *link) Attach(ctx context.Context, s job.Session, found []job.Found) (job.Attachment, error) {
	return over(ctx, l, &op{kind: "attach", worker: s.Worker}, 0, func(ctx context.Context, q *queue.Service) (job.Attachment, error) {
		return q.Attach(ctx, s, found)
	})
}

func (l *link) Claim(ctx context.Context, name string, free job.Offer, most int, wait time.Duration) ([]job.Lease, error) {
	return over(ctx, l, &op{kind: "claim", worker: name}, wait, func(ctx context.Context, q *queue.Service) ([]job.Lease, error) {
		return q.Claim(ctx, name, free, most, wait)
	})
}

func (l *link) Beat(ctx context.Context, name string, held []job.Held) ([]job.Order, error) {
	o := &op{kind: "beat", worker: name, held: map[job.ID]job.Fence{}}
	for _, h := range held {
		o.held[h.ID] = h.Fence
	}
	orders, err := over(ctx, l, o, 0, func(ctx context.Context, q *queue.Service) ([]job.Order, error) { return q.Beat(ctx, name, held) })
	return l.world.mutant.filter(orders), err
}

func (l *link) Orders(ctx context.Context, name string, wait time.Duration) ([]job.Order, error) {
	orders, err := over(ctx, l, &op{kind: "orders", worker: name}, wait, func(ctx context.Context, q *queue.Service) ([]job.Order, error) {
		return q.Orders(ctx, name, wait)
	})
	return l.world.mutant.filter(orders), err
}

func (l *link) Finish(ctx context.Context, lease job.Lease, out job.Outcome) error {
	o := &op{kind: "finish", about: l.world.nameOf(lease.Job.ID), worker: l.proc.name}
	_, err := over(ctx, l, o, 0, func(ctx context.Context, q *queue.Service) (struct{}, error) {
		l.world.history.reported(lease.Job.ID, report{o.worker, lease.Fence, lease.Job.Attempt})
		lease := lease
		lease.Fence = l.world.guard(o.worker, lease)
		return struct{}{}, q.Finish(ctx, lease, out)
	})
	return err
}

func (l *link) Leave(ctx context.Context, name string) error {
	_, err := over(ctx, l, &op{kind: "leave", worker: name}, 0, func(ctx context.Context, q *queue.Service) (struct{}, error) {
		return struct{}{}, q.Leave(ctx, name)
	})
	return err
}

// reply is what came back.
type reply[T any] struct {
	value T
	err   error
}

// over makes one call through the network. A request may be lost, late or
// delivered twice, its answer may be lost or late, and the server may be down,
// stop in between or die.
func over[T any](ctx context.Context, l *link, o *op, wait time.Duration, do func(context.Context, *queue.Service) (T, error)) (T, error) {
	var none T
	if !l.proc.pass() {
		return none, errKilled
	}
	ch, s := l.next(o)
	answer := make(chan reply[T], 1)
	gone, hangUp := context.WithCancel(l.world.ctx)
	defer hangUp()
	l.world.deliver(func() { request(gone, l, o, ch.of("first"), s, answer, do) })
	if !o.once && ch.happens(l.world.faults.rate(l.world.faults.duplicate)) {
		l.world.deliver(func() {
			time.Sleep(ch.within(0, 20*time.Second))
			request(l.world.ctx, l, o, ch.of("again"), s, make(chan reply[T], 1), do)
		})
	}
	r, err := await(ctx, l, o, wait, answer, hangUp)
	if !l.proc.pass() {
		return none, errKilled
	}
	if err == nil {
		err = r.err
	}
	if err != nil || o.kind == "attach" {
		l.world.logf("%s: %s: %v", l.proc.name, o.kind, err)
	}
	if job.CodeOf(err) == job.Unavailable {
		l.failed(o)
	}
	return r.value, err
}

// await waits for the answer as a client does. Only a claim is worth hearing
// after its caller left: it may have brought leases.
func await[T any](ctx context.Context, l *link, o *op, wait time.Duration, answer chan reply[T], hangUp func()) (reply[T], error) {
	limit := time.NewTimer(wait + callTimeout)
	defer limit.Stop()
	left := ctx.Done()
	for {
		select {
		case r := <-answer:
			return r, nil
		case <-limit.C:
			return reply[T]{}, errLost
		case <-l.proc.dead:
			return reply[T]{}, errKilled
		case <-left:
			hangUp()
			if o.kind != "claim" {
				return reply[T]{}, context.Cause(ctx)
			}
			left = nil
			limit.Reset(lastAnswer)
		}
	}
}

// request is the way of one request there and back. gone ends when the client
// hangs up.
func request[T any](gone context.Context, l *link, o *op, ch *chance, s *server, answer chan reply[T], do func(context.Context, *queue.Service) (T, error)) {
	f := l.world.faults
	time.Sleep(f.flight(ch))
	if l.wire.toServer.Load() || ch.happens(f.rate(f.drop)) {
		return
	}
	life := s.current()
	if life == nil {
		time.Sleep(f.flight(ch))
		answer <- reply[T]{err: errNoRoute}
		return
	}
	mine := *o
	mine.chance = ch.of("work")
	ctx, cancel := context.WithCancelCause(withOp(life.proc.ctx, &mine))
	defer cancel(nil)
	defer context.AfterFunc(gone, func() {
		if sleep(life.proc.ctx, f.flight(ch.of("hang up"))) {
			cancel(errors.New("the client hung up"))
		}
	})()
	if !life.proc.passWith(ch) {
		return
	}
	v, err := do(ctx, life.queue)
	if !life.proc.passWith(ch) {
		return
	}
	time.Sleep(f.flight(ch))
	if l.wire.fromServer.Load() || ch.happens(f.rate(f.drop)) {
		return
	}
	answer <- reply[T]{v, known(err)}
}

// known is an error as it arrives: what is not ours to tell is Internal.
func known(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*job.Error](err); ok {
		return e
	}
	return &job.Error{Code: job.Internal, Message: err.Error()}
}
