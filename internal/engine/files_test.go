package engine

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/job"
)

func packed(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPackedFilesAppearUnderTheirPlainNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := packed(t, "hello")
	for name, data := range map[string][]byte{"pw.out.gz": whole, "cut.out.gz": whole[:len(whole)-6], "in": []byte("deck")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	byDir, err := OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	byName, err := OpenRun(filepath.Join(dir, "pw.out.gz"), filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []fs.FS{byDir, byName} {
		got, err := fs.ReadFile(files, "pw.out")
		if err != nil || string(got) != "hello" {
			t.Errorf("pw.out: %q, %v", got, err)
		}
		entries, err := fs.ReadDir(files, ".")
		if err != nil || len(entries) < 2 || entries[len(entries)-1].Name() != "pw.out" {
			t.Errorf("entries %v, %v", entries, err)
		}
		walked := 0
		err = fs.WalkDir(files, ".", func(_ string, _ fs.DirEntry, err error) error { walked++; return err })
		if err != nil || walked != len(entries)+1 {
			t.Errorf("walked %d files, %v", walked, err)
		}
	}
	if got, err := fs.ReadFile(byDir, "cut.out"); err != nil || string(got) != "hello" {
		t.Errorf("a cut file reads as far as it goes: %q, %v", got, err)
	}
}

func TestOpenRunExplainsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenRun(filepath.Join(dir, "absent")); job.CodeOf(err) != job.NotFound {
		t.Errorf("absent: %v", err)
	}
	if _, err := OpenRun(dir, dir); job.CodeOf(err) != job.Invalid {
		t.Errorf("two directories: %v", err)
	}
}

func TestAPipeAmongTheFilesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	files := &runFS{dir: fstest.MapFS{"pipe": {Mode: fs.ModeNamedPipe}, "device": {Mode: fs.ModeDevice}, "plain": {}}}
	for name, ok := range map[string]bool{"pipe": false, "device": false, "plain": true} {
		if _, err := fs.ReadFile(files, name); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
