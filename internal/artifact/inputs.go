package artifact

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// InputFS shows the input files of a job, which are stored by their hashes,
// under their names.
func InputFS(ctx context.Context, st Store, files []job.File) fs.FS {
	return &inputFS{ctx: ctx, st: st, files: files}
}

type inputFS struct {
	ctx   context.Context
	st    Store
	files []job.File
}

func (i *inputFS) Open(name string) (fs.File, error) {
	at := slices.IndexFunc(i.files, func(f job.File) bool { return path.Clean(f.Name) == name })
	if at < 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	r, info, err := i.st.Get(i.ctx, InputKey(i.files[at].SHA256), 0)
	if job.CodeOf(err) == job.NotFound {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &inputFile{ReadCloser: r, name: path.Base(name), info: info}, nil
}

// ReadDir lists the files whose names have no directory.
func (i *inputFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var out []fs.DirEntry
	for _, f := range i.files {
		if n := path.Clean(f.Name); !strings.Contains(n, "/") {
			out = append(out, fs.FileInfoToDirEntry(&inputFile{name: n, info: Info{Size: f.Size}}))
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// inputFile is an open input and its own description.
type inputFile struct {
	io.ReadCloser
	name string
	info Info
}

func (f *inputFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *inputFile) Name() string               { return f.name }
func (f *inputFile) Size() int64                { return f.info.Size }
func (f *inputFile) Mode() fs.FileMode          { return 0o400 }
func (f *inputFile) ModTime() time.Time         { return f.info.At }
func (f *inputFile) IsDir() bool                { return false }
func (f *inputFile) Sys() any                   { return nil }
