package qe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Bounds of one XML file: what lies beyond is skipped, not read.
const (
	maxXMLText  = 2 << 20 // of one element: the forces on 25,000 atoms
	maxXMLTag   = 16 << 10
	maxXMLDepth = 64
)

// pullReader reads the elements of an XML file one by one. It asks less of the
// bytes than a general reader: pw.x writes titles in any encoding, and a run
// that was killed leaves a file cut anywhere.
type pullReader struct {
	r     *bufio.Reader
	path  []byte // names of the open elements below the root, with slashes
	ends  []int  // where each name begins in path
	attrs []byte // of the element just opened
	text  []byte // since the last tag
	keep  bool   // whether text is wanted
	self  bool   // an empty element <a/> was opened and must be closed
}

func newPullReader(r io.Reader) *pullReader {
	return &pullReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// event is an opened or a closed element; path and text of the reader are
// those of that element until the next call.
type event int

const (
	opened event = iota + 1
	closed
)

var errDepth = errors.New("elements are nested too deeply")

// next returns the next event, and io.EOF at the end of what is there. After a
// closed event the element is still part of path.
func (p *pullReader) next() (event, error) {
	if p.self {
		p.self = false
		p.text = p.text[:0]
		return closed, nil
	}
	for {
		if err := p.readText(); err != nil {
			return 0, err
		}
		tag, err := p.readTag()
		if err != nil {
			return 0, err
		}
		switch {
		case len(tag) == 0 || tag[0] == '?' || tag[0] == '!':
			continue
		case tag[0] == '/':
			return closed, nil
		}
		name, attrs := tag, []byte(nil)
		if i := bytes.IndexAny(tag, " \t\r\n/"); i >= 0 {
			name, attrs = tag[:i], tag[i:]
		}
		if p.self = bytes.HasSuffix(tag, []byte("/")); p.self {
			attrs = bytes.TrimSuffix(attrs, []byte("/"))
		}
		if len(p.ends) == maxXMLDepth {
			return 0, errDepth
		}
		p.ends = append(p.ends, len(p.path))
		if len(p.path) > 0 {
			p.path = append(p.path, '/')
		}
		p.path = append(p.path, name...)
		p.attrs = append(p.attrs[:0], attrs...)
		p.text = p.text[:0]
		return opened, nil
	}
}

// pop leaves the element that was closed.
func (p *pullReader) pop() {
	if n := len(p.ends); n > 0 {
		p.path, p.ends = p.path[:p.ends[n-1]], p.ends[:n-1]
	}
	p.text = p.text[:0]
}

// readText reads up to the next tag.
func (p *pullReader) readText() error {
	for {
		chunk, err := p.r.ReadSlice('<')
		switch {
		case !p.keep:
		case len(p.text)+len(chunk) > maxXMLText:
			p.text, p.keep = p.text[:0], false // a part of it would be another number
		default:
			p.text = append(p.text, bytes.TrimSuffix(chunk, []byte("<"))...)
		}
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// readTag reads a tag without its brackets, and skips a comment whole. The part
// of a tag that is too long is dropped.
func (p *pullReader) readTag() ([]byte, error) {
	var tag []byte
	for {
		chunk, err := p.r.ReadSlice('>')
		if len(tag)+len(chunk) <= maxXMLTag {
			tag = append(tag, chunk...)
		}
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			return nil, err
		}
		if bytes.HasPrefix(tag, []byte("!--")) && !bytes.HasSuffix(chunk, []byte("-->")) {
			continue
		}
		return bytes.TrimSuffix(tag, []byte(">")), nil
	}
}

// attr returns an attribute of the element just opened.
func (p *pullReader) attr(name string) string {
	rest := p.attrs
	for {
		i := bytes.Index(rest, []byte(name+"="))
		if i < 0 {
			return ""
		}
		before := i == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[i-1]) >= 0
		rest = rest[i+len(name)+1:]
		if !before || len(rest) == 0 {
			continue
		}
		value, _, ok := bytes.Cut(rest[1:], rest[:1])
		if !ok {
			return ""
		}
		return string(value)
	}
}
