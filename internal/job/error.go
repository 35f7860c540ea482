package job

import (
	"errors"
	"fmt"
	"strings"
)

// Error is what callers may act on. Any other error is a fault of ours.
type Error struct {
	Code Code `json:"code"`
	// Message says in one sentence what did or did not happen.
	Message string `json:"message"`
	Why     string `json:"why,omitempty"` // the concrete values
	Fix     string `json:"fix,omitempty"` // a command that can be pasted, or a choice
	// Problems are all the faults of an invalid input, not just the first.
	Problems []Problem `json:"problems,omitempty"`
	Err      error     `json:"-"` // the cause, for the log
}

// Problem is one fault of an input and where it is.
type Problem struct {
	// Field is the path in the job file at fault, such as
	// "parameters.kpoints[1]"; empty when File and Line say it better.
	Field   string `json:"field,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // 1-based; 0 means unknown
	Column  int    `json:"column,omitempty"` // 1-based; 0 means unknown
	Message string `json:"message"`
	Why     string `json:"why,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Warning is something people should know about the input or the run.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
}

// Code says what kind of error it is; one table maps codes to HTTP statuses
// and CLI exit codes.
type Code string

const (
	Invalid     Code = "invalid"
	NotFound    Code = "not_found"
	Ambiguous   Code = "ambiguous" // an abbreviated id that fits several jobs
	Conflict    Code = "conflict"
	Fenced      Code = "fenced" // another owner holds the job
	Forbidden   Code = "forbidden"
	Exhausted   Code = "exhausted" // quota or rate
	Unavailable Code = "unavailable"
	Internal    Code = "internal"
)

// Errorf makes an Error; the format states what happened, in lower case.
func Errorf(code Code, format string, args ...any) *Error {
	e := &Error{Code: code}
	err := fmt.Errorf(format, args...)
	e.Message, e.Err = err.Error(), errors.Unwrap(err)
	return e
}

// InvalidInput makes an Error of all the problems found, or nil if there are none.
func InvalidInput(message string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &Error{Code: Invalid, Message: message, Problems: problems}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	for i, p := range e.Problems {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + p.String())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// String is the problem in one line: where, what, why.
func (p Problem) String() string {
	var where []string
	if p.File != "" {
		where = append(where, p.File)
	}
	if p.Line > 0 {
		where = append(where, fmt.Sprintf("line %d", p.Line))
	}
	if p.Column > 0 {
		where = append(where, fmt.Sprintf("column %d", p.Column))
	}
	if p.Field != "" {
		where = append(where, p.Field)
	}
	s := p.Message
	if len(where) > 0 {
		s = strings.Join(where, ", ") + ": " + s
	}
	if p.Why != "" {
		s += " (" + p.Why + ")"
	}
	return s
}

// CodeOf returns the code of the first Error in err's chain, Internal for any
// other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}
