package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// maxOutput bounds one append; a program that prints more is sent in parts.
const maxOutput = 1 << 20

func (s *Server) workerOutputRoutes() {
	s.workerRoute("POST "+workerPath+"output/{job}/{attempt}/{stream}", s.addOutput)
}

// addOutput stores what a program printed since the last time, for those who
// read along. The answer says how much is stored: where to go on. Output that
// leaves a gap is refused with the same number.
func (s *Server) addOutput(w http.ResponseWriter, r *http.Request) error {
	if s.live == "" {
		return &job.Error{Code: job.Invalid, Message: "this server keeps no growing output", Fix: "the files of the attempt are stored when it ends"}
	}
	q := query{values: r.URL.Query()}
	fence, from := q.number("fence", 1, 1<<62, 0), q.number("from", 0, 1<<62, 0)
	// Parameters that this version does not know are ignored.
	if err := job.InvalidInput("the output was not stored", q.checks.problems); err != nil {
		return err
	}
	attempt, err := strconv.Atoi(r.PathValue("attempt"))
	stream := r.PathValue("stream")
	if err != nil || stream != engine.StdoutName && stream != engine.StderrName {
		return job.Errorf(job.Invalid, "there is no output %s of attempt %s", shorten(stream), shorten(r.PathValue("attempt")))
	}
	lease, err := s.leaseOf(r)
	if err != nil {
		return err
	}
	if string(lease.id) != r.PathValue("job") || int64(lease.fence) != fence {
		return notOfLease(r.URL.Path, lease)
	}
	leave, err := s.admitTransfer(r)
	if err != nil {
		return err
	}
	defer leave()
	limit, err := s.outputLimit(r, lease, attempt)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOutput))
	if err != nil {
		return bodyError(r, err)
	}
	stored, err := s.live.add(lease.id, attempt, lease.fence, stream, from, data, limit)
	w.Header().Set(headerStored, strconv.FormatInt(stored, 10))
	switch {
	case errors.Is(err, errGap):
		return &job.Error{Code: job.Conflict, Message: errGap.Error(), Why: fmt.Sprintf("it begins at %d, and %d bytes are stored", from, stored)}
	case errors.Is(err, errFull):
		p := problemOf(r.Context(), &job.Error{Code: job.Exhausted, Message: errFull.Error(), Why: fmt.Sprintf("it is %d bytes", limit)})
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
		return p
	case err != nil:
		return err
	}
	_ = reply(w, outputReply{stored}) // to add it again is no error
	return nil
}

// outputLimit checks that the lease is current, and returns how much of a stream
// the job may print.
func (s *Server) outputLimit(r *http.Request, l leaseHeld, attempt int) (int64, error) {
	known, ok := s.printing.get(l)
	if !ok {
		j, err := s.current(r.Context(), l)
		if err != nil {
			return 0, err
		}
		known = printer{attempt: j.Attempt, limit: j.Spec.LogLimit}
		s.printing.put(l, known)
	}
	if known.attempt != attempt {
		return 0, job.Errorf(job.Fenced, "attempt %d of job %s has ended", attempt, l.id)
	}
	return known.limit, nil
}

// printers remembers for a moment which leases are current, so that a thousand
// programs that print do not read a thousand jobs every second. Output that
// comes too late by that moment hurts nobody.
type printers struct {
	mu sync.Mutex
	by map[leaseHeld]printer // guarded by mu
}

type printer struct {
	attempt int
	limit   int64
	at      time.Time
}

const (
	printerTime = 2 * time.Second
	maxPrinters = 10_000
)

func (p *printers) get(l leaseHeld) (printer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.by[l]
	return known, ok && time.Since(known.at) < printerTime
}

func (p *printers) put(l leaseHeld, known printer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil || len(p.by) >= maxPrinters {
		p.by = map[leaseHeld]printer{}
	}
	known.at = time.Now()
	p.by[l] = known
}
