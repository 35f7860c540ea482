package vasp

import (
	"slices"

	"github.com/nano-os/nanoos/internal/engine"
)

// maxRows bounds a series: a plot shows no more, and a run of any length stays
// small in memory.
const maxRows = 5000

// table collects rows of numbers. When full it drops every other row and from
// then on keeps every second, fourth … row, and always the last.
type table struct {
	columns []engine.Column
	stride  int
	skipped int
}

func newTable(columns ...engine.Column) *table { return &table{columns: columns, stride: 1} }

func (t *table) len() int { return len(t.columns[0].Values) }

func (t *table) add(row ...float64) {
	if t.skipped > 0 {
		for i := range t.columns {
			c := &t.columns[i]
			c.Values[len(c.Values)-1] = row[i]
		}
		t.skipped = (t.skipped + 1) % t.stride
		return
	}
	if t.len() == maxRows {
		t.thin()
	}
	for i := range t.columns {
		t.columns[i].Values = append(t.columns[i].Values, row[i])
	}
	t.skipped = (t.skipped + 1) % t.stride
}

func (t *table) thin() {
	for i := range t.columns {
		v := t.columns[i].Values
		for j := range len(v) / 2 {
			v[j] = v[2*j]
		}
		t.columns[i].Values = v[:len(v)/2]
	}
	t.stride *= 2
}

// series returns the rows, without the columns that were never given.
func (t *table) series(name, title, x string) (engine.Series, bool) {
	if t == nil || t.len() == 0 {
		return engine.Series{}, false
	}
	s := engine.Series{Name: name, Title: title, X: x}
	for _, c := range t.columns {
		if c.Name == x || slices.ContainsFunc(c.Values, finite) {
			s.Columns = append(s.Columns, c)
		}
	}
	return s, true
}
