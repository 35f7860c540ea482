package executor

import (
	"fmt"
	"os"
	"time"
)

// logs watches the two output files: how fast they grow, whether they grow at
// all, and how much of them is kept.
type logs struct {
	files   [2]logFile
	limit   int64
	ends    bool          // the limit ends the attempt
	grownAt time.Duration // boot time of the last growth
}

type logFile struct {
	f       *os.File
	size    int64
	dropped int64 // bytes punched out, from the kept head on
}

// block is what holes are aligned to; every file system in use frees whole
// blocks of at most this size.
const block = 4096

// check looks at the files. It reports how many bytes came since the last look,
// and whether the limit must end the attempt.
func (l *logs) check(now time.Duration) (grown int64, over bool, err error) {
	for i := range l.files {
		f := &l.files[i]
		st, err := f.f.Stat()
		if err != nil {
			return grown, over, fmt.Errorf("look at output: %w", err)
		}
		if st.Size() != f.size {
			l.grownAt = now
		}
		grown += max(0, st.Size()-f.size)
		f.size = st.Size()
		if f.size < f.dropped { // the program has cut its own output
			f.dropped = 0
		}
		if l.limit > 0 && f.size-f.dropped > l.limit {
			over = over || l.ends || !f.shorten(l.limit)
		}
	}
	return grown, over, nil
}

// shorten keeps the first quarter of the limit, where a program says what it is,
// and the last half, where it says why it ends; the rest is the room to grow
// before the next time. It reports whether the file system can do that.
func (f *logFile) shorten(limit int64) bool {
	head := limit / 4 / block * block
	tail := (f.size - limit/2) / block * block
	if tail <= head {
		return true
	}
	if err := punch(int(f.f.Fd()), head, tail); err != nil {
		return false
	}
	f.dropped = tail - head
	return true
}

func (l *logs) dropped() int64 { return l.files[0].dropped + l.files[1].dropped }
