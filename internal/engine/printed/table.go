package printed

import (
	"slices"

	"github.com/nano-os/nanoos/internal/engine"
)

// MaxRows bounds a series: a plot shows no more, and a run of any length stays
// small in memory.
const MaxRows = 5000

// Table collects rows of numbers. When full it drops every other row and from
// then on keeps every second, fourth … row, and always the last.
type Table struct {
	columns []engine.Column
	stride  int
	skipped int
}

// NewTable returns an empty table.
func NewTable(columns ...engine.Column) *Table { return &Table{columns: columns, stride: 1} }

// Len is the number of rows that are kept.
func (t *Table) Len() int { return len(t.columns[0].Values) }

// Column returns the values of a column in the rows that are kept.
func (t *Table) Column(i int) []float64 { return t.columns[i].Values }

// Add adds a row, one value for each column.
func (t *Table) Add(row ...float64) {
	if t.skipped > 0 {
		for i := range t.columns {
			c := &t.columns[i]
			c.Values[len(c.Values)-1] = row[i]
		}
		t.skipped = (t.skipped + 1) % t.stride
		return
	}
	if t.Len() == MaxRows {
		t.thin()
	}
	for i := range t.columns {
		t.columns[i].Values = append(t.columns[i].Values, row[i])
	}
	t.skipped = (t.skipped + 1) % t.stride
}

func (t *Table) thin() {
	for i := range t.columns {
		v := t.columns[i].Values
		for j := range len(v) / 2 {
			v[j] = v[2*j]
		}
		t.columns[i].Values = v[:len(v)/2]
	}
	t.stride *= 2
}

// Series returns the rows, without the columns that were never given.
func (t *Table) Series(name, title, x string) (engine.Series, bool) {
	if t == nil || t.Len() == 0 {
		return engine.Series{}, false
	}
	s := engine.Series{Name: name, Title: title, X: x}
	for _, c := range t.columns {
		if c.Name == x || slices.ContainsFunc(c.Values, Finite) {
			s.Columns = append(s.Columns, c)
		}
	}
	return s, true
}
