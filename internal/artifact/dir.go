package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
)

// Dir keeps objects as plain files below one directory. Beside each lies its
// hash in the form that sha256sum -c reads, in a file whose name begins with a
// dot.
type Dir struct{ root *os.Root }

var _ Store = (*Dir)(nil)

// OpenDir opens the store in a directory, which it creates if absent.
func OpenDir(dir string) (*Dir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make artifact directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open artifact directory: %w", err)
	}
	return &Dir{root: root}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Put implements Store.
func (d *Dir) Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	if err := d.root.MkdirAll(path.Dir(key), 0o700); err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	tmp := temporary(key)
	sum := sha256.New()
	n, err := d.write(tmp, io.TeeReader(contextReader{ctx, r}, sum))
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("got %d bytes instead of %d", n, size)
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if err == nil {
		err = d.publish(tmp, key, digest)
	}
	if err != nil {
		return Info{}, errors.Join(fmt.Errorf("put %s: %w", key, err), removed(d.root.Remove(tmp)))
	}
	return d.Stat(ctx, key)
}

// publish makes the hash visible before the object, so an object without its
// hash never exists.
func (d *Dir) publish(tmp, key, digest string) error {
	line := digest + "  " + path.Base(key) + "\n"
	if _, err := d.write(tmp+".sum", strings.NewReader(line)); err != nil {
		return err
	}
	if err := d.root.Rename(tmp+".sum", sumFile(key)); err != nil {
		return err
	}
	if err := d.root.Rename(tmp, key); err != nil {
		return err
	}
	dir, err := d.root.Open(path.Dir(key))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *Dir) write(name string, r io.Reader) (int64, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// Stat implements Store.
func (d *Dir) Stat(_ context.Context, key string) (Info, error) {
	if CheckKey(key) != nil {
		return Info{}, job.Errorf(job.NotFound, "no artifact %q", key)
	}
	st, err := d.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.Mode().IsRegular() {
		return Info{}, job.Errorf(job.NotFound, "no artifact %q", key)
	}
	if err != nil {
		return Info{}, fmt.Errorf("stat %s: %w", key, err)
	}
	line, err := d.root.ReadFile(sumFile(key))
	if err != nil {
		return Info{}, fmt.Errorf("read the hash of %s: %w", key, err)
	}
	digest, _, _ := strings.Cut(string(line), " ")
	return Info{Key: key, Size: st.Size(), SHA256: digest, At: st.ModTime().UTC()}, nil
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, key string, from int64) (io.ReadCloser, Info, error) {
	info, err := d.Stat(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	f, err := d.root.Open(key)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	if from > 0 {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil, Info{}, errors.Join(fmt.Errorf("get %s: %w", key, err), f.Close())
		}
		return f, info, nil
	}
	return checkedReader{Verify(f, info.SHA256), f, key}, info, nil
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		walkErr := fs.WalkDir(d.root.FS(), listRoot(prefix), func(key string, e fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if e.IsDir() || !strings.HasPrefix(key, prefix) || CheckKey(key) != nil {
				return nil
			}
			info, err := d.Stat(ctx, key)
			if err != nil {
				return err
			}
			if !yield(info, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if walkErr != nil && !errors.Is(walkErr, fs.ErrNotExist) {
			yield(Info{}, fmt.Errorf("list %s: %w", prefix, walkErr))
		}
	}
}

// listRoot is the deepest directory that holds every key with that prefix.
func listRoot(prefix string) string {
	if i := strings.LastIndexByte(prefix, '/'); i > 0 && CheckKey(prefix[:i]) == nil {
		return prefix[:i]
	}
	return "."
}

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, keys ...string) error {
	var errs []error
	for _, key := range keys {
		if CheckKey(key) != nil {
			continue
		}
		errs = append(errs, removed(d.root.Remove(key)), removed(d.root.Remove(sumFile(key))))
		// Directories that become empty go too, up to the first that is not.
		for dir := path.Dir(key); dir != "." && d.root.Remove(dir) == nil; dir = path.Dir(dir) {
		}
	}
	return errors.Join(errs...)
}

func sumFile(key string) string { return path.Join(path.Dir(key), "."+path.Base(key)+".sha256") }

func temporary(key string) string {
	return path.Join(path.Dir(key), ".tmp-"+string(job.NewID()))
}

// removed forgives the removal of what is not there.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contextReader stops a copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// checkedReader compares the whole object with its hash at the end.
type checkedReader struct {
	io.Reader
	io.Closer
	key string
}

func (c checkedReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("artifact %s is damaged: %w", c.key, err)
	}
	return n, err
}
