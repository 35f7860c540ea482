package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

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
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	e, ok := errors.AsType[*job.Error](err)
	if !ok && errors.Is(err, context.Canceled) {
		e, ok = &job.Error{Code: job.Unavailable, Message: "the request was given up"}, true
	}
	if !ok && errors.Is(err, context.DeadlineExceeded) {
		e, ok = &job.Error{Code: job.Unavailable, Message: "the request took too long", Why: "the database does not answer in time", Fix: "try again"}, true
	}
	if !ok || e.Code == job.Internal {
		infoOf(ctx).fail = err
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

// What a client is told to wait, in seconds: a database that is away needs
// longer than a limit of what goes on at one time.
const (
	retryAfterUnavailable = "5"
	retryAfterExhausted   = "2"
)

// GetHeaders adds when to come back, where that makes sense.
func (p *Problem) GetHeaders() http.Header {
	switch p.Status {
	case http.StatusTooManyRequests:
		return http.Header{"Retry-After": {retryAfterExhausted}}
	case http.StatusServiceUnavailable:
		return http.Header{"Retry-After": {retryAfterUnavailable}}
	}
	return nil
}

// deny answers a request with an error.
func (s *Server) deny(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errStopping) {
		// Another server is there already, or the next is about to start.
		w.Header().Set("Retry-After", "1")
	}
	writeProblem(w, problemOf(r.Context(), err))
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.GetHeaders() {
		if w.Header()[name] == nil {
			w.Header()[name] = values
		}
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	// An error here means that the client is gone.
	_ = json.NewEncoder(w).Encode(p)
}

// asProblem turns the errors that the HTTP library makes itself, about
// parameters and bodies, into problems of our own shape.
func asProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	e := &job.Error{Code: codeOfStatus(m.Status), Message: "the request was refused: " + m.Detail}
	if len(m.Errors) > 0 {
		e.Message = "the request was refused"
	}
	for _, d := range m.Errors {
		field := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(d.Location, "query."), "path."), "header.")
		e.Problems = append(e.Problems, job.Problem{Field: field, Message: d.Message, Why: valueText(d.Value)})
	}
	p := problemOf(ctx.Context(), e)
	p.Status, p.Title = m.Status, http.StatusText(m.Status)
	return p, nil
}

func valueText(v any) string {
	if s, ok := v.(string); ok && s != "" {
		return "got " + shorten(s)
	}
	return ""
}
