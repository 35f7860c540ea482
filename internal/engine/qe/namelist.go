package qe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/job"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// maxProblems bounds what is reported of one deck: a deck that is wrong in one
// way is often wrong in that way on each of its lines.
const maxProblems = 30

// deck is an input of pw.x: namelists, then cards.
type deck struct {
	file      string
	text      string
	namelists []*namelist
	cards     []*card
	problems  []job.Problem
}

// namelist is a group of assignments between &NAME and a slash.
type namelist struct {
	name   string // in lower case, without &
	line   int
	after  int // offset in the text just behind &NAME
	closed bool
	vars   []variable
}

// variable is one assignment: name(index) = values.
type variable struct {
	name       string // in lower case
	index      string // as written between the brackets; empty without
	values     []string
	line       int
	start, end int // offsets in the text, with the comma behind it
}

// card is a block of lines after the namelists.
type card struct {
	name   string // in upper case
	option string // in lower case, without brackets
	line   int
	rows   []row
}

// row is one line of a card that is neither empty nor a comment.
type row struct {
	line   int
	fields []string
}

// cardNames are the cards of pw.x.
var cardNames = []string{
	"ATOMIC_SPECIES", "ATOMIC_POSITIONS", "K_POINTS", "ADDITIONAL_K_POINTS", "CELL_PARAMETERS", "CONSTRAINTS",
	"OCCUPATIONS", "ATOMIC_VELOCITIES", "ATOMIC_FORCES", "SOLVENTS", "HUBBARD",
}

// readDeck reads a deck and notes what is not in its form. It never fails: a
// deck that is no deck has no namelists.
func readDeck(file string, text []byte) *deck {
	d := &deck{file: file, text: string(text)}
	s := &scanner{deck: d, text: d.text, line: 1}
	s.text = strings.TrimPrefix(s.text, "\xef\xbb\xbf")
	s.base = len(d.text) - len(s.text)
	for s.namelist() {
	}
	s.cards()
	return d
}

func (d *deck) problem(line int, message, why, fix string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, job.Problem{File: d.file, Line: line, Message: message, Why: why, Fix: fix})
	}
}

// namelist returns a namelist by its name in lower case, or nil.
func (d *deck) namelist(name string) *namelist {
	i := slices.IndexFunc(d.namelists, func(n *namelist) bool { return n.name == name })
	if i < 0 {
		return nil
	}
	return d.namelists[i]
}

// card returns a card by its name in upper case, or nil.
func (d *deck) card(name string) *card {
	i := slices.IndexFunc(d.cards, func(c *card) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return d.cards[i]
}

// get returns the last assignment of a variable, as Fortran would.
func (d *deck) get(list, name string) *variable {
	n := d.namelist(list)
	if n == nil {
		return nil
	}
	for i := range slices.Backward(n.vars) {
		if v := &n.vars[i]; v.name == name && v.index == "" {
			return v
		}
	}
	return nil
}

// word returns a text variable without quotes and blanks, in lower case.
func (d *deck) word(list, name, otherwise string) string {
	if v := d.get(list, name); v != nil && len(v.values) > 0 {
		return strings.ToLower(v.text())
	}
	return otherwise
}

// text is the value without its quotes.
func (v *variable) text() string {
	if len(v.values) == 0 {
		return ""
	}
	return unquote(v.values[0])
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != '\'' && s[0] != '"' || s[len(s)-1] != s[0] {
		return s
	}
	quote := s[:1]
	return strings.TrimSpace(strings.ReplaceAll(s[1:len(s)-1], quote+quote, quote))
}

// float returns a numeric variable; ok is false when it is absent or no number.
func (d *deck) float(list, name string) (v float64, at *variable, ok bool) {
	at = d.get(list, name)
	if at == nil || len(at.values) == 0 {
		return 0, at, false
	}
	v, rest, ok := printed.Number([]byte(at.values[0]))
	return v, at, ok && len(rest) == 0 && printed.Finite(v)
}

// isTrue reports whether a logical variable is set: Fortran looks at the first
// letter alone.
func (d *deck) isTrue(list, name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(d.word(list, name, ""), "."), "t")
}

// scanner walks through the text of a deck.
type scanner struct {
	deck *deck
	text string
	pos  int
	base int // offset of text in the deck's text
	line int
}

func (s *scanner) end() bool { return s.pos >= len(s.text) }

func (s *scanner) peek() byte { return s.text[s.pos] }

func (s *scanner) step() {
	if s.text[s.pos] == '\n' {
		s.line++
	}
	s.pos++
}

func (s *scanner) skipLine() {
	for !s.end() && s.peek() != '\n' {
		s.pos++
	}
}

// blank skips blanks, newlines, the given separators and comments.
func (s *scanner) blank(separators string) {
	for !s.end() {
		switch c := s.peek(); {
		case c == '!':
			s.skipLine()
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || strings.IndexByte(separators, c) >= 0:
			s.step()
		default:
			return
		}
	}
}

// namelist reads the next namelist, skipping lines before it as Fortran does,
// but stops before a card.
func (s *scanner) namelist() bool {
	for {
		start, line := s.pos, s.line
		s.blank("")
		if s.end() {
			return false
		}
		if s.peek() == '&' {
			break
		}
		if isCard(s.currentLine()) {
			s.pos, s.line = start, line
			return false
		}
		s.skipLine()
	}
	s.step()
	n := &namelist{line: s.line, name: strings.ToLower(s.identifier())}
	n.after = s.base + s.pos
	s.deck.namelists = append(s.deck.namelists, n)
	for s.assignment(n) {
	}
	if !n.closed {
		s.deck.problem(n.line, "namelist &"+strings.ToUpper(n.name)+" is not closed", "there is no line with a slash", "end it with a line that has only /")
	}
	return true
}

// maxAhead bounds how far the scanner looks ahead, so that a line of any length
// takes time in proportion to it.
const maxAhead = 256

// currentLine is the beginning of the rest of the line.
func (s *scanner) currentLine() string {
	line, _, _ := strings.Cut(s.text[s.pos:min(s.pos+maxAhead, len(s.text))], "\n")
	return line
}

// isCard recognises the head of a card. OCCUPATIONS is one too, and a variable:
// then an equals sign follows.
func isCard(line string) bool {
	line = strings.TrimSpace(line)
	n := 0
	for n < len(line) && (isLetter(line[n]) || line[n] == '_') {
		n++
	}
	rest := strings.TrimLeft(line[n:], " \t")
	return !strings.HasPrefix(rest, "=") && slices.Contains(cardNames, strings.ToUpper(line[:n]))
}

func (s *scanner) identifier() string {
	start := s.pos
	for !s.end() && (isLetter(s.peek()) || printed.IsDigit(s.peek()) || s.peek() == '_') {
		s.pos++
	}
	return s.text[start:s.pos]
}

// assignment reads one name = values; it returns false at the end of the
// namelist.
func (s *scanner) assignment(n *namelist) bool {
	s.blank(",")
	if s.end() {
		return false
	}
	switch s.peek() {
	case '/':
		s.step()
		s.skipLine()
		n.closed = true
		return false
	case '&':
		if strings.HasPrefix(strings.ToLower(s.currentLine()), "&end") {
			s.skipLine()
			n.closed = true
		}
		return false
	}
	if isCard(s.currentLine()) {
		return false
	}
	v := variable{line: s.line, start: s.base + s.pos}
	v.name = strings.ToLower(s.identifier())
	s.inline()
	if v.name != "" && !s.end() && s.peek() == '(' {
		v.index = s.bracket()
		s.inline()
	}
	if v.name == "" || s.end() || s.peek() != '=' {
		s.deck.problem(s.line, "this line cannot be read", strings.TrimSpace(clip([]byte(s.lineAt(v.start-s.base)))), "write NAME = VALUE, one on a line")
		s.skipLine()
		return true
	}
	s.step()
	s.values(&v)
	v.end = s.base + s.pos
	n.vars = append(n.vars, v)
	return true
}

// lineAt returns the line of an offset.
func (s *scanner) lineAt(at int) string {
	from := strings.LastIndexByte(s.text[:at], '\n') + 1
	line, _, _ := strings.Cut(s.text[from:], "\n")
	return line
}

// inline skips blanks within a line.
func (s *scanner) inline() {
	for !s.end() && (s.peek() == ' ' || s.peek() == '\t') {
		s.pos++
	}
}

func (s *scanner) bracket() string {
	s.pos++
	start := s.pos
	for !s.end() && s.peek() != ')' && s.peek() != '\n' && s.pos < start+maxAhead {
		s.pos++
	}
	inside := s.text[start:s.pos]
	if !s.end() && s.peek() == ')' {
		s.pos++
	}
	return strings.ReplaceAll(strings.ReplaceAll(inside, " ", ""), "\t", "")
}

// values reads up to the next assignment, slash or card. The position is left
// behind the last value and a comma after it.
func (s *scanner) values(v *variable) {
	for {
		pos, line := s.pos, s.line
		s.blank("")
		if s.end() || s.peek() == '/' || s.peek() == '&' || s.startsAssignment() || isCard(s.currentLine()) {
			s.pos, s.line = pos, line
			if len(v.values) == 0 {
				s.deck.problem(v.line, v.name+" has no value", "", "give a value, or remove the line")
			}
			return
		}
		if len(v.values) > 0 && isWord(s.currentLine()) {
			s.pos, s.line = pos, line
			return
		}
		at := s.line
		text := s.value()
		if isWord(text) {
			s.deck.problem(at, "the text "+clip([]byte(text))+" needs quotes", "", "write "+v.name+" = "+quoted(text))
		}
		v.values = append(v.values, text)
		s.inline()
		if !s.end() && s.peek() == ',' {
			s.pos++
		}
	}
}

// isWord reports whether text begins with a word that is neither a number nor
// a logical value.
func isWord(text string) bool {
	if text == "" || !isLetter(text[0]) {
		return false
	}
	word, _, _ := strings.Cut(strings.ToLower(text), " ")
	return !slices.Contains([]string{"t", "f", "true", "false", "nan", "inf", "infinity"}, strings.TrimRight(word, ",\r\t/"))
}

func (s *scanner) value() string {
	start := s.pos
	if c := s.peek(); c == '\'' || c == '"' {
		s.pos++
		for !s.end() && s.peek() != '\n' {
			if s.peek() == c {
				s.pos++
				if s.end() || s.peek() != c {
					return s.text[start:s.pos]
				}
			}
			s.pos++
		}
		s.deck.problem(s.line, "a quote is not closed", strings.TrimSpace(s.text[start:s.pos]), "close the quote on the same line")
		return s.text[start:s.pos]
	}
	for !s.end() && !strings.ContainsRune(" \t\r\n,/!", rune(s.peek())) {
		s.pos++
	}
	if s.pos == start {
		s.pos++
	}
	return s.text[start:s.pos]
}

// startsAssignment looks ahead for NAME = or NAME(INDEX) =.
func (s *scanner) startsAssignment() bool {
	pos := s.pos
	defer func() { s.pos = pos }()
	if !isLetter(s.peek()) || s.identifier() == "" {
		return false
	}
	s.inline()
	if !s.end() && s.peek() == '(' {
		s.bracket()
		s.inline()
	}
	return !s.end() && s.peek() == '='
}

// cards reads what follows the namelists.
func (s *scanner) cards() {
	var c *card
	for !s.end() {
		text, _, _ := strings.Cut(s.text[s.pos:], "\n")
		line := s.line
		s.pos = min(s.pos+len(text)+1, len(s.text))
		s.line++
		text = strings.TrimRight(text, "\r")
		if i := strings.IndexAny(text, "!#"); i >= 0 {
			text = text[:i]
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if isCard(text) {
			c = newCard(text, line)
			s.deck.cards = append(s.deck.cards, c)
			continue
		}
		switch {
		case c == nil && text[0] == '&':
			s.deck.problem(line, "a namelist after the first card is not read", clip([]byte(text)), "move it before the cards")
		case c != nil && len(c.rows) < maxAtoms*2:
			c.rows = append(c.rows, row{line, strings.Fields(text)})
		}
	}
}

func newCard(text string, line int) *card {
	name := strings.ToUpper(text[:len(text)-len(strings.TrimLeft(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"))])
	option := strings.ToLower(strings.Trim(text[len(name):], " \t{}()"))
	option, _, _ = strings.Cut(option, " ")
	return &card{name: name, option: option, line: line}
}

// quoted writes a Fortran string.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// logical writes a Fortran logical.
func logical(b bool) string {
	if b {
		return ".true."
	}
	return ".false."
}

// fortran writes a real number.
func fortran(v float64) string { return fmt.Sprintf("%g", v) }
