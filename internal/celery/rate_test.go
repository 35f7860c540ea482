package celery

import (
	"testing"
	"time"
)

func TestCelery47_ARateDelaysItsOwnTaskAlone(t *testing.T) {
	t.Parallel()
	l := newLimits()
	l.SetRate("slow", "2/s", 500*time.Millisecond)
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{0, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond} {
		if got := l.Delay("slow", now); got != want {
			t.Errorf("start %d is delayed by %v, want %v", i, got, want)
		}
		if got := l.Delay("other", now); got != 0 {
			t.Errorf("the other task is delayed by %v", got)
		}
	}
	if got := l.Delay("slow", now.Add(time.Minute)); got != 0 {
		t.Errorf("after a pause the next start is delayed by %v: slots that passed unused do not count", got)
	}
	l.SetRate("slow", "0", 0)
	if got := l.Delay("slow", now.Add(time.Minute)); got != 0 {
		t.Errorf("without a rate it is delayed by %v", got)
	}
}

func TestRatesAreReadAsCeleryReadsThem(t *testing.T) {
	t.Parallel()
	for rate, want := range map[string]time.Duration{
		"10/s": 100 * time.Millisecond, "10": 100 * time.Millisecond, "10/m": 6 * time.Second, "10/h": 6 * time.Minute,
		"0.5/s": 2 * time.Second, "0": 0, "0/m": 0, "": 0, "1/h": time.Hour, "inf": 0,
	} {
		if got, err := parseRate(rate); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", rate, got, err, want)
		}
	}
	for rate, want := range map[string]string{
		"fast":  "ValueError: could not convert string to float: 'fast'",
		"nan":   "ValueError: could not convert string to float: 'nan'",
		"-1/s":  "ValueError: the rate -1/s is too low",
		"1e-9":  "ValueError: the rate 1e-9 is too low",
		"1/day": "ValueError: a rate is per h, m, s, not per 'day'",
	} {
		if got, err := parseRate(rate); err == nil || err.Error() != want {
			t.Errorf("%q: %v %v, want %s", rate, got, err, want)
		}
	}
}

func TestCelery48_TimesOfATaskAreKept(t *testing.T) {
	t.Parallel()
	l := newLimits()
	l.SetRate("a", "1/s", time.Second)
	l.SetTimes("a", 1.5, 3)
	if soft, hard := l.Times("a"); soft != 1.5 || hard != 3 {
		t.Errorf("times are %v and %v, want 1.5 and 3", soft, hard)
	}
	if soft, hard := l.Times("b"); soft != 0 || hard != 0 {
		t.Errorf("the other task has times %v and %v", soft, hard)
	}
	if l.Rate("a") != "1/s" {
		t.Errorf("the times replaced the rate")
	}
}
