package worker

import (
	"testing"
	"time"
)

func TestABurstOfStartsIsOverOnceNoMoreCome(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var b burst
	for _, c := range []struct {
		at   time.Duration
		runs int
		want bool
		why  string
	}{
		{0, burstOf, false, "they have just begun"},
		{burstOver - 1, 2 * burstOf, false, "more came"},
		{2*burstOver - 2, 2 * burstOf, false, "it is not quiet for long enough"},
		{2*burstOver - 1, 2 * burstOf, true, "it is quiet"},
		{3 * burstOver, 2 * burstOf, false, "it was told before"},
		{4 * burstOver, 2*burstOf + 1, false, "one more is no burst"},
		{6 * burstOver, 2*burstOf + 1, false, "one more is no burst, however long"},
		{7 * burstOver, 1, false, "they have ended"},
		{8 * burstOver, 1 + burstOf, false, "the next burst has just begun"},
		{9 * burstOver, 1 + burstOf, true, "the next burst is over"},
	} {
		if got := b.over(begin.Add(c.at), c.runs); got != c.want {
			t.Errorf("after %s with %d runs: over is %t, though %s", c.at, c.runs, got, c.why)
		}
	}
}
