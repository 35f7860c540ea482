package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// liveDir holds the growing output of attempts that run on other machines, as
// <job>/<attempt>-<fence>/<stream>, in a directory that all servers share. It
// is for people who read along: the outcome never depends on it, so nothing in
// it is flushed.
//
// An owner that adopts an attempt sends its output again under its own fence.
// The bytes at one position are the same under all of them.
type liveDir string

// errGap refuses output that does not follow on what is stored.
var errGap = errors.New("the output does not follow on what is stored")

// errFull refuses output beyond the limit of the job.
var errFull = errors.New("the output has reached the limit of the job")

func (d liveDir) dir(id job.ID) string { return filepath.Join(string(d), string(id)) }

// add stores what a stream has printed from a position on, and returns how much
// of it is stored now. Two servers may be told the same at the same time: each
// byte has its place, so it does not matter which of them writes it.
func (d liveDir) add(id job.ID, attempt int, fence job.Fence, stream string, from int64, data []byte, limit int64) (stored int64, err error) {
	dir := filepath.Join(d.dir(id), fmt.Sprintf("%d-%d", attempt, fence))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("keep output: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, stream), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keep output: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("keep output: %w", err)
	}
	size := st.Size()
	known := size - from
	switch {
	case known < 0:
		return size, errGap
	case known >= int64(len(data)):
		return size, nil
	case size >= limit:
		return size, errFull
	}
	data = data[known:]
	n, err := f.WriteAt(data[:min(int64(len(data)), limit-size)], size)
	if err != nil {
		return size, fmt.Errorf("keep output: %w", err)
	}
	return size + int64(n), nil
}

// open opens the longest output of an attempt, nil if there is none.
func (d liveDir) open(id job.ID, attempt int, stream string) *os.File {
	var longest *os.File
	var size int64 = -1
	for _, o := range d.outputs(id) {
		if o.attempt != attempt {
			continue
		}
		f, err := os.Open(filepath.Join(o.path, stream))
		if err != nil {
			continue // removed in between, or never begun
		}
		st, err := f.Stat()
		if err != nil || st.Size() <= size {
			f.Close()
			continue
		}
		if longest != nil {
			longest.Close()
		}
		longest, size = f, st.Size()
	}
	return longest
}

// output is what one owner has sent of one attempt.
type output struct {
	path    string
	attempt int
	fence   job.Fence
}

func (d liveDir) outputs(id job.ID) []output {
	if d == "" {
		return nil
	}
	entries, err := os.ReadDir(d.dir(id))
	if err != nil {
		return nil
	}
	var all []output
	for _, e := range entries {
		number, fence, _ := strings.Cut(e.Name(), "-")
		a, errA := strconv.Atoi(number)
		f, errF := strconv.ParseInt(fence, 10, 64)
		if errA == nil && errF == nil {
			all = append(all, output{filepath.Join(d.dir(id), e.Name()), a, job.Fence(f)})
		}
	}
	return all
}

// remove removes outputs, and the directory of the job with the last of them.
func (d liveDir) remove(id job.ID, outputs ...output) error {
	var errs []error
	for _, o := range outputs {
		errs = append(errs, os.RemoveAll(o.path))
	}
	if err := os.Remove(d.dir(id)); err != nil && !errors.Is(err, fs.ErrNotExist) && len(d.outputs(id)) == 0 {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// settled removes the outputs of an attempt that has ended, if its files are
// stored; otherwise they are all that is left of it.
func (s *Server) settled(ctx context.Context, id job.ID, fence job.Fence) {
	outputs := s.live.outputs(id)
	attempt := 0
	for _, o := range outputs {
		if o.fence == fence {
			attempt = o.attempt
		}
	}
	var over []output
	for _, o := range outputs {
		if o.attempt == attempt {
			over = append(over, o)
		}
	}
	if len(over) == 0 {
		return
	}
	if _, err := s.Artifacts.Stat(ctx, artifact.RunKey(id, fence, engine.StdoutName)); err != nil {
		return
	}
	if err := s.live.remove(id, over...); err != nil {
		s.Logger.Warn("cannot remove the growing output of an attempt that has ended; it is swept later", "job", id, "error", err)
	}
}

const (
	// sweepEvery is how often outputs that nothing has removed are looked for.
	sweepEvery = 10 * time.Minute
	// settleTime is how long the stored files of an attempt that has ended, and
	// the readers of its output, may take to be done with it.
	settleTime = time.Hour
	// keepUnstored is how long the output of an attempt is kept that left nothing
	// else: that of a machine that was lost.
	keepUnstored = 7 * 24 * time.Hour
)

// sweepLive sweeps until ctx ends.
func (s *Server) sweepLive(ctx context.Context) {
	for {
		if err := s.sweepOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.Logger.Warn("cannot sweep the growing outputs", "error", err)
		}
		if !pause(ctx, sweepEvery) {
			return
		}
	}
}

// sweepOnce removes outputs that nobody adds to or waits for.
func (s *Server) sweepOnce(ctx context.Context, now time.Time) error {
	entries, err := os.ReadDir(string(s.live))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		id := job.ID(e.Name())
		stale, err := s.staleOutputs(ctx, id, now)
		if err == nil && len(stale) > 0 {
			err = s.live.remove(id, stale...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// staleOutputs are those of attempts that are over since a while.
func (s *Server) staleOutputs(ctx context.Context, id job.ID, now time.Time) ([]output, error) {
	var j job.Job
	var fences map[int][]job.Fence
	err := s.Store.Read(ctx, func(tx store.ReadTx) (err error) {
		if j, err = tx.Job(ctx, "", id); err == nil {
			fences, err = attemptFences(ctx, tx, "", id)
		}
		return err
	})
	unknown := job.CodeOf(err) == job.NotFound
	if err != nil && !unknown {
		return nil, err
	}
	var stale []output
	for _, o := range s.live.outputs(id) {
		age := now.Sub(lastWrite(o.path))
		running := !unknown && o.attempt == j.Attempt && !j.State.Terminal()
		if running || age < settleTime {
			continue
		}
		_, err := s.findKept(ctx, id, fences[o.attempt], engine.StdoutName)
		if err == nil || unknown || age > keepUnstored {
			stale = append(stale, o)
		}
	}
	return stale, nil
}

// lastWrite is when an output grew last.
func lastWrite(dir string) time.Time {
	var last time.Time
	for _, name := range []string{".", engine.StdoutName, engine.StderrName} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}
