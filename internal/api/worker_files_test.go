package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// holding is a remote worker that holds a job with one input.
func (r *rig) holding() (*WorkerClient, job.Lease) {
	r.Helper()
	c := r.remote()
	attachTo(r.T, c)
	r.submit(JobRequest{Engine: "deck", Files: []FileInput{{Name: "in", Text: "deck of " + r.Name()}}})
	return c, claimFrom(r.T, c, 1)[0]
}

func TestFilesOfALeaseGoThroughTheServerUnchanged(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c, l := r.holding()
	large := bytes.Repeat([]byte("0123456789abcdef"), smallFile/4)
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, large, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, from := range map[string]struct {
		r    io.Reader
		want []byte
	}{
		"empty": {strings.NewReader(""), nil}, "small": {strings.NewReader("text"), []byte("text")},
		"file": {io.LimitReader(file, int64(len(large)-1)), large[:len(large)-1]}, "stream": {io.MultiReader(bytes.NewReader(large)), large},
	} {
		key := artifact.RunKey(l.Job.ID, l.Fence, name)
		info, err := c.Put(t.Context(), key, from.r, -1)
		if err != nil || info.Size != int64(len(from.want)) || info.Key != key {
			t.Fatalf("%s: info is %+v, error %v", name, info, err)
		}
		stored, _, err := r.files.Get(t.Context(), key, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer stored.Close()
		if got, err := io.ReadAll(stored); err != nil || !bytes.Equal(got, from.want) {
			t.Errorf("%s: %d bytes are stored, want %d, error %v", name, len(got), len(from.want), err)
		}
		for _, at := range []int64{0, 2, int64(len(from.want))} {
			got, info2, err := c.Get(t.Context(), key, at)
			if err != nil {
				t.Fatalf("%s from %d: %v", name, at, err)
			}
			raw, err := io.ReadAll(got)
			got.Close()
			if want := from.want[min(at, int64(len(from.want))):]; err != nil || !bytes.Equal(raw, want) {
				t.Errorf("%s from %d: %d bytes, want %d, error %v", name, at, len(raw), len(want), err)
			}
			if at == 0 && (info2.SHA256 != info.SHA256 || info2.Size != info.Size) {
				t.Errorf("%s: info is %+v, want %+v", name, info2, info)
			}
		}
		if st, err := c.Stat(t.Context(), key); err != nil || st.SHA256 != info.SHA256 || st.Size != info.Size || st.At.IsZero() {
			t.Errorf("%s: stat is %+v, error %v", name, st, err)
		}
	}
	in, _, err := c.Get(t.Context(), artifact.InputKey(l.Job.Spec.Files[0].SHA256), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.ReadAll(in); err != nil || string(got) != "deck of "+t.Name() {
		t.Errorf("the input is %q, error %v", got, err)
	}
	if _, err := c.Stat(t.Context(), artifact.RunKey(l.Job.ID, l.Fence, "nothing")); job.CodeOf(err) != job.NotFound {
		t.Errorf("an absent file: error %v", err)
	}
}

func TestT20_FilesOfOtherJobsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c, l := r.holding()
	r.submit(JobRequest{Engine: "deck", Files: []FileInput{{Name: "in", Text: "deck of others"}}})
	other := claimFrom(t, c, 1)[0]
	r.keep(other, "stdout", "theirs")
	header := leaseHeader(l.Job.ID, l.Fence, c.known.prove(l.Job.ID, l.Fence))
	sum := strings.Repeat("0", 64)
	send := func(method, key, lease string) (int, string) {
		resp, body := r.do(method, workerPath+"artifacts/"+key, "x", headerProtocol, "1", headerLease, lease, headerSHA256, sum)
		return resp.StatusCode, body
	}
	for _, key := range []string{
		artifact.RunKey(other.Job.ID, other.Fence, "stdout"), artifact.RunKey(l.Job.ID, l.Fence+1, "stdout"),
		artifact.RunKey(l.Job.ID, l.Fence, ".hidden"), artifact.InputKey(sum), "jobs/" + string(l.Job.ID) + "/1", "other",
	} {
		if status, body := send(http.MethodPut, key, header); status != http.StatusForbidden && key != artifact.RunKey(l.Job.ID, l.Fence, ".hidden") {
			t.Errorf("put %s: %d %s", key, status, body)
		}
	}
	for _, key := range []string{artifact.RunKey(other.Job.ID, other.Fence, "stdout"), artifact.InputKey(other.Job.Spec.Files[0].SHA256), "other"} {
		if status, body := send(http.MethodGet, key, header); status != http.StatusForbidden {
			t.Errorf("get %s: %d %s", key, status, body)
		}
	}
	own := artifact.RunKey(l.Job.ID, l.Fence, "stdout")
	for _, lease := range []string{"", "a/b", leaseHeader(other.Job.ID, other.Fence, c.known.prove(l.Job.ID, l.Fence)), leaseHeader(l.Job.ID, l.Fence, "guess"), leaseHeader(l.Job.ID, l.Fence+1, "")} {
		for _, method := range []string{http.MethodPut, http.MethodGet} {
			if status, body := send(method, own, lease); status != http.StatusForbidden && status != http.StatusConflict {
				t.Errorf("%s with lease %q: %d %s", method, lease, status, body)
			}
		}
	}
	if err := c.Finish(t.Context(), l, good()); err != nil {
		t.Fatal(err)
	}
	if status, body := send(http.MethodPut, own, header); status != http.StatusConflict || !strings.Contains(body, "fenced") {
		t.Errorf("a file of a finished job: %d %s", status, body)
	}
	for _, err := range c.List(t.Context(), "") {
		if job.CodeOf(err) != job.Forbidden {
			t.Errorf("a listing: error %v", err)
		}
	}
	if err := c.Delete(t.Context(), own); job.CodeOf(err) != job.Forbidden {
		t.Errorf("a removal: error %v", err)
	}
}

func TestG22_AFileWithAnotherHashIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c, l := r.holding()
	key := artifact.RunKey(l.Job.ID, l.Fence, "stdout")
	header := leaseHeader(l.Job.ID, l.Fence, c.known.prove(l.Job.ID, l.Fence))
	for _, sum := range []string{"", "abc", strings.Repeat("0", 64)} {
		p := r.refused(http.StatusUnprocessableEntity, "PUT", workerPath+"artifacts/"+key, "x", headerProtocol, "1", headerLease, header, headerSHA256, sum)
		if p.Code != "invalid" {
			t.Errorf("hash %q: problem is %+v", sum, p)
		}
	}
	if _, err := r.files.Stat(t.Context(), key); job.CodeOf(err) != job.NotFound {
		t.Errorf("it is stored: error %v", err)
	}
}

func TestF40_AFileSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	var calls atomic.Int32
	front := r.front(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if !strings.Contains(q.URL.Path, "/artifacts/") || calls.Add(1) > 2 {
			next.ServeHTTP(w, q)
			return
		}
		if q.Method == http.MethodPut {
			io.CopyN(io.Discard, q.Body, 100)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(&cutter{ResponseWriter: w, left: 100_000}, q)
	})
	c := r.remote(front)
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	l := claimFrom(t, c, 1)[0]
	key := artifact.RunKey(l.Job.ID, l.Fence, "stdout")
	large := bytes.Repeat([]byte("0123456789abcdef"), smallFile/4)
	if _, err := c.Put(t.Context(), key, bytes.NewReader(large), int64(len(large))); err != nil {
		t.Fatal(err)
	}
	calls.Store(0)
	got, _, err := c.Get(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if raw, err := io.ReadAll(got); err != nil || !bytes.Equal(raw, large) {
		t.Errorf("%d bytes of %d, error %v", len(raw), len(large), err)
	}
	if calls.Load() < 3 {
		t.Errorf("only %d requests were made", calls.Load())
	}
}

// cutter cuts an answer after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; err == nil && n < len(b) {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestF16_AFullDiskOfResultsKeepsNoHeartbeatWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	l := claimFrom(t, c, 1)[0]
	full := brokenFiles{Store: r.files}
	full.broken.Store(true)
	r.server.Artifacts = &full
	stored := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), artifact.RunKey(l.Job.ID, l.Fence, "stdout"), strings.NewReader("text"), -1)
		stored <- err
	}()
	waitFor(t, func() bool { return full.tried.Load() > 1 })
	if i, wait := c.choice.next(); i != 0 || wait > 0 {
		t.Errorf("a heartbeat waits %s", wait)
	}
	full.broken.Store(false)
	if err := <-stored; err != nil {
		t.Error(err)
	}
}

// brokenFiles is a store of files that takes none for a while.
type brokenFiles struct {
	artifact.Store
	broken atomic.Bool
	tried  atomic.Int32
}

func (b *brokenFiles) Put(ctx context.Context, key string, r io.Reader, size int64) (artifact.Info, error) {
	b.tried.Add(1)
	if b.broken.Load() {
		return artifact.Info{}, errors.New("no space left on device")
	}
	return b.Store.Put(ctx, key, r, size)
}

func TestOutputIsStoredOnceWhateverIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock", Resources: ResourcesInput{Log: 20}})
	l := claimFrom(t, c, 1)[0]
	for _, step := range []struct {
		from int64
		text string
		want int64
	}{{0, "hello ", 6}, {0, "hello ", 6}, {3, "lo wor", 9}, {20, "gap", 9}, {9, "", 9}, {9, "ld\n", 12}} {
		if stored, err := c.Append(t.Context(), l, engine.StdoutName, step.from, []byte(step.text)); err != nil || stored != step.want {
			t.Errorf("%q at %d: stored %d, want %d, error %v", step.text, step.from, stored, step.want, err)
		}
	}
	log, err := r.client.Logs(t.Context(), "@last", LogQuery{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if got, err := io.ReadAll(log); err != nil || string(got) != "hello world\n" {
		t.Errorf("the log is %q, error %v", got, err)
	}
	if stored, err := c.Append(t.Context(), l, engine.StdoutName, 12, bytes.Repeat([]byte("x"), 20)); err != nil || stored != 20 {
		t.Errorf("beyond the limit: stored %d, error %v", stored, err)
	}
	if stored, err := c.Append(t.Context(), l, engine.StdoutName, 20, []byte("x")); job.CodeOf(err) != job.Exhausted || stored != 20 {
		t.Errorf("at the limit: stored %d, error %v", stored, err)
	}
	if _, err := c.Append(t.Context(), l, "other", 0, []byte("x")); job.CodeOf(err) != job.Invalid {
		t.Errorf("an unknown stream: error %v", err)
	}
	l.Fence++
	if _, err := c.Append(t.Context(), l, engine.StdoutName, 0, []byte("x")); job.CodeOf(err) != job.Fenced {
		t.Errorf("another fence: error %v", err)
	}
}

func TestALogIsFollowedFromAnyServerAcrossAnAdoption(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	second := r.another()
	c := r.remote()
	attachTo(t, c)
	j := r.submit(JobRequest{Engine: "mock"})
	log, err := second.Logs(t.Context(), string(j.ID), LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	print := func(l job.Lease, from int64, text string) {
		t.Helper()
		if stored, err := c.Append(t.Context(), l, engine.StdoutName, from, []byte(text)); err != nil || stored != from+int64(len(text)) {
			t.Fatalf("stored %d, error %v", stored, err)
		}
	}
	l := claimFrom(t, c, 1)[0]
	print(l, 0, "one\n")
	expect(t, log, "one\n")
	print(l, 4, "two\n")
	expect(t, log, "two\n")

	l = attachTo(t, c).Carry[0] // the worker has died, and its successor sends all of it again
	print(l, 0, "one\ntw")
	print(l, 6, "o\nthree\n")
	expect(t, log, "three\n")
	if _, err := c.Put(t.Context(), artifact.RunKey(l.Job.ID, l.Fence, engine.StdoutName), strings.NewReader("one\ntwo\nthree\nfour\n"), -1); err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(t.Context(), l, good()); err != nil {
		t.Fatal(err)
	}
	expect(t, log, "four\n")
	if n, err := log.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d bytes, error %v", n, err)
	}
	waitFor(t, func() bool { _, err := os.Stat(r.server.live.dir(j.ID)); return os.IsNotExist(err) })
}

func TestOutputThatNobodyRemovedIsSwept(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	r.submit(JobRequest{Engine: "mock"})
	leases := claimFrom(t, c, 2)
	lost, runs := leases[0], leases[1]
	unknown := job.NewID()
	for _, l := range []job.Lease{lost, runs, {Job: job.Job{ID: unknown, Attempt: 1}, Fence: 1}} {
		if _, err := r.server.live.add(l.Job.ID, 1, 1, engine.StdoutName, 0, []byte("x"), 100); err != nil {
			t.Fatal(err)
		}
	}
	// It ended without storing a file: what it has sent is all there is.
	if err := r.queue.Finish(t.Context(), lost, good()); err != nil {
		t.Fatal(err)
	}
	left := func(id job.ID) bool { _, err := os.Stat(r.server.live.dir(id)); return err == nil }
	for _, step := range []struct {
		after               time.Duration
		lost, runs, unknown bool
	}{{0, true, true, true}, {2 * settleTime, true, true, false}, {keepUnstored + time.Hour, false, true, false}} {
		if err := r.server.sweepOnce(t.Context(), time.Now().Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if left(lost.Job.ID) != step.lost || left(runs.Job.ID) != step.runs || left(unknown) != step.unknown {
			t.Errorf("after %s: %v %v %v are left, want %+v", step.after, left(lost.Job.ID), left(runs.Job.ID), left(unknown), step)
		}
	}
}
