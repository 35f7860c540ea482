package lammps

import (
	"bytes"
	"strings"
)

// maxLine bounds the bytes kept of one line; the longest lines LAMMPS writes
// are thermo rows of a few hundred columns.
const maxLine = 64 << 10

// lineWriter cuts a stream into lines. Any bytes may come, cut anywhere: a line
// beyond maxLine keeps its beginning, invalid UTF-8 is replaced, and "\r\n" and a
// byte order mark are accepted.
type lineWriter struct {
	// line receives each line without its end; whole is false for the last
	// line of a stream that stopped in its middle.
	line    func(text string, whole bool)
	buf     []byte
	started bool
	cut     bool // the current line is longer than maxLine
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.keep(p)
			return n, nil
		}
		w.keep(p[:i])
		w.end(!w.cut)
		p = p[i+1:]
	}
}

// Flush hands out what follows the last line end.
func (w *lineWriter) Flush() {
	if len(w.buf) > 0 {
		w.end(false)
	}
}

func (w *lineWriter) keep(p []byte) {
	if room := maxLine - len(w.buf); len(p) > room {
		p, w.cut = p[:room], true
	}
	w.buf = append(w.buf, p...)
}

func (w *lineWriter) end(whole bool) {
	b := bytes.TrimSuffix(w.buf, []byte("\r"))
	if !w.started {
		b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
		w.started = true
	}
	w.line(strings.ToValidUTF8(string(b), "\uFFFD"), whole)
	w.buf, w.cut = w.buf[:0], false
}
