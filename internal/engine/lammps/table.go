package lammps

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// table is the thermo output of one run or minimisation, in the units of the
// run. It keeps at most maxRows evenly spaced rows and always the last one.
type table struct {
	columns []string
	rows    [][]float64
	lines   []int // of the kept rows
	count   int   // rows that were printed
	last    []float64
	lastAt  int
	stride  int
	step    int // index of the Step column; -1 when there is none
	// bad is the first row in which a thermodynamic quantity is not finite.
	bad *badValue
}

// badValue is a NaN or an infinity in the output.
type badValue struct {
	column string
	value  float64
	step   int64
	line   int
}

// maxRows bounds the rows kept of one table: more than a plot can show.
const maxRows = 4096

func newTable(columns []string) *table {
	return &table{columns: columns, stride: 1, step: slices.Index(columns, "Step")}
}

// add takes a row if it can be one: as many numbers as columns, and a step that
// does not fall back.
func (t *table) add(row []float64, line int) bool {
	if len(row) != len(t.columns) {
		return false
	}
	if t.step >= 0 {
		s := row[t.step]
		if s != math.Trunc(s) || t.last != nil && s <= t.last[t.step] {
			return false
		}
	}
	t.note(row, line)
	if t.count%t.stride == 0 {
		t.rows, t.lines = append(t.rows, row), append(t.lines, line)
	}
	t.count++
	t.last, t.lastAt = row, line
	if len(t.rows) >= maxRows {
		t.thin()
	}
	return true
}

// note remembers the first row that cannot be believed. Columns of the user's
// own (c_, v_, f_) may be undefined without harm.
func (t *table) note(row []float64, line int) {
	if t.bad != nil {
		return
	}
	for i, v := range row {
		if (math.IsNaN(v) || math.IsInf(v, 0)) && dimensionOf(t.columns[i]) != dimUser {
			t.bad = &badValue{column: t.columns[i], value: v, step: t.stepOf(row), line: line}
			return
		}
	}
}

// thin drops every second row.
func (t *table) thin() {
	n := 0
	for i := 0; i < len(t.rows); i += 2 {
		t.rows[n], t.lines[n] = t.rows[i], t.lines[i]
		n++
	}
	clear(t.rows[n:])
	t.rows, t.lines = t.rows[:n], t.lines[:n]
	t.stride *= 2
}

// all returns the kept rows, the last one included.
func (t *table) all() [][]float64 {
	if n := len(t.rows); n > 0 && &t.rows[n-1][0] != &t.last[0] {
		return append(slices.Clip(t.rows), t.last)
	}
	return t.rows
}

func (t *table) stepOf(row []float64) int64 {
	if t.step < 0 || row == nil || math.Abs(row[t.step]) > 1<<53 {
		return 0
	}
	return int64(row[t.step])
}

func (t *table) firstStep() int64 {
	if len(t.rows) == 0 {
		return 0
	}
	return t.stepOf(t.rows[0])
}

func (t *table) lastStep() int64 { return t.stepOf(t.last) }

// value is the number of a row in the first of the named columns that exists.
func (t *table) value(row []float64, names ...string) (float64, bool) {
	for _, name := range names {
		if i := slices.Index(t.columns, name); i >= 0 && i < len(row) {
			return row[i], true
		}
	}
	return 0, false
}

// parseNumber reads what LAMMPS prints for a number, "-nan" included.
func parseNumber(s string) (float64, bool) {
	if len(s) == 0 || len(s) > 64 {
		return 0, false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '+', c == '-', c == '.', (c == 'e' || c == 'E') && i > 0:
		default:
			return parseNonFinite(s)
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil || math.IsInf(v, 0)
}

func parseNonFinite(s string) (float64, bool) {
	switch strings.ToLower(strings.TrimLeft(s, "+-.")) {
	case "nan", "nan(ind)", "1.#qnan", "1.#ind":
		return math.NaN(), true
	case "inf", "infinity", "1.#inf":
		return math.Inf(1 - 2*strings.Count(s[:1], "-")), true
	}
	return 0, false
}

// parseRow reads a line of exactly n numbers; nil when it is anything else.
func parseRow(fields []string, n int) []float64 {
	if len(fields) != n {
		return nil
	}
	row := make([]float64, n)
	for i, f := range fields {
		v, ok := parseNumber(f)
		if !ok {
			return nil
		}
		row[i] = v
	}
	return row
}

// isHeader reports whether the words can be the names of thermo columns.
func isHeader(fields []string) bool {
	for _, f := range fields {
		if _, number := parseNumber(f); number || strings.ContainsAny(f, "=:\"'") {
			return false
		}
	}
	return len(fields) > 0
}
