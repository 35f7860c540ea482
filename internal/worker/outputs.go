package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

const (
	// sendAfter is how old a run is when its output is sent for the first time:
	// what is over sooner is read when it is stored.
	sendAfter = time.Second
	// sendEvery is the time between two looks at what is new.
	sendEvery = time.Second
	// sendSeldom bounds the time between two tries while nobody takes them.
	sendSeldom = 30 * time.Second
	// sendChunk is how much one call carries, and sendTurn how many calls one
	// run makes before it is another's turn.
	sendChunk = 256 << 10
	sendTurn  = 8
	// senders is how many runs send at a time.
	senders = 4
	// sendLast bounds the sending after a run has ended.
	sendLast = time.Second
)

// pushes send the growing output of the runs to where people read along. They
// are help for people: a failure is tried again and hurts no run.
type pushes struct {
	w   *Worker
	due chan *sent
}

func newPushes(w *Worker) *pushes { return &pushes{w: w, due: make(chan *sent)} }

// start runs the senders until ctx ends.
func (p *pushes) start(ctx context.Context, wg *sync.WaitGroup) {
	for range senders {
		wg.Go(func() {
			var buf []byte
			for {
				select {
				case <-ctx.Done():
					return
				case s := <-p.due:
					if buf == nil {
						buf = make([]byte, sendChunk)
					}
					s.turn(ctx, buf)
				}
			}
		})
	}
}

// offer hands a run to a sender that is free, if it is time and there is
// something new, and returns when to come again.
func (p *pushes) offer(s *sent, now time.Time) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.busy || s.over:
		return now.Add(sendEvery)
	case now.Before(s.next):
		return s.next
	case !s.behind():
		s.quiet = min(max(2*s.quiet, lookEvery), lookSeldom)
		s.next = now.Add(s.quiet)
		return s.next
	}
	s.quiet = 0
	select {
	case p.due <- s:
		s.busy = true
		return now.Add(sendEvery)
	default:
		return now // all are busy
	}
}

// sent is how far the output of a run was sent.
type sent struct {
	run     *run
	streams [2]stream

	mu    sync.Mutex
	busy  bool // a sender has it; only it touches the streams
	over  bool // no sender may begin
	any   bool // something was sent
	next  time.Time
	wait  time.Duration // after failures
	quiet time.Duration // between looks that found nothing
	idle  chan struct{} // closed when the sender is done; nil while nobody waits
}

type stream struct {
	name, path string
	at         int64 // what the other side has
	full       bool  // it takes no more
}

// sends returns what sends the run's output.
func (r *run) sends() *sent {
	r.sent = &sent{run: r, next: time.Now().Add(sendAfter), streams: [2]stream{
		{name: engine.StdoutName, path: r.proc.Stdout()},
		{name: engine.StderrName, path: r.proc.Stderr()},
	}}
	return r.sent
}

// behind reports whether there is something to send.
func (s *sent) behind() bool {
	for i := range s.streams {
		st := &s.streams[i]
		if info, err := os.Stat(st.path); err == nil && !st.full && info.Size() > st.at {
			return true
		}
	}
	return false
}

// turn sends what is new, or a part of it.
func (s *sent) turn(ctx context.Context, buf []byte) {
	err := s.send(ctx, buf)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.any = false, true
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	s.wait = 0
	if err != nil {
		s.run.log.Debug("output was not sent", "error", err)
		s.wait = min(max(2*s.wait, sendEvery), sendSeldom)
	}
	s.next = time.Now().Add(max(sendEvery, s.run.w.spread(s.wait)))
}

// send sends both streams from where the other side is.
func (s *sent) send(ctx context.Context, buf []byte) error {
	var errs []error
	for i := range s.streams {
		if st := &s.streams[i]; !st.full {
			errs = append(errs, s.sendStream(ctx, st, buf))
		}
	}
	return errors.Join(errs...)
}

func (s *sent) sendStream(ctx context.Context, st *stream, buf []byte) error {
	f, err := os.Open(st.path)
	if err != nil {
		return err
	}
	defer f.Close()
	for range sendTurn {
		n, err := f.ReadAt(buf, st.at)
		if n == 0 {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		lease := s.run.lease
		lease.Fence = s.run.fence()
		stored, err := s.run.w.opt.Outputs.Append(ctx, lease, st.name, st.at, buf[:n])
		if code := job.CodeOf(err); code == job.Exhausted || code == job.Invalid {
			// As much as is kept of it, or a server that keeps none.
			st.full = true
			return nil
		}
		if err != nil {
			return err
		}
		moved := stored > st.at
		st.at = max(0, stored)
		if !moved {
			return nil // it is to begin earlier, at the next turn
		}
	}
	return nil
}

// finish sends the last of the output of a run that has ended, if somebody may
// be reading along; it is stored whole in a moment.
func (s *sent) finish(ctx context.Context) {
	s.mu.Lock()
	s.over = true
	if s.busy && s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle, reads := s.idle, s.any || s.busy
	s.mu.Unlock()
	if !reads {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendLast)
	defer cancel()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return
		}
	}
	if s.behind() {
		if err := s.send(ctx, make([]byte, sendChunk)); err != nil {
			s.run.log.Debug("the last output was not sent", "error", err)
		}
	}
}
