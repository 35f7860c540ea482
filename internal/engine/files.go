package engine

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// MaxUnpacked bounds one unpacked .gz file; what lies beyond is cut, as if the
// run had been cut there.
const MaxUnpacked = 1 << 30

// OpenRun returns the files of a run that a person named: the files of one
// directory and below, or some files. A file that ends in .gz appears under its
// plain name, unpacked. Two files of one name are refused.
func OpenRun(paths ...string) (fs.FS, error) {
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		if err != nil {
			return nil, openError(paths[0], err)
		}
		if info.IsDir() {
			return &runFS{dir: os.DirFS(paths[0])}, nil
		}
	}
	files := make(map[string]string, len(paths))
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, openError(p, err)
		}
		if !info.Mode().IsRegular() {
			return nil, &job.Error{Code: job.Invalid, Message: fmt.Sprintf("cannot read %s together with other files", p),
				Why: "it is not a regular file", Fix: "name one directory, or files only"}
		}
		name := filepath.Base(p)
		if other, twice := files[name]; twice {
			return nil, &job.Error{Code: job.Invalid, Message: fmt.Sprintf("two files are called %s", name),
				Why: other + " and " + p, Fix: "name the files of one run"}
		}
		files[name] = p
	}
	return &runFS{dir: namedFiles(files)}, nil
}

func openError(p string, err error) error {
	code := job.Invalid
	if errors.Is(err, fs.ErrNotExist) {
		code = job.NotFound
	}
	return &job.Error{Code: code, Message: "cannot read " + p, Why: plainCause(err), Err: err}
}

func plainCause(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// runFS shows gzip files under their plain names.
type runFS struct{ dir fs.FS }

func (r *runFS) Open(name string) (fs.File, error) {
	// To open a pipe waits for its writer, and a device may have no end.
	if info, err := fs.Stat(r.dir, name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	f, err := r.dir.Open(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	packed, gzErr := r.dir.Open(name + ".gz")
	if gzErr != nil {
		return nil, err
	}
	info, statErr := packed.Stat()
	if statErr != nil {
		packed.Close()
		return nil, statErr
	}
	zr, err := gzip.NewReader(packed)
	if err != nil {
		packed.Close()
		return nil, &fs.PathError{Op: "unpack", Path: name + ".gz", Err: err}
	}
	return &unpacked{name: path.Base(name), info: info, packed: packed, r: io.LimitReader(zr, MaxUnpacked)}, nil
}

// Stat implements fs.StatFS, so that a list of files has a root to walk from.
func (r *runFS) Stat(name string) (fs.FileInfo, error) {
	if name == "." {
		return root{}, nil
	}
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// root is the directory of a run.
type root struct{}

func (root) Name() string       { return "." }
func (root) Size() int64        { return 0 }
func (root) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (root) ModTime() time.Time { return time.Time{} }
func (root) IsDir() bool        { return true }
func (root) Sys() any           { return nil }

// ReadDir lists plain names.
func (r *runFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.dir, name)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		seen[e.Name()] = true
	}
	out := entries[:0:0]
	for _, e := range entries {
		plain, packed := strings.CutSuffix(e.Name(), ".gz")
		switch {
		case !packed || e.IsDir():
			out = append(out, e)
		case !seen[plain]:
			out = append(out, renamed{e, plain})
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

type renamed struct {
	fs.DirEntry
	name string
}

func (r renamed) Name() string { return r.name }

// unpacked reads a gzip file; its size is that of the packed one. A cut or
// damaged end reads as the end of the file, like that of a run that was cut.
type unpacked struct {
	name   string
	info   fs.FileInfo
	packed fs.File
	r      io.Reader
}

func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum)) {
		err = io.EOF
	}
	return n, err
}
func (u *unpacked) Close() error               { return u.packed.Close() }
func (u *unpacked) Stat() (fs.FileInfo, error) { return u, nil }
func (u *unpacked) Name() string               { return u.name }
func (u *unpacked) Size() int64                { return u.info.Size() }
func (u *unpacked) Mode() fs.FileMode          { return u.info.Mode() }
func (u *unpacked) ModTime() time.Time         { return u.info.ModTime() }
func (u *unpacked) IsDir() bool                { return false }
func (u *unpacked) Sys() any                   { return nil }

// namedFiles is a flat directory of files that lie anywhere.
type namedFiles map[string]string

func (n namedFiles) Open(name string) (fs.File, error) {
	if name == "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a list of files")}
	}
	p, ok := n[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return os.Open(p)
}

func (n namedFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var out []fs.DirEntry
	for base, p := range n {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		out = append(out, renamed{fs.FileInfoToDirEntry(info), base})
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Recognise returns the engine that files is most surely a run of, or nil.
func Recognise(engines []Engine, files fs.FS) Engine {
	var best Engine
	bestScore := 0.0
	for _, e := range engines {
		if s := e.Recognise(files); s > bestScore {
			best, bestScore = e, s
		}
	}
	return best
}

// ByName finds an engine by its name or one of its aliases; the second result
// is the name that was probably meant when there is none.
func ByName(engines []Engine, name string) (Engine, string) {
	var names []string
	for _, e := range engines {
		if strings.EqualFold(e.Name(), name) {
			return e, ""
		}
		names = append(names, e.Name())
		for _, a := range e.Aliases() {
			if strings.EqualFold(a, name) {
				return e, ""
			}
			names = append(names, strings.ToLower(a))
		}
	}
	return nil, job.Nearest(name, slices.Values(names))
}

// Head reads at most n bytes from the beginning of a file.
func Head(files fs.FS, name string, n int64) []byte {
	f, err := files.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := io.CopyN(&b, f, n); err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b.Bytes()
}

// Licensed reports whether a file is one of VASP's potentials: their licence lets
// nobody pass them on, so they are neither sent nor stored.
func Licensed(name string) bool { return strings.HasPrefix(strings.ToUpper(path.Base(name)), "POTCAR") }
