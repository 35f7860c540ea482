package lammps

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
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

// decoded turns UTF-16 with a byte order mark, in which shells of Windows save
// what a program prints, into UTF-8. Other text stays as it is.
func decoded(in io.Reader) io.Reader {
	b := bufio.NewReader(in)
	switch mark, _ := b.Peek(2); string(mark) {
	case "\xff\xfe":
		return &wideReader{in: b, order: binary.LittleEndian}
	case "\xfe\xff":
		return &wideReader{in: b, order: binary.BigEndian}
	}
	return b
}

// wideReader decodes UTF-16.
type wideReader struct {
	in    *bufio.Reader
	order binary.ByteOrder
	units [2048]byte
	out   []byte // decoded, not yet handed out
}

func (w *wideReader) Read(p []byte) (int, error) {
	if len(w.out) == 0 {
		n, err := io.ReadFull(w.in, w.units[:])
		if n < 2 {
			return 0, err
		}
		units := make([]uint16, n/2)
		for i := range units {
			units[i] = w.order.Uint16(w.units[2*i:])
		}
		w.out = []byte(string(utf16.Decode(units)))
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}
