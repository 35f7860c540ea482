package queue

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// defaultQueues exist in every installation; the names are those of NANO-OS.
var defaultQueues = [...]string{job.DefaultQueue, "default", "high_priority"}

var queueName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Prepare creates the queues that every installation has. It may be called any
// number of times; Submit, Maintain and the methods on queues call it if nobody has.
func (s *Service) Prepare(ctx context.Context) error {
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		var w wakes
		have, err := tx.Queues(ctx)
		if err != nil {
			return 0, err
		}
		for _, name := range defaultQueues {
			if slices.ContainsFunc(have, func(q store.Queue) bool { return q.Name == name }) {
				continue
			}
			if err := tx.SaveQueue(ctx, store.Queue{Name: name}); err != nil {
				return 0, err
			}
			w = wakeChanged
		}
		return w, nil
	})
	if err != nil {
		return fmt.Errorf("create the default queues: %w", err)
	}
	s.prepared.Store(true)
	return nil
}

func (s *Service) prepareOnce(ctx context.Context) error {
	if s.prepared.Load() {
		return nil
	}
	return s.Prepare(ctx)
}

// SetQueue creates a queue or changes its defaults; whether it is paused stays
// as it is.
func (s *Service) SetQueue(ctx context.Context, q store.Queue) error {
	var v findings
	if !queueName.MatchString(q.Name) {
		v.add("name", fmt.Sprintf("%.80q is not a queue name", q.Name), "", "use small letters, digits and . _ -, at most 63")
	}
	v.duration("walltime", q.Walltime, 0)
	// Below a minute a busy machine would look lost; beyond a week nobody waits.
	if q.LostAfter != 0 && (q.LostAfter < job.Duration(time.Minute) || q.LostAfter > job.Duration(7*24*time.Hour)) {
		v.add("lost_after", fmt.Sprintf("%s is outside 1 minute … 7 days", q.LostAfter), "", "")
	}
	if err := job.InvalidInput("the queue was not changed", v.problems); err != nil {
		return err
	}
	if err := s.prepareOnce(ctx); err != nil {
		return err
	}
	defer s.recent.forget()
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		have, err := tx.Queues(ctx)
		if err != nil {
			return 0, fmt.Errorf("read queues: %w", err)
		}
		q.Paused = nil
		for _, old := range have {
			if old.Name == q.Name {
				q.Paused = old.Paused
			}
		}
		return wakeChanged, tx.SaveQueue(ctx, q)
	})
}

// PauseQueue stops claims from a queue, ResumeQueue allows them again. Jobs
// that run go on.
func (s *Service) PauseQueue(ctx context.Context, name string, a Actor) error {
	return s.changeQueue(ctx, name, func(q *store.Queue, now time.Time) wakes {
		if q.Paused == nil {
			q.Paused = &job.Request{By: a.By, At: now, Why: a.Why}
		}
		return wakeChanged
	})
}

// ResumeQueue undoes PauseQueue.
func (s *Service) ResumeQueue(ctx context.Context, name string, a Actor) error {
	return s.changeQueue(ctx, name, func(q *store.Queue, _ time.Time) wakes {
		q.Paused = nil
		return wakeChanged | wakeWork
	})
}

func (s *Service) changeQueue(ctx context.Context, name string, change func(*store.Queue, time.Time) wakes) error {
	if err := s.prepareOnce(ctx); err != nil {
		return err
	}
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		have, err := tx.Queues(ctx)
		if err != nil {
			return 0, fmt.Errorf("read queues: %w", err)
		}
		q, problems := findQueue(name, have)
		if len(problems) > 0 {
			return 0, &job.Error{Code: job.NotFound, Message: problems[0].Message, Why: problems[0].Why, Fix: problems[0].Fix}
		}
		w := change(&q, tx.Now())
		return w, tx.SaveQueue(ctx, q)
	})
}

// queuesKept is how long a process remembers the queues that it has read. A new
// default reaches other servers so late; a queue that is not among them is
// looked for at once.
const queuesKept = time.Second

// recentQueues are those that were read a moment ago, so that not every
// submission begins with a snapshot of its own.
type recentQueues struct {
	mu   sync.Mutex
	list []store.Queue // guarded by mu; nil when they are to be read
	old  *time.Timer   // guarded by mu; forgets them
}

// forAll returns the queues if nothing else needs to be read for the batch.
func (r *recentQueues) forAll(batch []submission) []store.Queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range batch {
		name := cmp.Or(batch[i].asked.Queue, job.DefaultQueue)
		if batch[i].digest != "" || !slices.ContainsFunc(r.list, func(q store.Queue) bool { return q.Name == name }) {
			return nil
		}
	}
	return r.list
}

func (r *recentQueues) keep(queues []store.Queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old == nil {
		r.list, r.old = queues, time.AfterFunc(queuesKept, r.forget)
	}
}

func (r *recentQueues) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old != nil {
		r.old.Stop()
	}
	r.list, r.old = nil, nil
}

// findQueue returns a queue by its name, or what to say when there is none.
func findQueue(name string, have []store.Queue) (store.Queue, []job.Problem) {
	names := make([]string, len(have))
	for i, q := range have {
		if q.Name == name {
			return q, nil
		}
		names[i] = q.Name
	}
	slices.Sort(names)
	p := job.Problem{Field: "queue", Message: fmt.Sprintf("there is no queue %.80q", name), Why: "the queues are " + strings.Join(names, ", ")}
	if near := job.Nearest(name, slices.Values(names)); near != "" {
		p.Fix = fmt.Sprintf("did you mean %s?", near)
	}
	return store.Queue{}, []job.Problem{p}
}
