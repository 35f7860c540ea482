package artifact

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
)

func openDir(t *testing.T) (*Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "artifacts")
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, path
}

func put(t *testing.T, d *Dir, key, text string) Info {
	t.Helper()
	info, err := d.Put(t.Context(), key, strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestObjectsComeBackFromAnyOffset(t *testing.T) {
	t.Parallel()
	d, _ := openDir(t)
	info := put(t, d, "jobs/a/1/out", "hello")
	if info.Size != 5 || info.SHA256 != "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Errorf("info %+v", info)
	}
	for from, want := range []string{"hello", "ello", "llo"} {
		r, _, err := d.Get(t.Context(), "jobs/a/1/out", int64(from))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(got) != want {
			t.Errorf("from %d: %q, %v", from, got, err)
		}
	}
}

func TestG22_DamagedBytesAreNotServedAsGood(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	put(t, d, "a/b", "hello")
	if err := os.WriteFile(filepath.Join(path, "a", "b"), []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := d.Get(t.Context(), "a/b", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); err == nil {
		t.Error("a flipped bit went unnoticed")
	}
}

func TestG18_KeysStayInside(t *testing.T) {
	t.Parallel()
	d, _ := openDir(t)
	for _, key := range []string{"", "/a", "a/", "../a", "a/../b", ".hidden", "a\x00b", "a b", "ä", strings.Repeat("x", 201)} {
		if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1); err == nil {
			t.Errorf("key %q was taken", key)
		}
		if _, err := d.Stat(t.Context(), key); job.CodeOf(err) != job.NotFound {
			t.Errorf("stat %q: %v", key, err)
		}
	}
}

func TestAPutOfTheWrongSizeLeavesNothing(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	if _, err := d.Put(t.Context(), "a/b", strings.NewReader("hello"), 6); err == nil {
		t.Fatal("the wrong size was taken")
	}
	entries, err := os.ReadDir(filepath.Join(path, "a"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestListAndDelete(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	for _, k := range []string{"jobs/1/1/out", "jobs/1/1/err", "jobs/2/1/out", "inputs/ff"} {
		put(t, d, k, k)
	}
	var keys []string
	for info, err := range d.List(t.Context(), "jobs/1/") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if !slices.Equal(keys, []string{"jobs/1/1/err", "jobs/1/1/out"}) {
		t.Errorf("listed %v", keys)
	}
	if err := d.Delete(t.Context(), append(keys, "absent")...); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "jobs", "1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory stays: %v", err)
	}
}

func FuzzSafeName(f *testing.F) {
	for _, s := range []string{"out/x.save/wfc1.dat", "../../etc/passwd", ".hidden", "a//b", "~00", "ä/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		safe := SafeName(name)
		if strings.HasSuffix(safe, "/") || len(safe) > 150 || name == "" {
			t.Skip("not a file name")
		}
		if err := CheckKey("jobs/" + safe); err != nil {
			t.Errorf("%q became %q: %v", name, safe, err)
		}
	})
}
