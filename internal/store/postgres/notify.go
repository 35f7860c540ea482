package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var _ store.Notifier = (*Store)(nil)

const (
	// notifyEvery is the least time between two notifications of a process:
	// NOTIFY serialises the commits that carry one, in the whole database (S5).
	notifyEvery = 100 * time.Millisecond
	// listenPing is how often a silent session of a listener is tried.
	listenPing = 30 * time.Second
	// everyKind is told when something may have been missed.
	everyKind = 0xff
)

// notifier tells other processes what this one has committed: outside of the
// transactions, in a session of its own, and many commits at once.
type notifier struct {
	*server
	id    string // in every notification, to know our own
	kinds chan uint8
	done  chan struct{}
}

func newNotifier(s *server) *notifier {
	return &notifier{server: s, id: string(job.NewID()), kinds: make(chan uint8, 1), done: make(chan struct{})}
}

func (n *notifier) stop() { close(n.done) }

// Notify implements store.Notifier.
func (s *Store) Notify(kinds uint8) {
	for {
		select {
		case s.notes.kinds <- kinds:
			return
		case waiting := <-s.notes.kinds:
			kinds |= waiting
		}
	}
}

// send sends what Notify was given. What cannot be sent is dropped: whoever
// waits for it also looks by himself.
func (n *notifier) send() {
	var c *conn
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		select {
		case <-n.done:
			return
		case kinds := <-n.kinds:
			c = n.sendOne(c, kinds)
		}
		select {
		case <-n.done:
			return
		case <-time.After(notifyEvery):
		}
	}
}

func (n *notifier) sendOne(c *conn, kinds uint8) *conn {
	ctx, cancel := context.WithTimeout(context.Background(), n.bounds.answer)
	defer cancel()
	if c == nil {
		var err error
		if c, err = n.connect(ctx); err != nil {
			return nil
		}
	}
	if err := c.exec(ctx, "SELECT pg_notify('nanoos', $1)", n.id+" "+strconv.Itoa(int(kinds))); err != nil {
		c.close()
		return nil
	}
	return c
}

// Listen implements store.Notifier. A session that breaks is replaced; behind a
// pooler, where nothing is ever heard, it just waits.
func (s *Store) Listen(ctx context.Context, heard func(kinds uint8)) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		began := time.Now()
		_ = s.notes.listen(ctx, heard) // it ended, and that is all that matters
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(began) > listenPing {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// listen hears notifications on one session, which is closed at the end: one
// that was given back would stay subscribed.
func (n *notifier) listen(ctx context.Context, heard func(kinds uint8)) error {
	c, err := n.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.pg.Exec(ctx, "LISTEN nanoos"); err != nil {
		return err
	}
	heard(everyKind) // what was said before is lost
	for {
		wait, cancel := context.WithTimeout(ctx, listenPing)
		note, err := c.pg.WaitForNotification(wait)
		quiet := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			if kinds, ok := n.parse(note.Payload); ok {
				heard(kinds)
			}
		case ctx.Err() != nil || !quiet:
			return err
		default:
			if err := n.ping(ctx, c); err != nil {
				return err
			}
		}
	}
}

// ping finds out whether a silent session still is one.
func (n *notifier) ping(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, n.bounds.answer)
	defer cancel()
	if err := c.pg.Ping(ctx); err != nil {
		return fmt.Errorf("ping the listening session: %w", err)
	}
	return nil
}

// parse reads a notification. Our own tells us nothing new.
func (n *notifier) parse(payload string) (kinds uint8, ok bool) {
	id, number, _ := strings.Cut(payload, " ")
	k, err := strconv.ParseUint(number, 10, 8)
	return uint8(k), err == nil && id != n.id
}
