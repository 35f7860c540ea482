// Package artifact keeps files by key: the input files of jobs and the files
// that runs produce. Bytes are hashed when written and checked when the whole
// object is read, so damage is found, not served (G22).
package artifact

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store keeps objects under slash-separated keys of components
// [A-Za-z0-9._-]+ (and "~" for what has no safe name; see SafeName).
type Store interface {
	// Put stores r under key, replacing what was there, and returns after it
	// is durable. A size ≥ 0 must match.
	Put(ctx context.Context, key string, r io.Reader, size int64) (Info, error)
	// Get opens an object at an offset; an absent one is job.NotFound.
	Get(ctx context.Context, key string, from int64) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose key begins with prefix, in key order.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
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
