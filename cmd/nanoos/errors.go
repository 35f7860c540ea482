package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"syscall"

	"github.com/nano-os/nanoos/internal/job"
)

// Exit codes are part of the contract with scripts; see `nanoos help exit-codes`.
const (
	exitDone         = 0
	exitUnexpected   = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitForbidden    = 4
	exitConflict     = 5
	exitExhausted    = 6
	exitUnreachable  = 7
	exitInvalid      = 8
	exitPartly       = 9
	exitFailed       = 10
	exitCancelled    = 11
	exitTimeout      = 12
	exitNotConverged = 13
	exitInterrupted  = 130
	exitPipe         = 141
)

// quietExit ends the program with a code when everything worth saying has
// been said.
type quietExit int

func (e quietExit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that cannot be obeyed.
type usageError struct{ said *job.Error }

func (u *usageError) Error() string { return u.said.Error() }

func usage(fix, format string, args ...any) error {
	return &usageError{&job.Error{Code: "usage", Message: fmt.Sprintf(format, args...), Fix: fix}}
}

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if q, ok := errors.AsType[quietExit](err); ok {
		return int(q)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitPipe
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	switch job.CodeOf(err) {
	case job.Invalid:
		return exitInvalid
	case job.NotFound, job.Ambiguous:
		return exitNotFound
	case job.Forbidden:
		return exitForbidden
	case job.Conflict, job.Fenced:
		return exitConflict
	case job.Exhausted:
		return exitExhausted
	case job.Unavailable:
		return exitUnreachable
	}
	return exitUnexpected
}

// asError gives any error the parts that people are shown.
func asError(err error) *job.Error {
	if u, ok := errors.AsType[*usageError](err); ok {
		return u.said
	}
	if e, ok := errors.AsType[*job.Error](err); ok {
		return e
	}
	return &job.Error{Code: job.Internal, Message: err.Error()}
}

// located is an error whose problems lie in a text that can be quoted.
type located struct {
	said    *job.Error
	sources map[string]string // file name → text
}

func (l *located) Error() string { return l.said.Error() }

// Unwrap returns what is wrong.
func (l *located) Unwrap() error { return l.said }

// report writes an error to w in the form that the output format asks for.
// Interruptions and closed pipes are silent: the person already knows.
func (a *app) report(err error) {
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) {
		return
	}
	if _, quiet := errors.AsType[quietExit](err); quiet {
		return
	}
	if a.opt.output == "json" || a.opt.output == "jsonl" {
		writeJSONError(a.io.err, asError(err))
		return
	}
	var sources map[string]string
	if l, ok := errors.AsType[*located](err); ok {
		sources = l.sources
	}
	e := asError(err)
	writeError(a.io.err, a.errScreen(), "error", e, sources)
	if a.opt.debug && e.Err != nil {
		writePart(a.io.err, a.errScreen(), "cause", e.Err.Error())
	}
}

func writeJSONError(w io.Writer, e *job.Error) {
	type details struct {
		Problems []job.Problem `json:"problems,omitempty"`
	}
	type body struct {
		Code      job.Code `json:"code"`
		Message   string   `json:"message"`
		Why       string   `json:"why,omitempty"`
		Fix       string   `json:"fix,omitempty"`
		RequestID string   `json:"request_id,omitempty"`
		Details   *details `json:"details,omitempty"`
	}
	b := body{Code: e.Code, Message: e.Message, Why: e.Why, Fix: e.Fix}
	if len(e.Problems) > 0 {
		b.Details = &details{e.Problems}
		b.Why, b.Fix = orDefault(b.Why, e.Problems[0].String()), orDefault(b.Fix, e.Problems[0].Fix)
	}
	b.Fix = orDefault(b.Fix, defaultFix(e.Code))
	out, err := json.Marshal(map[string]body{"error": b})
	if err == nil {
		fmt.Fprintf(w, "%s\n", out)
	}
}

// maxProblems is how many problems are shown before they are only counted.
const maxProblems = 10

// writeError writes what happened, why, and what to do, in this order.
func writeError(w io.Writer, s screen, word string, e *job.Error, sources map[string]string) {
	tone := red
	if word == "warning" {
		tone = yellow
	}
	fmt.Fprintf(w, "%s %s\n", s.paint(tone, word+":"), oneLine(e.Message))
	writePart(w, s, "why", e.Why)
	for i, p := range e.Problems {
		if i == maxProblems {
			fmt.Fprintf(w, "  and %d more problems\n", len(e.Problems)-i)
			break
		}
		writeProblem(w, s, p, sources)
	}
	fix := e.Fix
	if fix == "" && len(e.Problems) == 0 {
		fix = defaultFix(e.Code)
	}
	writePart(w, s, "fix", fix)
}

func writeProblem(w io.Writer, s screen, p job.Problem, sources map[string]string) {
	where, what := "", p.Message
	if p.File != "" {
		where = p.File
		if p.Line > 0 {
			where += fmt.Sprintf(":%d", p.Line)
			if p.Column > 0 {
				where += fmt.Sprintf(":%d", p.Column)
			}
		}
		where += ": "
	}
	if p.Field != "" && !strings.HasPrefix(what, p.Field) {
		what = p.Field + ": " + what
	}
	if p.Why != "" {
		what += " (" + p.Why + ")"
	}
	writePart(w, s, "why", where+what)
	if text, ok := sources[p.File]; ok {
		quoteLine(w, s, text, p.Line, p.Column)
	}
	writePart(w, s, "fix", p.Fix)
}

// quoteLine shows a line of a text with a caret below the column.
func quoteLine(w io.Writer, s screen, text string, line, column int) {
	lines := strings.SplitN(text, "\n", line+1)
	if line < 1 || line > len(lines) {
		return
	}
	quoted := strings.TrimRight(lines[line-1], "\r")
	if len(quoted) > 200 || strings.TrimSpace(quoted) == "" {
		return
	}
	fmt.Fprintf(w, "        %4d | %s\n", line, oneLine(quoted))
	if column > 0 {
		fmt.Fprintf(w, "             | %s%s\n", strings.Repeat(" ", column-1), s.paint(red, "^"))
	}
}

func writePart(w io.Writer, s screen, name, text string) {
	if text == "" {
		return
	}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if i == 0 {
			fmt.Fprintf(w, "  %s  %s\n", s.paint(dim, name+":"), oneLine(line))
		} else {
			fmt.Fprintf(w, "        %s\n", oneLine(line))
		}
	}
}

// defaultFix says what to try when an error came without advice.
func defaultFix(c job.Code) string {
	switch c {
	case job.Unavailable:
		return "nanoos doctor"
	case job.NotFound:
		return "nanoos ls --all"
	case job.Forbidden:
		return "set NANOOS_TOKEN to a valid token"
	case job.Internal:
		return "nanoos doctor"
	}
	return ""
}

// didYouMean is advice about a mistyped word, or "".
func didYouMean(word string, candidates iter.Seq[string]) string {
	if near := job.Nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// oneLine makes text from elsewhere safe to print: control characters, which
// could move the cursor or change its colours, become spaces.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
