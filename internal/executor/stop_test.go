package executor

import (
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

func TestTheStopperGoesFromSoftToHard(t *testing.T) {
	t.Parallel()
	soft := SoftStop{Create: []string{"STOP"}, Wait: 10 * time.Second, Grace: 5 * time.Second}
	hard := SoftStop{Grace: 5 * time.Second}
	type at struct {
		second int
		ask    job.StopCause // requested at this second
		phase  phase
		cause  job.StopCause
	}
	for name, c := range map[string]struct {
		spec  spec
		story []at
	}{
		"nothing happens without limits": {spec{Stop: soft}, []at{{1e6, "", running, ""}}},
		"a cancel asks, terminates, kills": {spec{Stop: soft}, []at{
			{1, job.CauseCancelled, asked, job.CauseCancelled}, {10, "", asked, job.CauseCancelled},
			{11, "", termed, job.CauseCancelled}, {15, "", termed, job.CauseCancelled}, {16, "", killed, job.CauseCancelled},
		}},
		"a cancel without a soft stop terminates": {spec{Stop: hard}, []at{
			{1, job.CauseCancelled, termed, job.CauseCancelled}, {6, "", killed, job.CauseCancelled},
		}},
		"a cancel that does not wait kills": {spec{Stop: soft}, []at{{1, job.CauseKilled, killed, job.CauseKilled}}},
		"the soft limit waits for the hard one": {spec{Stop: soft, Soft: 20 * time.Second, Hard: 100 * time.Second}, []at{
			{19, "", running, ""}, {20, "", asked, job.CauseSoftLimit}, {99, "", asked, job.CauseSoftLimit},
			{100, "", termed, job.CauseWalltime}, {105, "", killed, job.CauseWalltime},
		}},
		"a soft limit alone waits as long as the code says": {spec{Stop: soft, Soft: 20 * time.Second}, []at{
			{20, "", asked, job.CauseSoftLimit}, {30, "", termed, job.CauseWalltime}, {35, "", killed, job.CauseWalltime},
		}},
		"a soft limit means nothing to a code that cannot be asked": {spec{Stop: hard, Soft: 20 * time.Second}, []at{
			{1000, "", running, ""},
		}},
		"a cancel replaces the soft limit": {spec{Stop: soft, Soft: 20 * time.Second, Hard: 100 * time.Second}, []at{
			{20, "", asked, job.CauseSoftLimit}, {25, job.CauseCancelled, asked, job.CauseCancelled}, {35, "", termed, job.CauseCancelled},
		}},
		"the hard limit hurries a cancel but is not its cause": {spec{Stop: soft, Hard: 12 * time.Second}, []at{
			{5, job.CauseCancelled, asked, job.CauseCancelled}, {12, "", termed, job.CauseCancelled}, {17, "", killed, job.CauseCancelled},
		}},
		"the first cause stays": {spec{Stop: hard}, []at{
			{1, job.CauseHang, termed, job.CauseHang}, {2, job.CauseCancelled, termed, job.CauseHang}, {6, "", killed, job.CauseHang},
		}},
		"an overrun of memory kills at once": {spec{Stop: soft}, []at{{1, job.CauseOOM, killed, job.CauseOOM}}},
		"a fenced run is not asked softly":   {spec{Stop: soft}, []at{{1, job.CauseFenced, termed, job.CauseFenced}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := 1000 * time.Hour
			s := newStopper(&c.spec, start)
			for _, step := range c.story {
				now := start + time.Duration(step.second)*time.Second
				if step.ask != "" {
					s.request(step.ask, now)
				}
				if p := s.tick(now); p != step.phase || s.cause != step.cause {
					t.Errorf("second %d: phase %d cause %q, want %d %q", step.second, p, s.cause, step.phase, step.cause)
				}
			}
		})
	}
}
