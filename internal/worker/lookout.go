package worker

import (
	"context"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
)

const (
	// lookEvery is the period at which growing output is looked at: often enough
	// for a live bar.
	lookEvery = 250 * time.Millisecond
	// lookSeldom is the longest time between two looks at output that does not
	// grow, so that a thousand runs that are asleep cost next to nothing.
	lookSeldom = 2 * time.Second
	// readAtMost bounds what one look reads of one run, so that a program that
	// floods its output keeps nobody else from being looked at.
	readAtMost = 1 << 20
	// skipBehind is how far reading may fall behind a flood before it goes on at
	// the end: a bar that is minutes late helps nobody.
	skipBehind = 64 << 20
	// lookBuffer is how much is read at a time.
	lookBuffer = 64 << 10
)

// lookout reads the output of all running programs as it grows: one goroutine
// and one buffer for all of them.
type lookout struct {
	w    *Worker
	push *pushes // nil where nobody reads along from another machine
	buf  []byte

	mu    sync.Mutex
	runs  map[*run]*watched // guarded by mu
	added chan struct{}     // receives when there is another run to look at
}

// watched is a run whose output is looked at. Its fields are the lookout's own.
type watched struct {
	run     *run
	path    string
	monitor engine.Monitor // nil once it failed
	read    int64          // how much of the output the monitor has seen
	wait    time.Duration  // between the last look and the next
	next    time.Time
	sent    *sent // nil where nothing is sent
}

func newLookout(w *Worker) *lookout {
	l := &lookout{w: w, runs: map[*run]*watched{}, added: make(chan struct{}, 1)}
	if w.opt.Outputs != nil {
		l.push = newPushes(w)
	}
	return l
}

// add begins to look at the output of a run.
func (l *lookout) add(r *run) {
	at := &watched{run: r, path: r.proc.Stdout(), monitor: r.eng.Monitor(r.plan), wait: lookEvery}
	if l.push != nil {
		at.sent = r.sends()
	}
	l.mu.Lock()
	l.runs[r] = at
	l.mu.Unlock()
	select {
	case l.added <- struct{}{}:
	default:
	}
}

func (l *lookout) remove(r *run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.runs, r)
}

// run looks until ctx ends, as often as the liveliest of the runs needs it.
func (l *lookout) run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	if l.push != nil {
		l.push.start(ctx, &sending)
	}
	var starts burst
	for {
		now := time.Now()
		next := now.Add(lookSeldom)
		runs := l.all()
		if starts.over(now, len(runs)) {
			// What the starts took is returned to the machine. By itself the runtime
			// does so after minutes, for nothing is allocated while a thousand runs
			// are asleep.
			debug.FreeOSMemory()
		}
		for _, at := range runs {
			if due := l.visit(at, now); due.Before(next) {
				next = due
			}
		}
		var timer <-chan time.Time
		if len(runs) > 0 {
			timer = time.After(max(lookEvery, next.Sub(now)))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer:
		case <-l.added:
			// Whatever else begins now is looked at together with it.
			if !pause(ctx, lookEvery) {
				return
			}
		}
	}
}

// burst notices when many runs have begun and no more come.
type burst struct {
	before int       // runs, when the last burst was over
	runs   int       // at the last look
	since  time.Time // when that number was seen first
}

const (
	// burstOf is how many runs must have begun: fewer leave little.
	burstOf = 32
	// burstOver is how long none may have begun or ended.
	burstOver = 4 * time.Second
)

// over reports once that a burst is over.
func (b *burst) over(now time.Time, runs int) bool {
	if runs != b.runs {
		b.runs, b.since = runs, now
		b.before = min(b.before, runs)
	}
	if runs-b.before < burstOf || now.Sub(b.since) < burstOver {
		return false
	}
	b.before = runs
	return true
}

func (l *lookout) all() []*watched {
	l.mu.Lock()
	defer l.mu.Unlock()
	runs := make([]*watched, 0, len(l.runs))
	for _, at := range l.runs {
		runs = append(runs, at)
	}
	return runs
}

// visit looks at one run, if it is time, and returns when to look again: soon
// while its output grows, else after twice the time.
func (l *lookout) visit(at *watched, now time.Time) (next time.Time) {
	if !now.Before(at.next) {
		if l.look(at) {
			at.wait = lookEvery
		} else {
			at.wait = min(2*at.wait, lookSeldom)
		}
		at.next = now.Add(at.wait)
	}
	if at.sent == nil {
		return at.next
	}
	if due := l.push.offer(at.sent, now); due.Before(at.next) {
		return due
	}
	return at.next
}

// look feeds what is new to the run's monitor, and reports whether anything was.
func (l *lookout) look(at *watched) (grown bool) {
	if at.monitor == nil {
		return false
	}
	// A monitor that panics costs its own run the bar, and nothing else.
	defer func() {
		if p := recover(); p != nil {
			at.run.log.Error("the monitor panicked", "panic", p, "stack", string(debug.Stack()))
			at.monitor = nil
		}
	}()
	info, err := os.Stat(at.path)
	if err != nil || info.Size() <= at.read {
		return false
	}
	f, err := os.Open(at.path)
	if err != nil {
		at.run.log.Warn("cannot read the output", "error", err)
		return false
	}
	defer f.Close()
	if info.Size()-at.read > skipBehind {
		at.read = info.Size() - readAtMost
	}
	if l.buf == nil {
		l.buf = make([]byte, lookBuffer)
	}
	for end := at.read + readAtMost; at.read < end; {
		n, err := f.ReadAt(l.buf[:min(int64(len(l.buf)), end-at.read)], at.read)
		at.read += int64(n)
		if _, bad := at.monitor.Write(l.buf[:n]); bad != nil {
			at.run.log.Warn("cannot follow the output", "error", bad)
			at.monitor = nil
			return true
		}
		if err != nil {
			if err != io.EOF {
				at.run.log.Warn("cannot read the output", "error", err)
			}
			break
		}
	}
	at.run.publish(at.monitor)
	return true
}

// publish shows the monitor's progress; the fraction never falls.
func (r *run) publish(m engine.Monitor) {
	p := m.Progress()
	p.At = time.Now().UTC()
	r.mu.Lock()
	if r.last != nil && p.Fraction < r.last.Fraction {
		p.Fraction = r.last.Fraction
	}
	changed := r.last == nil || p.Fraction != r.last.Fraction || p.Stage != r.last.Stage || p.Step != r.last.Step
	r.last = &p
	r.mu.Unlock()
	if changed {
		r.w.progressed()
	}
}
