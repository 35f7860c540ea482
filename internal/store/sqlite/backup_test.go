package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Each write of the test adds a job and its event to one commit, so a copy that
// mixes two commits has more of one than of the other.
func TestG21_ABackupWhileWritingIsTheStateOfOneCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "nanoos.db"), Options{})
	defer s.Close()
	const before = 300
	jobs := make([]job.Job, before)
	for i := range jobs {
		jobs[i] = benchJob(1)
	}
	if err := submit(s, jobs...); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	written := make([]int, 3)
	for i := range written {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := submit(s, benchJob(1)); err != nil {
					t.Error(err)
					return
				}
				written[i]++
			}
		})
	}
	var backups []string
	for _, name := range []string{"1", "2", "3", "4"} {
		path := filepath.Join(dir, name+".backup")
		if err := Backup(t.Context(), s.path, path); err != nil {
			t.Fatal(err)
		}
		backups = append(backups, path)
	}
	stop()
	wg.Wait()
	last := int64(before)
	for _, path := range backups {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("backup: %v, %v", info, err)
		}
		restored := filepath.Join(dir, "restored", filepath.Base(path))
		if err := Restore(t.Context(), path, restored); err != nil {
			t.Fatal(err)
		}
		jobs, events := jobsAndEvents(t, restored)
		if jobs != events || jobs < last {
			t.Errorf("%s has %d jobs and %d events after a backup with %d", path, jobs, events, last)
		}
		last = jobs
	}
	if all := int64(before + written[0] + written[1] + written[2]); last > all || last == before {
		t.Errorf("the last backup has %d jobs of %d", last, all)
	}
}

func jobsAndEvents(t *testing.T, path string) (jobs, events int64) {
	t.Helper()
	s := openAt(t, path, Options{})
	defer s.Close()
	err := s.Read(t.Context(), func(tx store.ReadTx) error {
		counts, err := tx.Counts(t.Context(), "")
		if err != nil {
			return err
		}
		jobs = counts[0].Jobs
		events, err = tx.LastEvent(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return jobs, events
}

func TestG21_ARestoreRaisesTheIncarnationAndTheFencesAndStartsFrozen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "nanoos.db"), Options{})
	running, ended := benchJob(1), benchJob(1)
	running.State, running.Fence, running.Rev = job.Running, 3, 7
	ended.State, ended.Fence = job.Completed, 4
	if err := submit(s, running, ended); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "backup")
	err := errors.Join(Backup(t.Context(), s.path, path), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []struct {
		incarnation string
		fence       job.Fence
	}{{"1", 3 + 1<<40}, {"2", 3 + 2<<40}} {
		restored := filepath.Join(dir, want.incarnation, "nanoos.db")
		if err := Restore(t.Context(), path, restored); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, restored, Options{})
		var incarnation, frozen string
		var jobs []job.Job
		err := s.Write(t.Context(), func(tx store.Tx) (err error) {
			if incarnation, err = tx.Meta(t.Context(), "incarnation"); err != nil {
				return err
			}
			if frozen, err = tx.Meta(t.Context(), "frozen"); err != nil {
				return err
			}
			jobs, err = tx.LockJobs(t.Context(), []job.ID{running.ID, ended.ID})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if incarnation != want.incarnation || jobs[0].Fence != want.fence || jobs[1].Fence != 4 || jobs[0].Rev != int64(8+n) {
			t.Errorf("incarnation %s, fences %d and %d, rev %d; want %+v", incarnation, jobs[0].Fence, jobs[1].Fence, jobs[0].Rev, want)
		}
		if !strings.HasPrefix(frozen, "restored at 20") || !strings.Contains(frozen, path) {
			t.Errorf("frozen is %q", frozen)
		}
		path = filepath.Join(dir, "backup of "+want.incarnation)
		if err := errors.Join(Backup(t.Context(), s.path, path), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackupAndRestoreNeverReplaceAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, backup, other := filepath.Join(dir, "nanoos.db"), filepath.Join(dir, "backup"), filepath.Join(dir, "other")
	s := openAt(t, path, Options{})
	defer s.Close()
	if err := Backup(t.Context(), s.path, backup); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other+"-wal", []byte("of somebody"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"backup onto itself":       Backup(t.Context(), s.path, path),
		"backup onto a backup":     Backup(t.Context(), s.path, backup),
		"restore onto the running": Restore(t.Context(), backup, path),
		"restore onto a backup":    Restore(t.Context(), backup, backup),
		"restore beside a log":     Restore(t.Context(), backup, other),
	} {
		if job.CodeOf(err) != job.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := submit(s, benchJob(1)); err != nil {
		t.Error(err)
	}
}

func TestADamagedOrForeignBackupIsNotRestored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "nanoos.db"), Options{})
	var jobs []job.Job
	for range 500 {
		jobs = append(jobs, benchJob(1))
	}
	backup := filepath.Join(dir, "backup")
	if err := errors.Join(submit(s, jobs...), Backup(t.Context(), s.path, backup), s.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	torn := append([]byte(nil), good...)
	copy(torn[len(torn)/2:], make([]byte, 40_000))
	for name, content := range map[string][]byte{"torn": torn, "short": good[:len(good)/2], "text": []byte("notes"), "empty": nil} {
		bad, restored := filepath.Join(dir, name), filepath.Join(dir, "of "+name)
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Restore(t.Context(), bad, restored); err == nil {
			t.Errorf("%s: restored", name)
		}
		if left, _ := filepath.Glob(restored + "*"); len(left) > 1 { // the lock stays
			t.Errorf("%s: left %v", name, left)
		}
	}
}
