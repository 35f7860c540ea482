// Package printed reads what simulation codes print: lines of any bytes, the
// numbers of Fortran, and series of any length that stay small.
package printed

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// MaxLine bounds a line of text; the rest of a longer one is skipped. It also
// swallows a hole of zero bytes where the middle of a log was punched out.
const MaxLine = 64 << 10

// LineReader reads lines without their ends.
type LineReader struct {
	r *bufio.Reader
	n int // number of the last line, from 1
}

// NewLineReader returns a reader of the lines of r.
func NewLineReader(r io.Reader) *LineReader {
	return &LineReader{r: bufio.NewReaderSize(r, MaxLine)}
}

// Next returns the next line, valid until the next call, and whether it was
// ended by a newline; the error is io.EOF after the last.
func (l *LineReader) Next() (line []byte, whole bool, err error) {
	line, err = l.r.ReadSlice('\n')
	switch {
	case err == nil:
		whole = true
	case errors.Is(err, bufio.ErrBufferFull):
		line = bytes.Clone(line)
		if whole, err = l.skip(); err != nil {
			return nil, false, err
		}
	case errors.Is(err, io.EOF) && len(line) > 0:
	default:
		return nil, false, err
	}
	l.n++
	line = bytes.TrimRight(line, "\r\n")
	if l.n == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return bytes.TrimLeft(line, "\x00"), whole, nil
}

// Line is the number of the last line, from 1; 0 before the first.
func (l *LineReader) Line() int { return l.n }

// skip reads to the end of the line.
func (l *LineReader) skip() (whole bool, err error) {
	for {
		_, err := l.r.ReadSlice('\n')
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, io.EOF):
			return false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return false, err
		}
	}
}
