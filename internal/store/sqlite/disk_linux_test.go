package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// childMode makes the test program play a server that dies or whose disk does.
const childMode = "NANOOS_SQLITE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "submit":
		os.Exit(submitForever(os.Args[1]))
	case "flush":
		os.Exit(submitUntilFlushFails(os.Args[1]))
	case "limit":
		os.Exit(submitBeyondLimit(os.Args[1]))
	}
}

func TestF18_AFullDiskRefusesWritesLosesNothingAndRecovers(t *testing.T) {
	t.Parallel()
	// A real file system also delays what it promises, and maps files that it
	// has no room for.
	for name, disk := range map[string]func(*testing.T, int64) string{"tmpfs": smallDisk, "ext4": smallExt4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fillAndFree(t, disk(t, 64<<20))
		})
	}
}

// fillAndFree works on a disk, fills it up and frees it again.
func fillAndFree(t *testing.T, dir string) {
	path := filepath.Join(dir, "nanoos.db")
	s := openAt(t, path, Options{})
	var accepted []job.ID
	accept := func() error {
		j := benchJob(1)
		err := submit(s, j)
		if err == nil {
			accepted = append(accepted, j.ID)
		}
		return err
	}
	for range 50 {
		if err := accept(); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(dir, "ballast")
	fillDisk(t, ballast)
	var err error
	for range 100_000 { // the log may have some room left
		if err = accept(); err != nil {
			break
		}
	}
	if job.CodeOf(err) != job.Unavailable || !strings.Contains(err.Error(), "full") {
		t.Fatalf("on a full disk: %v", err)
	}
	if err := accept(); job.CodeOf(err) != job.Unavailable {
		t.Errorf("still full: %v", err)
	}
	haveAll(t, s, accepted) // reading goes on
	if s.Stats().Halted == nil {
		t.Error("the stats show no trouble")
	}
	haveAll(t, s, accepted)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := accept(); err != nil {
			t.Fatalf("with space again: %v", err)
		}
	}
	if err := s.Stats().Halted; err != nil {
		t.Errorf("recovered, but the stats show %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, Options{})
	defer s.Close()
	haveAll(t, s, accepted)
}

// A change that is larger than the cache meets the full disk before its commit.
func TestF18_ADiskThatFillsUpWithinAWriteIsUnavailable(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 64<<20)
	s := openAt(t, filepath.Join(dir, "nanoos.db"), Options{})
	defer s.Close()
	kept := benchJob(1)
	if err := submit(s, kept); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.conn.exec("PRAGMA cache_size = 10"); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, filepath.Join(dir, "ballast"))
	big := benchJob(1)
	big.Result = make([]byte, 8<<20)
	if err := submit(s, big); job.CodeOf(err) != job.Unavailable {
		t.Errorf("error is %v", err)
	}
	haveAll(t, s, []job.ID{kept.ID})
}

func TestF18_AlmostNoSpaceIsNotTakenForRecovery(t *testing.T) {
	t.Parallel()
	free := int64(0)
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{space: func(string) (int64, error) { return free, nil }})
	defer s.Close()
	full := errors.New("no space")
	s.writer.setHalt(&halt{full: true, err: &job.Error{Code: job.Unavailable, Message: "full", Err: full}})
	for _, c := range []struct {
		free int64
		ok   bool
	}{{0, false}, {spaceFloor - 1, false}, {spaceFloor, true}} {
		free = c.free
		if err := submit(s, benchJob(1)); (err == nil) != c.ok || err != nil && !errors.Is(err, full) {
			t.Errorf("with %d bytes: %v", c.free, err)
		}
	}
}

// A file size limit makes the kernel refuse writes with an error that is not
// "no space": to SQLite, an I/O error.
func TestF19_G23_AnIOErrorStopsWritingUntilARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nanoos.db")
	out, err := child("limit", path).CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	s := openAt(t, path, Options{})
	defer s.Close()
	haveAll(t, s, idLines(string(out)))
	if err := submit(s, benchJob(1)); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// child runs this test program in another mode.
func child(mode, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	return cmd
}

// submitBeyondLimit submits until the file may not grow any more, and checks
// that a disk that works again is not trusted.
func submitBeyondLimit(path string) int {
	signal.Ignore(unix.SIGXFSZ)
	s, err := Open(path, Options{})
	if err == nil {
		err = setFileLimit(1 << 20)
	}
	n := 0
	for ; err == nil; n++ {
		j := benchJob(1)
		if err = submit(s, j); err == nil {
			fmt.Println("accepted", j.ID)
		}
	}
	if n < 2 {
		fmt.Printf("after %d jobs: %v\n", n, err)
		return 1
	}
	if err := setFileLimit(unix.RLIM_INFINITY); err != nil {
		fmt.Println(err)
		return 1
	}
	return stopped(s, err)
}

// stopped checks, in a child, that an error of the disk has ended writing for
// good and reading not at all.
func stopped(s *Store, err error) int {
	if job.CodeOf(err) != job.Unavailable || !strings.Contains(err.Error(), "failed") {
		fmt.Println("the error is", err)
		return 1
	}
	if s.Stats().Halted == nil {
		fmt.Println("the stats show no trouble")
		return 1
	}
	for range 3 {
		if err := submit(s, benchJob(1)); job.CodeOf(err) != job.Unavailable {
			fmt.Println("went on after an I/O error:", err)
			return 1
		}
	}
	page, err := firstPage(s)
	if err != nil || len(page) == 0 {
		fmt.Println("cannot read:", err)
		return 1
	}
	return 0
}

func firstPage(s *Store) (page []job.Job, err error) {
	err = s.Read(context.Background(), func(tx store.ReadTx) error {
		page, _, err = tx.Jobs(context.Background(), store.JobQuery{})
		return err
	})
	return page, err
}

func setFileLimit(n uint64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		return err
	}
	lim.Cur = min(n, lim.Max)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &lim)
}

func idLines(text string) (ids []job.ID) {
	for line := range strings.Lines(text) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "accepted "); ok {
			ids = append(ids, job.ID(id))
		}
	}
	return ids
}

// haveAll asserts that every accepted job is stored and counted, and that at
// most the last answer of a killed process is missing.
func haveAll(t *testing.T, s *Store, ids []job.ID) {
	t.Helper()
	if len(ids) == 0 {
		t.Fatal("nothing was accepted")
	}
	err := s.Read(t.Context(), func(tx store.ReadTx) error {
		for _, id := range slices.Backward(ids) {
			if _, err := tx.Job(t.Context(), "", id); err != nil {
				return fmt.Errorf("accepted, but: %w", err)
			}
		}
		counts, err := tx.Counts(t.Context(), "")
		if err == nil && (len(counts) != 1 || counts[0].Jobs < int64(len(ids))) {
			err = fmt.Errorf("counts are %+v for %d jobs", counts, len(ids))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// smallDisk mounts a file system of its own in memory.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size))
	return mounted(t, dir, err)
}

// smallExt4 mounts a file system of its own in a file.
func smallExt4(t *testing.T, size int64) string {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return mounted(t, dir, fmt.Errorf("%s: %w: %s", args[0], err, out))
		}
	}
	return mounted(t, dir, nil)
}

// mounted unmounts a small disk when the test has ended, or skips the test for
// want of one.
func mounted(t *testing.T, dir string, err error) string {
	t.Helper()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("SKIPPED, the full disk is not tested: mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes until nothing fits any more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
	}
}
