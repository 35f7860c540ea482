package lammps

import (
	"strings"
	"unicode"
)

// script is an input script as far as it can be known without running it:
// loops and conditions are not followed.
type script struct {
	name     string
	commands []command
	// unclosed is the line of a quote that nothing closes; 0 when all are.
	unclosed int
	// vars are the values of variables that have one from the text alone.
	vars map[string]string
}

// command is one command with its arguments, after the values of variables
// took their places.
type command struct {
	name string
	args []string
	line int
	// open says that an argument holds a variable whose value is only known in
	// the run.
	open bool
}

const (
	maxScript = 4 << 20 // bytes of a script that are looked at
	maxValue  = 1000    // bytes of a variable, so that those made of others cannot explode
)

// parseScript reads a script: "&" joins lines, "#" begins a comment, quotes of
// one, two and three marks keep words together.
func parseScript(name string, data []byte) *script {
	s := &script{name: name, vars: make(map[string]string)}
	text := strings.TrimPrefix(strings.ToValidUTF8(string(data[:min(len(data), maxScript)]), "\uFFFD"), "\ufeff")
	line, first, quotes := 0, 0, 0
	var joined strings.Builder
	for l := range strings.Lines(text) {
		line++
		l = strings.TrimRightFunc(l, unicode.IsSpace)
		if joined.Len() == 0 {
			first = line
		}
		head, goesOn := strings.CutSuffix(l, "&")
		quotes += strings.Count(head, `"""`)
		joined.WriteString(head)
		joined.WriteByte(' ')
		if (goesOn || quotes%2 == 1) && joined.Len() < maxLine {
			continue
		}
		s.add(joined.String(), first)
		joined.Reset()
		quotes = 0
	}
	if joined.Len() > 0 {
		s.add(joined.String(), first)
	}
	return s
}

func (s *script) add(text string, line int) {
	words, closed := splitWords(text)
	if !closed && s.unclosed == 0 {
		s.unclosed = line
	}
	if len(words) == 0 {
		return
	}
	c := command{line: line}
	for i, w := range words {
		v := w.text
		if !w.quoted {
			var known bool
			if v, known = s.expand(v); !known {
				c.open = true
			}
		}
		if i == 0 {
			c.name = v
			continue
		}
		c.args = append(c.args, v)
	}
	s.define(c)
	s.commands = append(s.commands, c)
}

// define remembers variables whose value stands in the script.
func (s *script) define(c command) {
	if c.name != "variable" || len(c.args) < 2 {
		return
	}
	name, style := c.args[0], c.args[1]
	switch {
	case style == "delete", c.open, len(c.args) < 3, len(c.args[2]) > maxValue:
		delete(s.vars, name)
	case style == "index", style == "string":
		s.vars[name] = c.args[2]
	case style == "equal":
		delete(s.vars, name)
		if _, number := parseNumber(c.args[2]); number && len(c.args) == 3 {
			s.vars[name] = c.args[2]
		}
	default:
		delete(s.vars, name)
	}
}

// expand puts the values of $x and ${name} into a word; known is false when one
// is not known before the run.
func (s *script) expand(w string) (out string, known bool) {
	known = true
	var b strings.Builder
	for {
		i := strings.IndexByte(w, '$')
		if i < 0 || i+1 == len(w) {
			b.WriteString(w)
			return b.String(), known
		}
		b.WriteString(w[:i])
		name, end := w[i+1:i+2], i+2
		switch w[i+1] {
		case '{':
			brace := strings.IndexByte(w[i:], '}')
			if brace < 0 {
				b.WriteString(w[i:])
				return b.String(), false
			}
			name, end = w[i+2:i+brace], i+brace+1
		case '(':
			b.WriteString(w[i:])
			return b.String(), false
		}
		v, ok := s.vars[name]
		if !ok {
			v, known = w[i:end], false
		}
		b.WriteString(v)
		w = w[end:]
	}
}

type word struct {
	text   string
	quoted bool
}

// splitWords cuts a joined line into words; closed is false when a quote is
// left open.
func splitWords(s string) (words []word, closed bool) {
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if s == "" || s[0] == '#' {
			return words, true
		}
		quote := ""
		switch {
		case strings.HasPrefix(s, `"""`):
			quote = `"""`
		case s[0] == '"', s[0] == '\'':
			quote = s[:1]
		}
		if quote == "" {
			end := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '#' })
			if strings.HasPrefix(s, "$(") {
				end = expressionEnd(s)
			}
			if end < 0 {
				return append(words, word{s, false}), true
			}
			words = append(words, word{s[:end], false})
			s = s[end:]
			continue
		}
		text, rest, ok := strings.Cut(s[len(quote):], quote)
		words = append(words, word{text, true})
		if !ok {
			return words, false
		}
		s = rest
	}
}

// expressionEnd finds the end of a word that begins with "$(": blanks may stand
// inside the parentheses.
func expressionEnd(s string) int {
	depth := 0
	for i, r := range s {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case unicode.IsSpace(r) && depth <= 0:
			return i
		}
	}
	return -1
}
