package executor

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// stopper decides how and why a run is brought to its end: the code's own soft
// stop, then SIGTERM, then SIGKILL. It is pure: boot time goes in, actions come
// out, and the supervisor carries them out.
type stopper struct {
	stop       SoftStop
	soft, hard time.Duration // boot times; zero means none
	cause      job.StopCause
	phase      phase
	next       time.Duration // boot time of the next escalation; zero means never
}

// phase is how far the stopper has gone; it never goes back.
type phase int

const (
	running phase = iota
	asked         // soft stop files are there
	termed        // SIGTERM was sent
	killed        // everything is being killed
)

func newStopper(s *spec, since time.Duration) stopper {
	st := stopper{stop: s.Stop}
	if s.Soft > 0 && len(s.Stop.Create) > 0 {
		st.soft = since + s.Soft
	}
	if s.Hard > 0 {
		st.hard = since + s.Hard
	}
	return st
}

// request asks for the end. It returns the phase to enter now.
//
// The first cause stays, except that any cause replaces the soft limit, which
// is only a wish that the code may still follow.
func (s *stopper) request(cause job.StopCause, now time.Duration) phase {
	if s.cause != job.CauseNone && s.cause != job.CauseSoftLimit {
		return s.phase
	}
	s.cause = cause
	switch cause {
	case job.CauseSoftLimit:
		s.ask(now)
		if s.hard > 0 {
			s.next = 0 // the hard limit ends it
		}
	case job.CauseCancelled:
		if len(s.stop.Create) > 0 && s.stop.Wait > 0 {
			s.ask(now)
		} else {
			s.term(now)
		}
	case job.CauseOOM, job.CauseKilled:
		s.phase = killed
	default:
		s.term(now)
	}
	return s.phase
}

// tick returns the phase to be in at this time.
func (s *stopper) tick(now time.Duration) phase {
	if s.hard > 0 && now >= s.hard && s.phase < termed {
		if s.cause == job.CauseNone || s.cause == job.CauseSoftLimit {
			s.cause = job.CauseWalltime
		}
		s.term(now)
	}
	if s.soft > 0 && now >= s.soft && s.cause == job.CauseNone {
		s.request(job.CauseSoftLimit, now)
	}
	if s.next > 0 && now >= s.next {
		s.escalate(now)
	}
	return s.phase
}

func (s *stopper) escalate(now time.Duration) {
	switch s.phase {
	case asked:
		if s.cause == job.CauseSoftLimit {
			s.cause = job.CauseWalltime // it did not follow the wish
		}
		s.term(now)
	case termed:
		s.phase, s.next = killed, 0
	}
}

func (s *stopper) ask(now time.Duration) {
	s.phase = max(s.phase, asked)
	s.next = now + s.stop.Wait
}

func (s *stopper) term(now time.Duration) {
	s.phase = max(s.phase, termed)
	s.next = now + s.stop.Grace
}
