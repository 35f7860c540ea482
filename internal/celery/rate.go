package celery

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// limits are the rates and times that people set for tasks by remote control.
// They live as long as the process, as a Celery worker's do.
type limits struct {
	mu    sync.Mutex
	tasks map[string]limit // guarded by mu: by the name of the task
}

// limit is what is set for one task.
type limit struct {
	rate       string        // as it was given: 10/m
	interval   time.Duration // between two starts; 0: no limit
	next       time.Time     // the first slot that is free
	soft, hard float64       // seconds; 0: none
}

func newLimits() *limits { return &limits{tasks: make(map[string]limit)} }

// Delay reserves the next slot for a task and returns how long it is until then;
// 0 is now. Each task has slots of its own, so none delays another.
func (l *limits) Delay(task string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[task]
	if t.interval == 0 {
		return 0
	}
	slot := t.next
	if slot.Before(now) {
		slot = now
	}
	t.next = slot.Add(t.interval)
	l.tasks[task] = t
	return slot.Sub(now)
}

// Times returns the seconds that a task of the name may run, which is asked to
// stop after the first and killed after the second; 0 is no limit.
func (l *limits) Times(task string) (soft, hard float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[task]
	return t.soft, t.hard
}

// Rate returns the rate that is set for a task as it was given; "": none.
func (l *limits) Rate(task string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tasks[task].rate
}

// SetRate sets how often a task may start; an interval of 0 is no limit.
func (l *limits) SetRate(task, rate string, interval time.Duration) {
	l.change(task, func(t *limit) {
		t.rate, t.interval, t.next = rate, interval, time.Time{}
		if interval == 0 {
			t.rate = ""
		}
	})
}

// SetTimes sets how long a task may run.
func (l *limits) SetTimes(task string, soft, hard float64) {
	l.change(task, func(t *limit) { t.soft, t.hard = soft, hard })
}

func (l *limits) change(task string, change func(*limit)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[task]
	change(&t)
	l.tasks[task] = t
}

// lowestRate is one start a year: what is slower is a mistake, and its interval
// would not fit a duration.
const lowestRate = 1.0 / (365 * 24 * 3600)

// perSecond are the words after the slash of a rate, in seconds.
var perSecond = map[string]float64{"s": 1, "m": 60, "h": 3600}

// parseRate reads a rate such as 10/s, 10/m, 10/h or 10; nothing and 0 are no
// limit. Its errors are those of Python.
func parseRate(rate string) (time.Duration, error) {
	if rate == "" {
		return 0, nil
	}
	number, unit, _ := strings.Cut(rate, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(n) {
		return 0, valueError("could not convert string to float: %s", wire.Repr(number))
	}
	if unit == "" {
		unit = "s"
	}
	seconds, known := perSecond[unit]
	if !known {
		return 0, valueError("a rate is per %s, not per %s", strings.Join(slices.Sorted(maps.Keys(perSecond)), ", "), wire.Repr(unit))
	}
	n /= seconds
	switch {
	case n == 0:
		return 0, nil
	case n < lowestRate:
		return 0, valueError("the rate %s is too low", rate)
	}
	return time.Duration(float64(time.Second) / n), nil
}
