package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/job"
)

// transferSilence is how long a file may not move before its connection counts
// as lost.
const transferSilence = time.Minute

// damageTries is how often a file that arrives damaged is sent.
const damageTries = 3

// Put implements artifact.Store for the files of leases that this worker has.
// It waits for a server as long as ctx lives: a result of days is not given up
// because all servers are being restarted.
func (c *WorkerClient) Put(ctx context.Context, key string, r io.Reader, size int64) (artifact.Info, error) {
	if err := c.enter(ctx); err != nil {
		return artifact.Info{}, err
	}
	defer c.leave()
	src, err := hold(r)
	if err != nil {
		return artifact.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	defer src.close()
	if size >= 0 && src.size != size {
		return artifact.Info{}, fmt.Errorf("put %s: got %d bytes instead of %d", key, src.size, size)
	}
	var info artifact.Info
	for range damageTries {
		err = c.insist(ctx, func(at *Client) (err error) {
			info, err = c.putOnce(ctx, at, key, src)
			return err
		})
		if job.CodeOf(err) != job.Invalid {
			break
		}
	}
	if err != nil {
		return artifact.Info{}, plain(err)
	}
	return info, nil
}

func (c *WorkerClient) putOnce(ctx context.Context, at *Client, key string, src *source) (info artifact.Info, err error) {
	call, watch := watched(ctx, at)
	defer watch.end()
	req, err := c.request(call, at, http.MethodPut, workerPath+"artifacts/"+key, watchedReader{src.open(), watch})
	if err != nil {
		return info, err
	}
	if req.ContentLength = src.size; src.size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(headerSHA256, src.sha256)
	req.Header.Set(headerLease, c.known.leaseFor(key))
	resp, err := c.do(ctx, at, req)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return info, c.lost(ctx, call, at, fmt.Errorf("the answer was cut or is not JSON: %w", err))
	}
	return info, nil
}

// Get implements artifact.Store for the inputs of jobs that this worker holds
// and for the files of their attempts. The reader survives the loss of a
// connection; one that began at 0 is checked to its end.
func (c *WorkerClient) Get(ctx context.Context, key string, from int64) (io.ReadCloser, artifact.Info, error) {
	r := &remoteFile{c: c, ctx: ctx, key: key, at: from, sum: sha256.New(), whole: from == 0}
	if err := r.open(); err != nil {
		return nil, artifact.Info{}, plain(err)
	}
	return r, r.info, nil
}

// Stat implements artifact.Store.
func (c *WorkerClient) Stat(ctx context.Context, key string) (artifact.Info, error) {
	var info artifact.Info
	err := c.insist(ctx, func(at *Client) error {
		call, cancel := context.WithTimeout(ctx, beatTimeout)
		defer cancel()
		resp, err := c.fetch(ctx, call, at, http.MethodHead, key, 0)
		if err != nil {
			return err
		}
		info = infoOfFile(key, resp)
		return resp.Body.Close()
	})
	return info, plain(err)
}

// List implements artifact.Store: a worker may not look around.
func (c *WorkerClient) List(context.Context, string) iter.Seq2[artifact.Info, error] {
	return func(yield func(artifact.Info, error) bool) {
		yield(artifact.Info{}, job.Errorf(job.Forbidden, "a worker may not list the stored files"))
	}
}

// Delete implements artifact.Store: a worker may not.
func (c *WorkerClient) Delete(context.Context, ...string) error {
	return job.Errorf(job.Forbidden, "a worker may not delete stored files")
}

// Append implements worker.Outputs.
func (c *WorkerClient) Append(ctx context.Context, l job.Lease, stream string, from int64, data []byte) (stored int64, err error) {
	if err := c.enter(ctx); err != nil {
		return 0, err
	}
	defer c.leave()
	path := fmt.Sprintf("%soutput/%s/%d/%s?fence=%d&from=%d", workerPath, url.PathEscape(string(l.Job.ID)), l.Job.Attempt, url.PathEscape(stream), l.Fence, from)
	data = data[:min(len(data), maxOutput)]
	err = c.try(ctx, func(at *Client) error {
		stored, err = c.appendOnce(ctx, at, path, l, data)
		return err
	})
	return stored, plain(err)
}

func (c *WorkerClient) appendOnce(ctx context.Context, at *Client, path string, l job.Lease, data []byte) (int64, error) {
	call, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	req, err := c.request(call, at, http.MethodPost, path, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(headerLease, leaseHeader(l.Job.ID, l.Fence, c.known.prove(l.Job.ID, l.Fence)))
	resp, err := c.do(ctx, at, req)
	if e, ok := errors.AsType[*callError](err); ok {
		// A gap is no failure: the answer says where to go on. That the job may
		// print no more is one.
		stored, bad := strconv.ParseInt(e.header.Get(headerStored), 10, 64)
		if bad == nil && job.CodeOf(err) == job.Conflict {
			return stored, nil
		}
		return max(0, stored), err
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var out outputReply
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return 0, c.lost(ctx, call, at, fmt.Errorf("the answer was cut or is not JSON: %w", err))
	}
	return out.Stored, nil
}

func (c *WorkerClient) enter(ctx context.Context) error {
	select {
	case c.transfer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *WorkerClient) leave() { <-c.transfer }

// fetch asks for a file from a position on.
func (c *WorkerClient) fetch(caller, call context.Context, at *Client, method, key string, from int64) (*http.Response, error) {
	req, err := c.request(call, at, method, workerPath+"artifacts/"+key, nil)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	req.Header.Set(headerLease, c.known.leaseFor(key))
	return c.do(caller, at, req)
}

func infoOfFile(key string, resp *http.Response) artifact.Info {
	info := artifact.Info{Key: key, Size: resp.ContentLength, SHA256: resp.Header.Get(headerSHA256)}
	if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		info.Size, _ = strconv.ParseInt(total, 10, 64)
	}
	info.At, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	return info
}

// remoteFile reads a stored file over any number of connections.
type remoteFile struct {
	c     *WorkerClient
	ctx   context.Context
	key   string
	info  artifact.Info
	at    int64
	whole bool // it began at 0
	sum   hash.Hash
	body  io.ReadCloser
	watch *watchdog
	cuts  int // connections in a row that brought nothing
}

// maxCuts is how many connections in a row may bring nothing of a file.
const maxCuts = 5

// open goes on where the reader is.
func (f *remoteFile) open() error {
	return f.c.insist(f.ctx, func(at *Client) error {
		call, watch := watched(f.ctx, at)
		resp, err := f.c.fetch(f.ctx, call, at, http.MethodGet, f.key, f.at)
		if e, ok := errors.AsType[*callError](err); ok && e.header.Get("Content-Range") != "" {
			// Asked to begin at its end or beyond, the server only says how long it is.
			watch.end()
			f.info = infoOfFile(f.key, &http.Response{Header: e.header})
			f.body, f.watch = http.NoBody, nil
			return nil
		}
		if err != nil {
			watch.end()
			return err
		}
		f.info = infoOfFile(f.key, resp)
		f.body, f.watch = resp.Body, watch
		return nil
	})
}

func (f *remoteFile) Read(b []byte) (int, error) {
	for {
		if f.at >= f.info.Size {
			return 0, f.end()
		}
		f.watch.moved()
		n, err := f.body.Read(b)
		f.at += int64(n)
		f.sum.Write(b[:n])
		if n > 0 || err == nil {
			f.cuts = 0
			return n, nil
		}
		f.Close()
		if f.cuts++; f.cuts > maxCuts {
			return 0, &job.Error{Code: job.Unavailable, Message: fmt.Sprintf("%s cannot be read", f.key), Why: "connections are cut before anything comes", Err: err}
		}
		if f.ctx.Err() != nil {
			return 0, context.Cause(f.ctx)
		}
		before := f.info
		if err := f.open(); err != nil {
			return 0, plain(err)
		}
		if f.info.SHA256 != before.SHA256 {
			return 0, fmt.Errorf("read %s: it was replaced meanwhile", f.key)
		}
	}
}

func (f *remoteFile) end() error {
	if got := hex.EncodeToString(f.sum.Sum(nil)); f.whole && got != f.info.SHA256 {
		return fmt.Errorf("read %s: %w: it is %s instead of %s", f.key, artifact.ErrDamaged, got, f.info.SHA256)
	}
	return io.EOF
}

// Close implements io.Closer.
func (f *remoteFile) Close() error {
	f.watch.end()
	return f.body.Close()
}

// watchdog ends a transfer that does not move.
type watchdog struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// watched returns a context that ends when nothing moves for transferSilence.
func watched(ctx context.Context, at *Client) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := &job.Error{Code: job.Unavailable, Message: "the server at " + at.url + " does not answer", Why: fmt.Sprintf("nothing has moved for %s", transferSilence)}
	return ctx, &watchdog{time.AfterFunc(transferSilence, func() { cancel(silent) }), cancel}
}

func (w *watchdog) moved() {
	if w != nil {
		w.timer.Reset(transferSilence)
	}
}

func (w *watchdog) end() {
	if w != nil {
		w.timer.Stop()
		w.cancel(nil)
	}
}

// watchedReader tells the watchdog that the body moves.
type watchedReader struct {
	io.Reader
	watch *watchdog
}

func (r watchedReader) Read(b []byte) (int, error) {
	r.watch.moved()
	return r.Reader.Read(b)
}

// source is a file to be sent, perhaps several times.
type source struct {
	size   int64
	sha256 string
	open   func() io.Reader
	close  func()
}

// smallFile is how much is held in memory to be sent again; more is read again
// from where it is, or from a temporary file.
const smallFile = 256 << 10

// hold prepares a file for sending: its hash goes before its bytes.
func hold(r io.Reader) (*source, error) {
	head, err := io.ReadAll(io.LimitReader(r, smallFile))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(head)
	if len(head) < smallFile {
		return &source{size: int64(len(head)), sha256: hex.EncodeToString(sum.Sum(nil)), close: func() {},
			open: func() io.Reader { return bytes.NewReader(head) }}, nil
	}
	// Each sending reads by position: one that was given up may still be reading.
	if l, ok := r.(*io.LimitedReader); ok {
		if file, ok := l.R.(positioned); ok {
			return holdFile(file, l.N, sum, int64(len(head)), func() {})
		}
	}
	if file, ok := r.(positioned); ok {
		return holdFile(file, maxArtifact, sum, int64(len(head)), func() {})
	}
	spool, err := os.CreateTemp("", "nanoos-upload-")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	end := func() { spool.Close(); os.Remove(spool.Name()) }
	_, err = io.Copy(spool, io.MultiReader(bytes.NewReader(head), r))
	if err == nil {
		_, err = spool.Seek(int64(len(head)), io.SeekStart)
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("write temporary file: %w", err)
	}
	return holdFile(spool, maxArtifact, sum, int64(len(head)), end)
}

// positioned is a file that can be read at any position.
type positioned interface {
	io.ReadSeeker
	io.ReaderAt
}

// holdFile hashes the rest of a file, of which head bytes have been read and at
// most rest are to come.
func holdFile(file positioned, rest int64, sum hash.Hash, head int64, end func()) (*source, error) {
	at, err := file.Seek(0, io.SeekCurrent)
	var n int64
	if err == nil {
		n, err = io.Copy(sum, io.LimitReader(file, rest))
	}
	if err != nil {
		end()
		return nil, err
	}
	size := head + n
	return &source{size: size, sha256: hex.EncodeToString(sum.Sum(nil)), close: end,
		open: func() io.Reader { return io.NewSectionReader(file, at-head, size) }}, nil
}

func leaseHeader(id job.ID, fence job.Fence, p proof) string {
	return fmt.Sprintf("%s/%d/%s", id, fence, p)
}

// leaseFor returns the header for a key: the lease of the job that it belongs
// to, or of one that has it among its inputs.
func (k *known) leaseFor(key string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if rest, ok := strings.CutPrefix(key, "jobs/"); ok {
		id, _, _ := strings.Cut(rest, "/")
		if l, held := k.leases[job.ID(id)]; held {
			return leaseHeader(job.ID(id), l.fence, l.proof)
		}
		return ""
	}
	for id, l := range k.leases {
		for _, f := range l.files {
			if artifact.InputKey(f.SHA256) == key {
				return leaseHeader(id, l.fence, l.proof)
			}
		}
	}
	return ""
}
