package crystal

import "strings"

// cifKind is what a token of a CIF is.
type cifKind int

const (
	cifEnd    cifKind = iota
	cifData           // data_name
	cifLoop           // loop_
	cifSave           // save_name or save_
	cifTag            // _name
	cifBare           // a value without quotes
	cifQuoted         // a value in quotes or a text block
)

// cifToken is a piece of a CIF and where it begins. For a tag the text is in
// lower case with "." replaced by "_", so that the names of the old and of the
// new dictionaries agree; for data_ and save_ it is the name.
type cifToken struct {
	kind   cifKind
	text   string
	line   int
	column int
}

// isValue reports whether t is a value of any form.
func (t cifToken) isValue() bool { return t.kind == cifBare || t.kind == cifQuoted }

// unknown reports whether the value is ? (not known) or . (does not apply).
func (t cifToken) unknown() bool { return t.kind == cifBare && (t.text == "?" || t.text == ".") }

// cifScanner cuts a CIF 1.1 into tokens. It needs no memory but the text.
type cifScanner struct {
	text      string
	at        int
	line      int
	lineStart int
}

func newCIFScanner(text string) *cifScanner { return &cifScanner{text: text, line: 1} }

// next returns the next token; after the last one, cifEnd.
func (s *cifScanner) next() (cifToken, error) {
	s.skipBlank()
	t := cifToken{line: s.line, column: s.at - s.lineStart + 1}
	if s.at >= len(s.text) {
		return t, nil
	}
	switch c := s.text[s.at]; {
	case c == ';' && s.at == s.lineStart:
		return s.textBlock(t)
	case c == '\'' || c == '"':
		return s.quoted(t, c)
	}
	start := s.at
	for s.at < len(s.text) && !isSpace(s.text[s.at]) {
		s.at++
	}
	return classify(t, s.text[start:s.at]), nil
}

// skipBlank moves past white space and comments.
func (s *cifScanner) skipBlank() {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '#':
			s.at = s.lineEnd()
		case isSpace(c):
			s.step()
		default:
			return
		}
	}
}

// step moves over one byte, or over a CRLF, and counts lines.
func (s *cifScanner) step() {
	c := s.text[s.at]
	s.at++
	if c == '\r' && s.at < len(s.text) && s.text[s.at] == '\n' {
		s.at++
	}
	if c == '\n' || c == '\r' {
		s.line++
		s.lineStart = s.at
	}
}

func (s *cifScanner) lineEnd() int {
	if n := strings.IndexAny(s.text[s.at:], "\n\r"); n >= 0 {
		return s.at + n
	}
	return len(s.text)
}

// textBlock reads from a semicolon that begins a line to the next one that does.
func (s *cifScanner) textBlock(t cifToken) (cifToken, error) {
	s.at++
	start := s.at
	for s.at < len(s.text) {
		if s.text[s.at] == ';' && s.at == s.lineStart {
			t.kind, t.text = cifQuoted, s.text[start:s.at]
			s.at++
			return t, nil
		}
		s.step()
	}
	return t, failf(t.line, t.column, "the text block that begins here has no end: a line that starts with a semicolon")
}

// quoted reads to the quote that white space follows: 'a dog's life' is one
// value.
func (s *cifScanner) quoted(t cifToken, quote byte) (cifToken, error) {
	end := s.lineEnd()
	for i := s.at + 1; i < end; i++ {
		if s.text[i] == quote && (i+1 == end || isSpace(s.text[i+1])) {
			t.kind, t.text = cifQuoted, s.text[s.at+1:i]
			s.at = i + 1
			return t, nil
		}
	}
	return t, failf(t.line, t.column, "the quote that begins here does not end on its line")
}

func classify(t cifToken, word string) cifToken {
	switch {
	case word[0] == '_':
		t.kind, t.text = cifTag, strings.ReplaceAll(strings.ToLower(word), ".", "_")
	case hasPrefixFold(word, "data_"):
		t.kind, t.text = cifData, word[len("data_"):]
	case hasPrefixFold(word, "save_"):
		t.kind, t.text = cifSave, word[len("save_"):]
	case strings.EqualFold(word, "loop_"):
		t.kind = cifLoop
	default:
		t.kind, t.text = cifBare, word
	}
	return t
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func isSpace(c byte) bool { return isBlank(c) || c == '\n' || c == '\r' }
