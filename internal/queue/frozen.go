package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// An installation that was restored from a backup starts frozen: what it says
// about running jobs is old. Until a person has looked and thaws it, no job is
// taken in, given out, given up or settled, so that nothing is lost which the
// workers still have. Reading works, and so do the decisions of people about
// jobs that wait (G21).

const (
	// metaFrozen says why the installation is frozen; empty when it is not.
	metaFrozen = "frozen"
	// metaThawed is when the last thaw was.
	metaThawed = "thawed"
	// thawNoticed is how long a process may believe that nobody has frozen the
	// installation: a restore replaces the database under it.
	thawNoticed = time.Second
)

// Thaw lets a restored installation work again. Every worker attaches anew, and
// settles by what is on its disk what it ran since the backup.
func (s *Service) Thaw(ctx context.Context, a Actor) error {
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		why, err := tx.Meta(ctx, metaFrozen)
		if err != nil || why == "" {
			return 0, err
		}
		ws, err := tx.Workers(ctx)
		if err != nil {
			return 0, fmt.Errorf("read workers: %w", err)
		}
		for _, w := range ws {
			// Its leases are of before the restore, so its session is over.
			w.EndedAt = tx.Now()
			if err := tx.SaveWorker(ctx, w); err != nil {
				return 0, fmt.Errorf("end the session of worker %s: %w", w.Worker, err)
			}
		}
		// Nobody has listened to them meanwhile: the leader's term begins anew.
		for key, value := range map[string]string{metaFrozen: "", metaTerm: "", metaThawed: tx.Now().Format(time.RFC3339Nano)} {
			if err := tx.SetMeta(ctx, key, value); err != nil {
				return 0, fmt.Errorf("thaw: %w", err)
			}
		}
		if err := tx.AppendEvents(ctx, []job.Event{notice(job.EventThawed, "", a)}); err != nil {
			return 0, fmt.Errorf("append an event: %w", err)
		}
		return wakeChanged | wakeWork | wakeDue, nil
	})
}

// thawed remembers when the installation was last seen not to be frozen.
type thawed struct {
	mu sync.Mutex
	at time.Time
}

// moving returns why a frozen installation does nothing, and nil in all others.
func (s *Service) moving(ctx context.Context, tx store.ReadTx) error {
	why, err := s.frozen(ctx, tx)
	if err != nil || why == "" {
		return err
	}
	return &job.Error{Code: job.Unavailable, Message: "the installation is frozen", Why: why,
		Fix: "look at what was restored, then: nanoos server thaw"}
}

// frozen returns why the installation is frozen, "" if it is not.
func (s *Service) frozen(ctx context.Context, tx store.ReadTx) (why string, err error) {
	now := tx.Now()
	s.thawed.mu.Lock()
	recent := !s.thawed.at.IsZero() && now.Sub(s.thawed.at) >= 0 && now.Sub(s.thawed.at) < thawNoticed
	s.thawed.mu.Unlock()
	if recent {
		return "", nil
	}
	if why, err = tx.Meta(ctx, metaFrozen); err != nil {
		return "", fmt.Errorf("read whether the installation is frozen: %w", err)
	}
	if why == "" {
		s.thawed.mu.Lock()
		s.thawed.at = now
		s.thawed.mu.Unlock()
	}
	return why, nil
}

// eraBits are the bits of a fence below the incarnation that gave it out.
const eraBits = 40

// beforeRestore reports whether a fence was given out before a restore that another
// has seen.
func beforeRestore(f, current job.Fence) bool { return f>>eraBits < current>>eraBits }

// attachAgain is the answer to a lease of before a restore. Whether its attempt
// goes on is decided when its worker attaches, and nothing of it is to be
// dropped until then.
func attachAgain(id job.ID) error {
	return &job.Error{Code: job.Unavailable, Message: fmt.Sprintf("the lease of job %s is of before a restore", id),
		Why: "the worker has not attached since", Fix: "the worker attaches again by itself"}
}
