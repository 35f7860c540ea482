package simulation

import (
	"fmt"
	"sync/atomic"
	"time"
)

// faults says how bad things are; after the end of the faults, nothing is.
type faults struct {
	over atomic.Bool

	drop, duplicate          float64       // of messages between machines
	latency                  time.Duration // at most
	writeFails, writeRepeats float64
	answerLost               float64 // of commits
	slow                     float64 // of the ways to the database
}

// newFaults makes a quiet or a bad neighbourhood.
func newFaults(ch *chance) *faults {
	bad := ch.float()
	return &faults{
		drop: 0.10 * bad, duplicate: 0.10 * bad, latency: time.Duration(float64(400*time.Millisecond) * bad),
		writeFails: 0.05 * bad, writeRepeats: 0.05, answerLost: 0.08 * bad, slow: 0.02 * bad,
	}
}

func (f *faults) active() bool { return !f.over.Load() }

// rate is p while there are faults.
func (f *faults) rate(p float64) float64 {
	if f.active() {
		return p
	}
	return 0
}

// flight is how long a message is under way.
func (f *faults) flight(ch *chance) time.Duration {
	if f.active() {
		return time.Millisecond + ch.within(0, f.latency)
	}
	return ch.within(100*time.Microsecond, time.Millisecond)
}

// trouble is one kind of thing that happens to machines.
type trouble struct {
	name string
	do   func(w *world, ch *chance)
}

// troubles are all kinds. Each ends by itself; the longest outlasts the patience
// of the queue three times.
var troubles = []trouble{
	{"server crash", func(w *world, ch *chance) {
		s := oneOf(ch, w.servers)
		s.crash()
		w.later(ch.within(0, 20*time.Second), s.start)
	}},
	{"all servers crash", func(w *world, ch *chance) {
		for _, s := range w.servers {
			s.crash()
			w.later(ch.within(0, 2*lostAfter), s.start)
		}
	}},
	{"server frozen", func(w *world, ch *chance) {
		if l := oneOf(ch, w.servers).current(); l != nil {
			l.proc.freeze()
			w.later(ch.within(time.Second, 3*lostAfter), l.proc.thaw)
		}
	}},
	{"worker crash", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.crashWorker()
		w.later(ch.within(0, 10*time.Second), h.startWorker)
	}},
	{"worker away", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.crashWorker()
		w.later(ch.within(10*time.Second, 3*lostAfter), h.startWorker)
	}},
	{"worker deployed", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.stopWorker()
		w.later(ch.within(5*time.Second, 15*time.Second), func() { h.crashWorker(); h.startWorker() })
	}},
	{"worker frozen", func(w *world, ch *chance) {
		if p := oneOf(ch, w.hosts).worker(); p != nil {
			p.freeze()
			w.later(ch.within(time.Second, 3*lostAfter), p.thaw)
		}
	}},
	{"host rebooted", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.reboot()
		w.later(ch.within(5*time.Second, 2*lostAfter), h.startWorker)
	}},
	{"host cut off", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.wire.toServer.Store(true)
		h.wire.fromServer.Store(true)
		w.later(ch.within(time.Second, 3*lostAfter), h.mend)
	}},
	{"host not heard", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.wire.toServer.Store(true)
		w.later(ch.within(time.Second, 2*lostAfter), h.mend)
	}},
	{"host not answered", func(w *world, ch *chance) {
		h := oneOf(ch, w.hosts)
		h.wire.fromServer.Store(true)
		w.later(ch.within(time.Second, 2*lostAfter), h.mend)
	}},
}

func (h *host) mend() {
	h.wire.toServer.Store(false)
	h.wire.fromServer.Store(false)
}

// trouble lets one thing after the other happen until the faults are over.
func (w *world) trouble() {
	ch := w.chance.of("trouble")
	pace := ch.within(6*time.Second, 40*time.Second)
	for sleep(w.stormy, ch.within(time.Second, pace)) {
		t := oneOf(ch, troubles)
		w.logf("%s", t.name)
		t.do(w, ch)
	}
}

// calm ends all faults and mends what they left.
func (w *world) calm() {
	w.faults.over.Store(true)
	w.logf("the faults are over")
	for _, s := range w.servers {
		if l := s.current(); l != nil {
			l.proc.thaw()
		}
		s.start()
	}
	for _, h := range w.hosts {
		h.mend()
		if p := h.worker(); p != nil {
			p.thaw()
			if p.ctx.Err() != nil {
				h.crashWorker() // it was leaving, and nobody else starts the next
			}
		}
		h.startWorker()
	}
}

// later does something unless the world has ended or calmed down by then.
func (w *world) later(d time.Duration, do func()) {
	w.wg.Go(func() {
		if sleep(w.stormy, d) {
			do()
		}
	})
}

func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf("%8.3fs  ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...))
	}
}
