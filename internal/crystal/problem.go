package crystal

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one fault of a structure or of the file it came from.
type Problem struct {
	Line   int // 1-based; 0 means unknown
	Column int // 1-based, in bytes; 0 means unknown
	// Field is the path in the JSON form of a Structure, such as
	// "positions[3][1]"; empty when Line says it better.
	Field   string
	Message string
	Fix     string
}

// ParseError is what the readers return for a file that cannot be used: every
// problem found, up to MaxProblems.
type ParseError struct {
	File     string // empty when the text had no name
	Problems []Problem
}

// MaxProblems bounds the problems kept of one structure: a file that is wrong
// in one way is often wrong in that way on each of its million lines.
const MaxProblems = 50

func (e *ParseError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// String is the problem in one line: where and what.
func (p Problem) String() string {
	var where []string
	if p.Line > 0 {
		where = append(where, fmt.Sprintf("line %d", p.Line))
	}
	if p.Column > 0 {
		where = append(where, fmt.Sprintf("column %d", p.Column))
	}
	if p.Field != "" {
		where = append(where, p.Field)
	}
	if len(where) == 0 {
		return p.Message
	}
	return strings.Join(where, ", ") + ": " + p.Message
}

// problems gathers what is wrong, up to MaxProblems, and counts the rest.
type problems struct {
	list    []Problem
	omitted int
}

func (ps *problems) add(p Problem) {
	if len(ps.list) == MaxProblems {
		ps.omitted++
		return
	}
	ps.list = append(ps.list, p)
}

// at adds a problem at a place in a text.
func (ps *problems) at(line, column int, format string, args ...any) {
	ps.add(Problem{Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

// field adds a problem of a field of the JSON form.
func (ps *problems) field(field, format string, args ...any) {
	ps.add(Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

// fix gives the last problem its remedy.
func (ps *problems) fix(format string, args ...any) {
	if ps.omitted == 0 {
		ps.list[len(ps.list)-1].Fix = fmt.Sprintf(format, args...)
	}
}

func (ps *problems) any() bool { return len(ps.list) > 0 }

// all returns the problems, the last of which says how many were left out.
func (ps *problems) all() []Problem {
	if ps.omitted == 0 {
		return ps.list
	}
	return append(slices.Clip(ps.list), Problem{Message: fmt.Sprintf("and at least %d more problems", ps.omitted)})
}

// err returns the problems as a *ParseError, or nil if there are none.
func (ps *problems) err() error {
	if !ps.any() {
		return nil
	}
	return &ParseError{Problems: ps.all()}
}

// failf is a ParseError of one problem.
func failf(line, column int, format string, args ...any) error {
	return &ParseError{Problems: []Problem{{Line: line, Column: column, Message: fmt.Sprintf(format, args...)}}}
}

// failFix is failf with a remedy.
func failFix(line, column int, fix, format string, args ...any) error {
	return &ParseError{Problems: []Problem{{Line: line, Column: column, Message: fmt.Sprintf(format, args...), Fix: fix}}}
}
