package printed

import (
	"bytes"
	"math"
	"strconv"
)

// Number reads the Fortran number at the start of b and returns what follows
// it. Fortran writes 1.0D-05, leaves the E out of 0.123-100, glues columns as
// in -1.234-5.678, and fills a field that is too narrow with stars, which read
// as NaN like the word itself.
func Number(b []byte) (v float64, rest []byte, ok bool) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == ',') {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, b, false
	}
	if b[0] == '*' {
		return math.NaN(), bytes.TrimLeft(b, "*"), true
	}
	i := 0
	if b[0] == '+' || b[0] == '-' {
		i = 1
	}
	if i < len(b) && b[i] > '9' {
		word, n := notFinite(b[i:])
		if b[0] == '-' {
			word = -word
		}
		return word, b[i+n:], n > 0
	}
	digits := 0
	for ; i < len(b) && (IsDigit(b[i]) || b[i] == '.'); i++ {
		if IsDigit(b[i]) {
			digits++
		}
	}
	if digits == 0 {
		return 0, b, false
	}
	mantissa := b[:i]
	if i == len(b) || b[i] == ' ' {
		v, ok = parseFloat(mantissa)
		return v, b[i:], ok
	}
	exponent, n := exponent(b[i:])
	if exponent == nil {
		v, ok = parseFloat(mantissa)
		return v, b[i:], ok
	}
	var buf [64]byte
	text := append(append(append(buf[:0], mantissa...), 'e'), exponent...)
	v, ok = parseFloat(text)
	return v, b[i+n:], ok
}

// exponent finds the exponent at the start of b: E or D and digits, or a sign
// and exactly three digits, which is how Fortran writes one too large for its
// field. n is its length with the letter.
func exponent(b []byte) (digits []byte, n int) {
	i := 0
	letter := len(b) > 0 && bytes.IndexByte([]byte("eEdD"), b[0]) >= 0
	if letter {
		i = 1
	}
	start := i
	if i < len(b) && (b[i] == '+' || b[i] == '-') {
		i++
	}
	first := i
	for i < len(b) && IsDigit(b[i]) {
		i++
	}
	switch {
	case i == first:
		return nil, 0
	case letter:
		return b[start:i], i
	case first == start+1 && i-first == 3 && (i == len(b) || b[i] != '.'):
		return b[start:i], i
	}
	return nil, 0
}

func notFinite(b []byte) (float64, int) {
	for _, w := range []struct {
		text string
		v    float64
	}{{"nan", math.NaN()}, {"infinity", math.Inf(1)}, {"inf", math.Inf(1)}} {
		if len(b) >= len(w.text) && bytes.EqualFold(b[:len(w.text)], []byte(w.text)) {
			return w.v, len(w.text)
		}
	}
	return 0, 0
}

// parseFloat reads plain decimals itself: up to 15 digits and 22 places divide
// exactly, and nearly all numbers that codes write are such.
func parseFloat(b []byte) (float64, bool) {
	var mantissa uint64
	digits, places, point := 0, 0, false
	for i, c := range b {
		switch {
		case IsDigit(c):
			mantissa = mantissa*10 + uint64(c-'0')
			if digits++; point {
				places++
			}
		case c == '.' && !point:
			point = true
		case i == 0 && (c == '-' || c == '+'):
		default:
			return parseAny(b)
		}
		if digits > 15 {
			return parseAny(b)
		}
	}
	v := float64(mantissa) / powers[places]
	if len(b) > 0 && b[0] == '-' {
		v = -v
	}
	return v, digits > 0
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

func parseAny(b []byte) (float64, bool) {
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// Numbers appends the numbers of b to dst and stops at anything else.
func Numbers(b []byte, dst []float64) []float64 {
	for {
		v, rest, ok := Number(b)
		if !ok {
			return dst
		}
		dst, b = append(dst, v), rest
	}
}

// Vector reads three numbers.
func Vector(b []byte) (v [3]float64, ok bool) {
	for i := range v {
		if v[i], b, ok = Number(b); !ok {
			return v, false
		}
	}
	return v, true
}

// After returns the number that follows the first mark in line.
func After(line []byte, mark string) (float64, bool) {
	i := bytes.Index(line, []byte(mark))
	if i < 0 {
		return 0, false
	}
	v, _, ok := Number(line[i+len(mark):])
	return v, ok
}

// Count returns the whole number that follows the first mark in line.
func Count(line []byte, mark string) (int, bool) {
	v, ok := After(line, mark)
	if !ok || !(v >= 0 && v <= math.MaxInt32) {
		return 0, false
	}
	return int(v), true
}

// IsDigit reports whether c is a decimal digit.
func IsDigit(c byte) bool { return '0' <= c && c <= '9' }

// Finite reports whether v is neither NaN nor infinite.
func Finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
