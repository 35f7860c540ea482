package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
)

func TestARecordComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "record")
	want := started{
		Format: 1, Step: 2, Leader: identity{PID: 5, Start: 6}, Boot: "b", Since: time.Hour,
		At: time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC), Group: group{Memory: "/g"},
	}
	if err := writeRecord(path, want); err != nil {
		t.Fatal(err)
	}
	var got started
	if err := readRecord(path, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := writeRecordOnce(path, want); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written twice: %v", err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

func TestTheFinalRecordFollowsTheProvisionalOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "exit")
	slot, err := createSlot(path)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Close()
	if _, err := readEnding(path); !errors.Is(err, errNoRecord) {
		t.Errorf("empty slot: %v", err)
	}
	for _, want := range []ending{{Exit: job.Exit{Code: 3, Observed: true}}, {Final: true, Exit: job.Exit{Code: 3, Observed: true, Wall: 5}}} {
		if err := writeEnding(slot, want); err != nil {
			t.Fatal(err)
		}
		got, err := readEnding(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	st, err := slot.Stat()
	if err != nil || st.Size() != slotSize {
		t.Errorf("slot has %d bytes, %v", st.Size(), err)
	}
}

// deadAttempt is the directory of an attempt whose supervisor and program died.
func deadAttempt(t *testing.T, b *bench) (Task, attemptDir) {
	t.Helper()
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	leader := b.record(task).Leader
	b.killSupervisor(task)
	if err := leader.signal(9); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the attempt is lost", func() bool { return b.state(task) == FoundLost })
	return task, b.dir(task.ID, 1)
}

func TestF45_ACutRecordIsDamageAndNeverAPanic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lost, dir := deadAttempt(t, b)
	ended := sim()
	b.run(ended)
	for _, c := range []struct {
		task Task
		dir  attemptDir
		name string
	}{{lost, dir, startedFile}, {ended, b.dir(ended.ID, 1), exitFile}} {
		whole := content(t, c.dir.file(c.name))
		for n := len(whole) - 1; n >= 0; n-- {
			if err := os.Truncate(c.dir.file(c.name), int64(n)); err != nil {
				t.Fatal(err)
			}
			got, err := c.dir.inspect(b.boot)
			if err != nil || got.State != FoundDamaged || got.Detail == "" {
				t.Fatalf("%s cut to %d of %d bytes: %+v, %v", c.name, n, len(whole), got, err)
			}
		}
		if _, err := b.Attach(b.ctx, c.task.ID, 1); job.CodeOf(err) != job.Internal {
			t.Errorf("attach: %v", err)
		}
		if err := os.WriteFile(c.dir.file(c.name), []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestF45_AWrongByteInARecordIsDamage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim()
	b.run(task)
	path := b.dir(task.ID, 1).file(exitFile)
	whole := content(t, path)
	end := halfSlot + strings.IndexByte(whole[halfSlot:], 0)
	for i := halfSlot; i < end; i++ {
		b2 := []byte(whole)
		b2[i] ^= 0x40
		if err := os.WriteFile(path, b2, 0o600); err != nil {
			t.Fatal(err)
		}
		if s := b.state(task); s != FoundDamaged {
			t.Fatalf("byte %d changed: %s", i, s)
		}
	}
}

func TestF45_GarbageInTheStateDirectoryIsNoAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"file", "j/not-a-number", "j/0", "j/-1", "j/1/started", "..x/1"} {
		path = filepath.Join(b.attempts, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("\xff\x00garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := b.List(b.ctx)
	if err != nil || len(found) != 1 || found[0].State != FoundDamaged {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestANewerFormatIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task, dir := deadAttempt(t, b)
	s := b.record(task)
	s.Format = Format + 1
	if err := writeRecord(dir.file(startedFile), s); err != nil {
		t.Fatal(err)
	}
	if c, err := dir.inspect(b.boot); err != nil || c.State != FoundDamaged || !strings.Contains(c.Detail, "newer") {
		t.Errorf("got %+v, %v", c, err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, v := range []any{started{Format: 1}, ending{Final: true}, beat{}, stopRequest{Cause: job.CauseFenced}, spec{}} {
		b, err := encodeRecord(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, 0, 0))
	}
	f.Add([]byte("nanoos 00000000 99999999999999999999\n"))
	f.Add([]byte("nanoos 00000000 -1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s started
		err := decodeRecord(b, &s)
		var e ending
		_ = decodeRecord(b, &e)
		if err != nil {
			return
		}
		again, err := encodeRecord(s)
		if err != nil {
			t.Fatal(err)
		}
		var same started
		if err := decodeRecord(again, &same); err != nil || !cmp.Equal(s, same) {
			t.Errorf("%+v became %+v, %v", s, same, err)
		}
	})
}
