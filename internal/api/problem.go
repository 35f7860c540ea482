package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/nano-os/nanoos/internal/job"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// statuses is the one table from error codes to HTTP.
var statuses = map[job.Code]int{
	job.Invalid:     http.StatusUnprocessableEntity,
	job.NotFound:    http.StatusNotFound,
	job.Ambiguous:   http.StatusConflict,
	job.Conflict:    http.StatusConflict,
	job.Fenced:      http.StatusConflict,
	job.Forbidden:   http.StatusForbidden,
	job.Exhausted:   http.StatusTooManyRequests,
	job.Unavailable: http.StatusServiceUnavailable,
	job.Internal:    http.StatusInternalServerError,
}

// codeOfStatus is the code of an HTTP error that did not begin as a job.Error.
func codeOfStatus(status int) job.Code {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return job.Forbidden
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return job.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return job.Conflict
	case http.StatusTooManyRequests:
		return job.Exhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return job.Unavailable
	}
	if status >= 400 && status < 500 {
		return job.Invalid
	}
	return job.Internal
}

// problemOf words an error for the wire. What is not a job.Error is a fault of
// ours and is not shown; the log has it under the request id.
func problemOf(ctx context.Context, err error) *Problem {
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code == job.Internal {
		e = &job.Error{Code: job.Internal, Message: "the server could not do this because of a fault of its own",
			Fix: "try again; if it stays, give the request id to whoever runs the server"}
	}
	status := statuses[e.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	p := &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message,
		Code: string(e.Code), Message: e.Message, Why: e.Why, Fix: e.Fix, Problems: e.Problems,
		RequestID: requestID(ctx),
	}
	if e.Why != "" {
		p.Detail += ": " + e.Why
	}
	return p
}

// Error, GetStatus and ContentType let the HTTP layer send a Problem as it is.
func (p *Problem) Error() string { return p.Detail }

func (p *Problem) GetStatus() int { return p.Status }

func (p *Problem) ContentType(string) string { return problemType }
