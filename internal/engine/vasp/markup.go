package vasp

import (
	"bytes"
	"io"
)

// maxToken bounds a tag and the text before it; what is longer is damage, and
// skipped.
const maxToken = 256 << 10

// markup splits XML into tags and the text before each. It checks nothing and
// keeps nothing, so that it can read a file as fast as it comes, also one that
// is cut or damaged.
type markup struct {
	r          io.Reader
	buf        []byte
	start, end int
	ended      error
	damaged    bool
}

func newMarkup(r io.Reader) *markup { return &markup{r: r, buf: make([]byte, maxToken)} }

// next returns the next tag without its brackets and the text before it, valid
// until the next call; io.EOF after the last.
func (m *markup) next() (text, tag []byte, err error) {
	from := 0
	for {
		b := m.buf[m.start:m.end]
		if open := bytes.IndexByte(b[from:], '<'); open >= 0 {
			open += from
			if length := bytes.IndexByte(b[open:], '>'); length >= 0 {
				m.start += open + length + 1
				return b[:open], b[open+1 : open+length], nil
			}
			from = open
		} else {
			from = len(b)
		}
		if m.ended != nil {
			return nil, nil, m.ended
		}
		if m.start == 0 && m.end == len(m.buf) {
			m.damaged = true
			m.start, from = m.end, 0
		}
		m.fill()
	}
}

func (m *markup) fill() {
	if m.start > 0 {
		copy(m.buf, m.buf[m.start:m.end])
		m.start, m.end = 0, m.end-m.start
	}
	for m.end < len(m.buf) {
		n, err := m.r.Read(m.buf[m.end:])
		m.end += n
		if err != nil {
			m.ended = err
			return
		}
		if n > 0 {
			return
		}
	}
}

// tagName is the name in a tag: of "v type=..." it is "v".
func tagName(tag []byte) []byte {
	for i, c := range tag {
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '/' && i > 0 {
			return tag[:i]
		}
	}
	return tag
}

// attribute returns the value of an attribute; mark is `name="`.
func attribute(tag []byte, mark string) []byte {
	i := bytes.Index(tag, []byte(mark))
	if i < 0 {
		return nil
	}
	value, _, _ := bytes.Cut(tag[i+len(mark):], []byte{'"'})
	return bytes.TrimSpace(value)
}
