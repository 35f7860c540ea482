package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/nano-os/nanoos/internal/job"
)

// Codes of PostgreSQL that have a meaning here.
const (
	codeUnique        = "23505" // unique_violation
	codeDivision      = "22012" // division_by_zero: how a statement of ours says no
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeLockTimeout   = "55P03"
	codeCancelled     = "57014" // statement_timeout
	codeDiskFull      = "53100"
	codeReadOnly      = "25006"
)

// fault turns an error of PostgreSQL into what callers get. What may pass by
// itself is job.Unavailable.
func fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*job.Error](err); ok {
		return err
	}
	e := &job.Error{Code: job.Unavailable, Why: fmt.Sprintf("%s: %v", what, err), Err: err,
		Fix: "wait until the database answers again; the server goes on by itself"}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && !lost(err):
		return fmt.Errorf("%s: %w", what, err)
	case !ok, lost(err):
		e.Message = "the database does not answer"
	case pg.Code == codeLockTimeout, pg.Code == codeDeadlock, pg.Code == codeSerialization:
		e.Message, e.Fix = "the database is busy with the same rows", "try again"
	case pg.Code == codeCancelled:
		e.Message, e.Fix = "the database took too long", "try again, or look at its load"
	case pg.Code == codeDiskFull:
		e.Message = "the disk of the database is full"
		e.Fix = "free space on the disk of PostgreSQL; writing goes on by itself then, and nothing that was accepted is lost"
	case pg.Code == codeReadOnly:
		e.Message, e.Fix = "the database accepts no changes", "connect to the primary server; this one is a standby, or set to read only"
	case strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "58"), strings.HasPrefix(pg.Code, "XX"):
		e.Message, e.Fix = "the database is in trouble", "look at the log of PostgreSQL"
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return e
}

// lostError is an error after which the session is gone.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

// Unwrap returns what ended the session.
func (e *lostError) Unwrap() error { return e.err }

// lost reports whether an error means that the session is gone.
func lost(err error) bool {
	if _, ok := errors.AsType[*lostError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// 57P01…57P05: shut down, crashed, starting, dropped, idle for too long.
		// 25P03: idle in a transaction for too long. 08: connection.
		return pg.Severity == "FATAL" || pg.Severity == "PANIC" || strings.HasPrefix(pg.Code, "57P") ||
			strings.HasPrefix(pg.Code, "08") || pg.Code == "25P03"
	}
	return false
}

// hasCode reports whether PostgreSQL answered with one of the codes.
func hasCode(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if pg.Code == c {
			return true
		}
	}
	return false
}

// errUnknown answers those whose commit may or may not have happened.
func errUnknown(err error) error {
	return &job.Error{
		Code:    job.Unavailable,
		Message: "it is unknown whether the change was stored",
		Why:     fmt.Sprintf("the connection to the database broke during the commit, and it has not answered since: %v", err),
		Fix:     "look whether it was, and repeat it if not; with an idempotency key, just repeat it",
		Err:     err,
	}
}

// errWaited answers a call that waited too long for its turn.
func errWaited(what string) error {
	return &job.Error{Code: job.Unavailable, Message: "the database is too slow or does not answer",
		Why: what, Fix: "wait until the database answers again; the server goes on by itself"}
}

// cause prefers the reason why a caller's context ended to what the end of it
// looks like from here.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
