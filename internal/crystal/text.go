package crystal

import (
	"math"
	"strconv"
	"strings"
)

// MaxFileSize bounds the text of one structure file. A million sites in the
// widest usual format are 60 MB.
const MaxFileSize = 64 << 20

// open checks what all readers check and returns the text without a byte order
// mark.
func open(data []byte, format string) (string, error) {
	if len(data) > MaxFileSize {
		return "", failf(0, 0, "the file has %d bytes, more than the %d that a %s file may have", len(data), MaxFileSize, format)
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	if i := strings.IndexByte(text, 0); i >= 0 {
		line := 1 + strings.Count(text[:i], "\n")
		return "", failf(line, i-strings.LastIndexByte(text[:i], '\n'), "the file is not a text: it has a zero byte")
	}
	if strings.TrimSpace(text) == "" {
		return "", failf(1, 1, "the file is empty")
	}
	return text, nil
}

// lines walks through a text whose lines end in LF, CRLF or CR.
type lines struct {
	rest string
	n    int // number of the line that next returned last
}

// next returns the next line; false at the end of the text.
func (l *lines) next() (string, bool) {
	if l.rest == "" {
		return "", false
	}
	l.n++
	end := strings.IndexAny(l.rest, "\n\r")
	if end < 0 {
		line := l.rest
		l.rest = ""
		return line, true
	}
	line, skip := l.rest[:end], 1
	if strings.HasPrefix(l.rest[end:], "\r\n") {
		skip = 2
	}
	l.rest = l.rest[end+skip:]
	return line, true
}

// peek returns the next line without taking it.
func (l *lines) peek() (string, bool) {
	ahead := *l
	return ahead.next()
}

// word is one word of a line and its column.
type word struct {
	text   string
	column int // 1-based
}

// words appends the words of a line to buf, which callers reuse; no more than
// its capacity, so a line of a million words costs nothing.
func words(line string, buf []word) []word {
	buf = buf[:0]
	for i := 0; i < len(line) && len(buf) < cap(buf); {
		if isBlank(line[i]) {
			i++
			continue
		}
		start := i
		for i < len(line) && !isBlank(line[i]) {
			i++
		}
		buf = append(buf, word{line[start:i], start + 1})
	}
	return buf
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' || c == '\f' }

// parseNumber reads a finite decimal number, with a Fortran exponent (1.0D-3)
// if need be; no hexadecimal, no "nan", no "inf".
func parseNumber(s string) (float64, bool) {
	fortran := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
		case c == 'd' || c == 'D':
			fortran = true
		default:
			return 0, false
		}
	}
	if fortran {
		s = strings.NewReplacer("d", "e", "D", "e").Replace(s)
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil && !math.IsInf(x, 0)
}

// parseVector reads three numbers at the start of a line.
func parseVector(w []word) (v Vector, bad int, ok bool) {
	for k := range 3 {
		if k >= len(w) {
			return v, k, false
		}
		if v[k], ok = parseNumber(w[k].text); !ok {
			return v, k, false
		}
	}
	return v, 0, true
}

// vectorProblem says why a line is not three numbers.
func (ps *problems) vectorProblem(line int, w []word, bad int, what string) {
	if bad >= len(w) {
		ps.at(line, 0, "%s needs three numbers, the line has %d", what, bad)
		return
	}
	ps.at(line, w[bad].column, "%s is not a finite number (%s)", quote(w[bad].text), what)
}

// nearest returns the known word that a mistyped one most likely meant, "" if
// none is within one edit in three letters.
func nearest(word string, known []string) string {
	if len(word) > maxLabel {
		return ""
	}
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements that turn a
// into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
