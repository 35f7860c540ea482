package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// maxArtifact bounds one stored file. Wave functions, which may be larger, stay
// on the machine unless a job asks for them.
const maxArtifact = 64 << 30

// Caps on files and outputs on their way (F46), of which a worker has at most
// maxTransfers; many workers may share one address and one token.
const (
	maxUploads       = 1024
	maxUploadsPerKey = 768
)

func (s *Server) workerFileRoutes() {
	s.workerRoute("PUT "+workerPath+"artifacts/{key...}", s.putArtifact)
	s.workerRoute("GET "+workerPath+"artifacts/{key...}", s.getArtifact)
}

// leaseHeld is the lease that a request names, and that its token was given.
type leaseHeld struct {
	id    job.ID
	fence job.Fence
}

// leaseOf reads the header of a request and checks its proof.
func (s *Server) leaseOf(r *http.Request) (leaseHeld, error) {
	parts := strings.Split(r.Header.Get(headerLease), "/")
	if len(parts) != 3 {
		return leaseHeld{}, job.Errorf(job.Forbidden, "the request names no lease")
	}
	fence, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return leaseHeld{}, job.Errorf(job.Forbidden, "the request names no lease")
	}
	l := leaseHeld{job.ID(parts[0]), job.Fence(fence)}
	return l, s.checkLease(r.Context(), l.id, l.fence, proof(parts[2]))
}

// outcomeLost marks an attempt whose worker was silent for too long. It may
// come back with the files of its end, as long as nobody else has begun (R10).
const outcomeLost = "lost"

// current returns the job of a lease that nothing has ended yet.
func (s *Server) current(ctx context.Context, l leaseHeld) (job.Job, error) {
	var j job.Job
	over := false
	err := s.Store.Read(ctx, func(tx store.ReadTx) (err error) {
		if j, err = tx.Job(ctx, "", l.id); err != nil {
			return err
		}
		over = j.Fence != l.fence || j.State.Terminal()
		if over || j.State == job.Running {
			return nil
		}
		attempts, err := tx.Attempts(ctx, "", l.id)
		over = len(attempts) == 0 || attempts[len(attempts)-1].Outcome != outcomeLost
		return err
	})
	if err == nil && over {
		err = &job.Error{Code: job.Fenced, Message: fmt.Sprintf("the lease of job %s is no longer current", l.id),
			Why: fmt.Sprintf("the job is %s under fence %d; the request carries fence %d", j.State, j.Fence, l.fence)}
	}
	return j, err
}

// putArtifact stores a file of a running attempt under the fence of its lease
// (G6). The bytes must have the hash that was sent with them.
func (s *Server) putArtifact(w http.ResponseWriter, r *http.Request) error {
	lease, err := s.leaseOf(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	if artifact.CheckKey(key) != nil || !strings.HasPrefix(key, fmt.Sprintf("jobs/%s/%d/", lease.id, lease.fence)) {
		return notOfLease(key, lease)
	}
	want := r.Header.Get(headerSHA256)
	if raw, err := hex.DecodeString(want); err != nil || len(raw) != 32 || strings.ToLower(want) != want {
		return &job.Error{Code: job.Invalid, Message: "the file was not stored", Why: "the header " + headerSHA256 + " is not a hash"}
	}
	leave, err := s.admitTransfer(r)
	if err != nil {
		return err
	}
	defer leave()
	if _, err := s.current(r.Context(), lease); err != nil {
		return err
	}
	control := http.NewResponseController(w)
	setDeadline(control.SetWriteDeadline, 0) // set again for the answer
	body := &bodyReader{r: patientReader{http.MaxBytesReader(w, r.Body, maxArtifact), control}}
	info, err := s.Artifacts.Put(r.Context(), key, artifact.Verify(body, want), r.ContentLength)
	switch {
	case body.err != nil:
		return bodyError(r, body.err)
	case errors.Is(err, artifact.ErrDamaged):
		return &job.Error{Code: job.Invalid, Message: "the file was not stored", Why: "it was damaged on its way: its bytes do not have the hash that came with it", Fix: "send it again"}
	case err != nil:
		return fmt.Errorf("store %s: %w", key, err)
	}
	setDeadline(control.SetReadDeadline, 0)
	w.Header().Set(headerSHA256, info.SHA256)
	_ = reply(w, info) // to store it again is no error
	return nil
}

func notOfLease(key string, l leaseHeld) error {
	return &job.Error{Code: job.Forbidden, Message: fmt.Sprintf("%s is not a file of this lease", shorten(key)),
		Why: fmt.Sprintf("the request comes under fence %d of job %s", l.fence, l.id)}
}

// bodyReader remembers that it was the body that failed, not the store.
type bodyReader struct {
	r   io.Reader
	err error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// getArtifact serves the inputs of a job that the worker holds, and what its
// attempts have stored.
func (s *Server) getArtifact(w http.ResponseWriter, r *http.Request) error {
	lease, err := s.leaseOf(r)
	if err != nil {
		return err
	}
	j, err := s.current(r.Context(), lease)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	isInput := slices.ContainsFunc(j.Spec.Files, func(f job.File) bool { return artifact.InputKey(f.SHA256) == key })
	if !isInput && !strings.HasPrefix(key, fmt.Sprintf("jobs/%s/", j.ID)) {
		return notOfLease(key, lease)
	}
	leave, err := s.admitTransfer(r)
	if err != nil {
		return err
	}
	defer leave()
	info, err := s.Artifacts.Stat(r.Context(), key)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set(headerSHA256, info.SHA256)
	h.Set("Last-Modified", info.At.UTC().Format(http.TimeFormat))
	content := &object{ctx: r.Context(), st: s.Artifacts, info: info}
	defer content.Close()
	s.serveContent(w, r, content)
	return nil
}

// admitTransfer counts a file or an output on its way (F46).
func (s *Server) admitTransfer(r *http.Request) (leave func(), err error) {
	return s.transferCap.take("address "+hostOf(r.RemoteAddr), "token "+principal(r.Context()).token.ID)
}
