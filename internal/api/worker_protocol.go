package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// The worker protocol is how workers on other machines speak to the queue: the
// calls of worker.Queue as JSON, files and growing output as bytes, everything
// below /worker/v1. It is not part of the documented interface; both its ends
// are this program.
//
// It has a number of its own, which every request carries. A server of protocol
// N also speaks N-1, so servers are upgraded first and workers after them. Within
// a number fields are only added: what one side does not know it ignores, and
// what is missing is zero. Every call may be sent again when its answer was lost.
const (
	// protocol is the number that this program speaks; servers also speak those
	// from oldestProtocol on.
	protocol       = 1
	oldestProtocol = 1
)

// Headers of the worker protocol.
const (
	headerProtocol = "Nanoos-Protocol"
	// headerLease says under which lease a file is read or written: the job, the
	// fence and the proof, separated by slashes.
	headerLease = "Nanoos-Lease"
	// headerSHA256 is the hash of a whole file, in hexadecimal digits.
	headerSHA256 = "Nanoos-Sha256"
	// headerStored is how much of an output is stored: where to go on.
	headerStored = "Nanoos-Stored"
)

// workerPath is where the calls are.
const workerPath = "/worker/v1/"

// A proof shows that this installation gave a session or a lease to the token
// that sends it (T21). Whoever has it forwards it as it is.
type proof string

type attachRequest struct {
	Session job.Session `json:"session"`
	Found   []job.Found `json:"found"`
}

type attachReply struct {
	// Proof goes with every other call of the session.
	Proof  proof       `json:"proof"`
	Carry  []leaseWire `json:"carry"`
	Fenced []job.Found `json:"fenced"`
}

// leaseWire is a lease on the wire: the whole job, and the proof for its end,
// its files and its output.
type leaseWire struct {
	job.Lease
	Proof proof `json:"proof"`
}

type claimRequest struct {
	Worker string       `json:"worker"`
	Proof  proof        `json:"proof"`
	Free   job.Offer    `json:"free"`
	Max    int          `json:"max"`
	Wait   job.Duration `json:"wait"`
	// Poll names this claim for interruptRequest. It is never used twice.
	Poll string `json:"poll"`
}

type claimReply struct {
	Leases []leaseWire `json:"leases"`
}

// interruptRequest ends a claim that waits. The claim answers with what it has:
// to cut its connection instead would lose leases that are on the way.
type interruptRequest struct {
	Worker string `json:"worker"`
	Proof  proof  `json:"proof"`
	Poll   string `json:"poll"`
}

type beatRequest struct {
	Worker string     `json:"worker"`
	Proof  proof      `json:"proof"`
	Held   []job.Held `json:"held"`
}

type ordersRequest struct {
	Worker string       `json:"worker"`
	Proof  proof        `json:"proof"`
	Wait   job.Duration `json:"wait"`
}

// ordersReply answers beats, too.
type ordersReply struct {
	Orders []job.Order `json:"orders"`
}

type finishRequest struct {
	Endings []endingWire `json:"endings"`
}

type endingWire struct {
	job.Ending
	Proof proof `json:"proof"`
}

// finishReply has one entry for each ending, null where it was stored.
type finishReply struct {
	Errors []*job.Error `json:"errors"`
}

type leaveRequest struct {
	Worker string `json:"worker"`
	Proof  proof  `json:"proof"`
}

// outputReply answers an append.
type outputReply struct {
	Stored int64 `json:"stored"`
}

// nothing answers calls that return nothing.
type nothing struct{}

// Bounds of the bodies of calls. A worker holds at most some thousand jobs; an
// ending carries a result, and several come together.
const (
	maxCall       = 64 << 10
	maxBeat       = 16 << 20
	maxFinishBody = 256 << 20
)

// speaks refuses a worker of another protocol, and says who must be upgraded.
func speaks(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set(headerProtocol, strconv.Itoa(protocol))
	sent := r.Header.Get(headerProtocol)
	n, err := strconv.Atoi(sent)
	e := &job.Error{Code: job.Invalid, Why: fmt.Sprintf("it speaks protocol %d, this server %d to %d", n, oldestProtocol, protocol)}
	switch {
	case err != nil:
		e.Message, e.Why = "the request is not of a worker", fmt.Sprintf("the header %s is %q", headerProtocol, shorten(sent))
		e.Fix = "use the documented interface, or start a worker with: nanoos worker"
	case n > protocol:
		e.Message, e.Fix = "the worker is newer than this server", "upgrade the servers first, or start a worker of the servers' version"
	case n < oldestProtocol:
		e.Message, e.Fix = "the worker is too old for this server", "upgrade the worker to the servers' version; programs that run go on meanwhile"
	default:
		return nil
	}
	p := problemOf(r.Context(), e)
	p.Status, p.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
	return p
}

// readCall reads the body of a call. What it does not know it ignores.
func readCall(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return bodyError(r, err)
	}
	// The call may now wait; a deadline for the body that passes meanwhile would
	// look like a client that has gone.
	setDeadline(http.NewResponseController(w).SetReadDeadline, 0)
	if err := json.Unmarshal(raw, into); err != nil {
		return &job.Error{Code: job.Invalid, Message: "the call cannot be read", Why: err.Error(), Err: err}
	}
	return nil
}

// reply answers a call. An error means that the worker has not got it.
func reply(w http.ResponseWriter, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	control := http.NewResponseController(w)
	setDeadline(control.SetWriteDeadline, answerTimeout)
	w.Header().Set("Content-Type", "application/json")
	// With its length known, an answer that was cut is seen as such.
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, bytes.NewReader(raw)); err != nil {
		return err
	}
	return control.Flush()
}

// patient gives a long poll the time that it asked for, and an end when the
// server stops or the worker goes.
func (s *Server) patient(w http.ResponseWriter, r *http.Request, wait time.Duration) (context.Context, context.CancelCauseFunc) {
	setDeadline(http.NewResponseController(w).SetWriteDeadline, wait+answerTimeout)
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(s.closing, func() { cancel(errStopping) })
	return ctx, func(cause error) { stop(); cancel(cause) }
}

// errStopping sends workers to another server.
var errStopping = &job.Error{Code: job.Unavailable, Message: "the server is stopping", Fix: "use another, or wait for it to come back"}

// bodyError says why a body could not be read.
func bodyError(r *http.Request, err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p := problemOf(r.Context(), &job.Error{Code: job.Invalid, Message: "the request was refused", Why: fmt.Sprintf("it has more than %d bytes", tooLarge.Limit)})
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
		return p
	}
	return &job.Error{Code: job.Unavailable, Message: "the request was refused", Why: "its body was cut or came too slowly", Fix: "send it again", Err: err}
}
