package store

import (
	"testing"

	"github.com/nano-os/nanoos/internal/job"
)

func FuzzCursor(f *testing.F) {
	f.Add(string(JobQuery{Oldest: true}.Next(12)), true)
	f.Add("bmV3ZXN0Oi0x", false)
	f.Add("\x00", false)
	f.Fuzz(func(t *testing.T, text string, oldest bool) {
		q := JobQuery{After: Cursor(text), Oldest: oldest}
		seq, err := q.Check()
		if err != nil {
			if job.CodeOf(err) != job.Invalid {
				t.Errorf("error is %v", err)
			}
			return
		}
		q.After = q.Next(seq)
		if again, err := q.Check(); err != nil || again != seq {
			t.Errorf("cursor %q is %d and then %d (%v)", text, seq, again, err)
		}
	})
}
