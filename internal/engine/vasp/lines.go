package vasp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxLine bounds a line of text; the rest of a longer one is skipped. It also
// swallows a hole of zero bytes where the middle of a log was punched out.
const maxLine = 64 << 10

// lineReader reads lines without their ends.
type lineReader struct {
	r *bufio.Reader
	n int // number of the last line, from 1
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLine)}
}

// next returns the next line, valid until the next call, and whether it was
// ended by a newline; the error is io.EOF after the last.
func (l *lineReader) next() (line []byte, whole bool, err error) {
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

// skip reads to the end of the line.
func (l *lineReader) skip() (whole bool, err error) {
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
