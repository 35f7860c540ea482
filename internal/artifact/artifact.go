// Package artifact keeps files by key: the input files of jobs and the files
// that runs produce. Bytes are hashed when written and checked when the whole
// object is read, so damage is found, not served (G22).
package artifact

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Store keeps objects under keys; see CheckKey for their form.
type Store interface {
	// Put stores r under key, replacing what was there, and returns after it
	// is durable. A size ≥ 0 must match.
	Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error)
	// Get opens an object at an offset; an absent one is job.NotFound. A reader
	// that began at 0 returns an error instead of io.EOF when the bytes are not
	// those that were stored.
	Get(ctx context.Context, key string, from int64) (io.ReadCloser, Info, error)
	// Stat describes an object; an absent one is job.NotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose key begins with prefix, the components of
	// their keys in order.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes objects; absent ones are no error.
	Delete(ctx context.Context, keys ...string) error
}

// Info describes an object.
type Info struct {
	Key    string    `json:"key"`
	Size   int64     `json:"size"`
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"`
}

// InputKey is where an input file with that hash is kept.
func InputKey(sha256 string) string { return "inputs/" + sha256 }

// RunKey is where a file of one attempt is kept. The fence is part of it, so a
// worker that lost its job cannot touch its successor's files (G6).
func RunKey(id job.ID, fence job.Fence, name string) string {
	return fmt.Sprintf("jobs/%s/%d/%s", id, fence, SafeName(name))
}

// maxComponent bounds one component of a key: file systems allow 255 bytes, of
// which the store needs a few for its own names.
const maxComponent = 200

// CheckKey refuses keys that are not slash-separated components of
// A-Z a-z 0-9 . _ - and ~, none empty, none beginning with a dot (G18).
func CheckKey(key string) error {
	if len(key) > 1024 {
		return fmt.Errorf("artifact key of %d bytes is too long", len(key))
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || len(part) > maxComponent {
			return fmt.Errorf("bad artifact key %q", key)
		}
		for i := range len(part) {
			if !plain(part[i]) && part[i] != '~' {
				return fmt.Errorf("bad artifact key %q", key)
			}
		}
	}
	return nil
}

// SafeName turns any relative slash-separated file name into a part of a key:
// bytes that a key may not have become ~ and two hexadecimal digits, so
// different names stay different.
func SafeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		first := i == 0 || name[i-1] == '/'
		switch {
		case c == '/' && !first, plain(c) && !(c == '.' && first):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02x", c)
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}
