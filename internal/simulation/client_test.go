package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
)

// client is a person or a program that submits jobs and changes its mind.
type client struct {
	world *world
	name  string
	link  *link
	ch    *chance
	ids   []job.ID // that it knows of
}

func newClient(w *world, n int) *client {
	name := fmt.Sprintf("client%d", n)
	p := newProcess(w.ctx, name)
	l := &link{world: w, proc: p, wire: &wire{}}
	return &client{world: w, name: name, link: l, ch: w.chance.of(name)}
}

// live acts until the faults are over; every answer, or its absence, goes into
// the history.
func (c *client) live(ctx context.Context) {
	for n := 0; sleep(ctx, c.ch.within(0, 20*time.Second)); n++ {
		x := c.ch.float()
		switch {
		case x < 0.6 || len(c.ids) == 0:
			c.submit(ctx, fmt.Sprintf("%s-%d", c.name, n))
		case x < 0.72:
			c.change(ctx, "cancel", (*queue.Service).Cancel)
		case x < 0.82:
			c.change(ctx, "retry", (*queue.Service).Retry)
		case x < 0.88:
			c.change(ctx, "hold", (*queue.Service).Hold)
		case x < 0.96:
			c.change(ctx, "release", (*queue.Service).Release)
		default:
			c.pause(ctx)
		}
	}
}

// submit sends a job with a key until it has an answer, or one without a key once.
func (c *client) submit(ctx context.Context, name string) {
	key := ""
	if c.ch.happens(0.7) {
		key = "key-" + name
	}
	spec := specOf(c.ch, name, key, time.Now())
	for try := 1; try <= 5 && ctx.Err() == nil; try++ {
		cl := &call{kind: "submit", name: name, key: key}
		c.world.history.invoke(cl)
		got, err := over(c.link.proc.ctx, c.link, &op{kind: "submit", once: key == ""}, 0, func(ctx context.Context, q *queue.Service) (job.Job, error) {
			out, err := q.Submit(ctx, job.DefaultTenant, spec)
			if err != nil {
				return job.Job{}, err
			}
			return out[0].Job, nil
		})
		c.note(cl, got, err)
		if err == nil {
			c.ids = append(c.ids, got.ID)
			return
		}
		if cl.answer == refused || key == "" {
			return
		}
	}
}

type changing func(*queue.Service, context.Context, job.Tenant, job.ID, queue.Actor) (job.Job, error)

// change asks for a change of one of its jobs, once.
func (c *client) change(ctx context.Context, kind string, do changing) {
	id := oneOf(c.ch, c.ids)
	cl := &call{kind: kind, id: id}
	c.world.history.invoke(cl)
	got, err := over(c.link.proc.ctx, c.link, &op{kind: kind}, 0, func(ctx context.Context, q *queue.Service) (job.Job, error) {
		return do(q, ctx, job.DefaultTenant, id, queue.Actor{By: c.name})
	})
	c.note(cl, got, err)
}

// pause stops the queue for a while.
func (c *client) pause(ctx context.Context) {
	set := func(do func(*queue.Service, context.Context, string, queue.Actor) error) error {
		_, err := over(c.link.proc.ctx, c.link, &op{kind: "pause"}, 0, func(ctx context.Context, q *queue.Service) (struct{}, error) {
			return struct{}{}, do(q, ctx, job.DefaultQueue, queue.Actor{By: c.name})
		})
		return err
	}
	_ = set((*queue.Service).PauseQueue)
	sleep(ctx, c.ch.within(time.Second, 20*time.Second))
	_ = set((*queue.Service).ResumeQueue)
}

func (c *client) note(cl *call, got job.Job, err error) {
	a := acknowledged
	switch job.CodeOf(err) {
	case "":
	case job.Unavailable, job.Internal:
		a = unknown
	default:
		a = refused
	}
	if err != nil && job.CodeOf(err) == "" {
		a = unknown
	}
	c.world.history.answered(cl, a, got.ID, got.State)
	c.world.logf("%s: %s %s%s → %s", c.name, cl.kind, cl.name, c.world.nameOf(cl.id), a)
}
