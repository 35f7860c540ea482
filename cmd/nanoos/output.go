package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// formats are the values of -o.
var formats = []string{"table", "wide", "json", "jsonl", "yaml", "csv", "id"}

// column is one column of a table over rows of type T.
type column[T any] struct {
	name string // for --columns; the header in lower case
	wide bool   // shown by -o wide only
	// flex columns give way when the table is wider than the screen; names (middle) are
	// shortened in the middle, sentences at the end.
	flex   bool
	middle bool
	right  bool
	cell   func(c *cells, row *T) string
	tone   func(row *T) tone
}

// listing is the answer of a command: one document, and its rows.
type listing[T any] struct {
	doc     any // what json and yaml show
	rows    []T
	columns []column[T]
	id      func(row *T) string
	empty   string // said on standard error when there are no rows
}

// show writes a listing to standard output in the format of -o.
func show[T any](a *app, l listing[T]) error {
	switch a.opt.output {
	case "json":
		return writeJSON(a.io.out, l.doc)
	case "jsonl":
		return writeJSONLines(a.io.out, l.rows)
	case "yaml":
		return writeYAML(a.io.out, l.doc)
	case "id":
		return writeIDs(a.io.out, l.rows, l.id)
	}
	columns, err := chooseColumns(a, l.columns)
	if err != nil {
		return err
	}
	if columns == nil {
		return nil
	}
	if a.opt.output == "csv" {
		return writeCSV(a, l.rows, columns)
	}
	if len(l.rows) == 0 && l.empty != "" {
		a.note("%s", l.empty)
		return nil
	}
	s := a.outScreen()
	if a.opt.output == "wide" {
		s.width = 0 // all of it was asked for
	}
	_, err = io.WriteString(a.io.out, renderTable(a.cells(), s, l.rows, columns, !a.opt.noHeaders))
	return err
}

// writeJSON indents for people on a terminal and for programs alike: the size
// does not matter, and diffs become readable.
func writeJSON(w io.Writer, doc any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeJSONLines[T any](w io.Writer, rows []T) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range rows {
		if err := enc.Encode(rows[i]); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeYAML goes by way of JSON, so that both have the same fields in the same
// order.
func writeYAML(w io.Writer, doc any) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err = w.Write(out)
	return err
}

func writeIDs[T any](w io.Writer, rows []T, id func(*T) string) error {
	var b strings.Builder
	for i := range rows {
		b.WriteString(id(&rows[i]) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeCSV[T any](a *app, rows []T, columns []column[T]) error {
	c := a.cells()
	c.exact = true
	w := csv.NewWriter(a.io.out)
	if !a.opt.noHeaders {
		if err := w.Write(names(columns)); err != nil {
			return err
		}
	}
	record := make([]string, len(columns))
	for i := range rows {
		for j, col := range columns {
			record[j] = col.cell(c, &rows[i])
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// chooseColumns applies --columns, or takes those of the format. It prints the
// choice and returns nil for --columns help.
func chooseColumns[T any](a *app, all []column[T]) ([]column[T], error) {
	if a.opt.columns == "" {
		return visible(all, a.opt.output), nil
	}
	if a.opt.columns == "help" {
		_, err := fmt.Fprintln(a.io.out, strings.Join(names(all), "\n"))
		return nil, err
	}
	var chosen []column[T]
	for name := range strings.SplitSeq(a.opt.columns, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		i := slices.IndexFunc(all, func(c column[T]) bool { return c.name == name })
		if i < 0 {
			fix := didYouMean(name, slices.Values(names(all)))
			return nil, usage(strings.TrimSpace(fix+" All: --columns help"), "there is no column %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// visible are the columns that a format shows.
func visible[T any](all []column[T], output string) []column[T] {
	return slices.DeleteFunc(slices.Clone(all), func(c column[T]) bool { return c.wide && output == "table" })
}

func names[T any](columns []column[T]) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.name
	}
	return out
}

// renderTable lays rows out in columns two spaces apart. On a terminal the
// flexible columns give way until the table fits; elsewhere nothing is cut.
func renderTable[T any](c *cells, s screen, rows []T, columns []column[T], header bool) string {
	grid := make([][]string, 0, len(rows)+1)
	if header {
		head := make([]string, len(columns))
		for j, col := range columns {
			head[j] = strings.ToUpper(col.name)
		}
		grid = append(grid, head)
	}
	for i := range rows {
		line := make([]string, len(columns))
		for j, col := range columns {
			line[j] = oneLine(col.cell(c, &rows[i]))
		}
		grid = append(grid, line)
	}
	widths := fitColumns(grid, columns, s)
	var b strings.Builder
	for i, line := range grid {
		row := i
		if header {
			row--
		}
		var out strings.Builder
		for j, text := range line {
			if j > 0 {
				out.WriteString("  ")
			}
			text = s.shorten(text, widths[j], columns[j].middle)
			gap := strings.Repeat(" ", max(0, widths[j]-width(text)))
			painted := text
			switch {
			case row < 0:
				painted = s.paint(dim, text)
			case columns[j].tone != nil:
				painted = s.paint(columns[j].tone(&rows[row]), text)
			}
			if columns[j].right {
				out.WriteString(gap + painted)
			} else {
				out.WriteString(painted + gap)
			}
		}
		b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
	}
	return b.String()
}

// fitColumns is the width of each column.
func fitColumns[T any](grid [][]string, columns []column[T], s screen) []int {
	widths := make([]int, len(columns))
	for _, line := range grid {
		for j, text := range line {
			widths[j] = max(widths[j], width(text))
		}
	}
	if s.width == 0 {
		return widths
	}
	total := 2 * (len(columns) - 1)
	for _, w := range widths {
		total += w
	}
	// The widest flexible column gives way first, down to a width at which its
	// content still means something.
	const least = 8
	for total > s.width {
		widest := -1
		for j, col := range columns {
			if col.flex && widths[j] > least && (widest < 0 || widths[j] > widths[widest]) {
				widest = j
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// field is one line of the long form of an object.
type field struct {
	name, value string
	tone        tone
}

// renderFields lays out names and values; absent values are left out.
func renderFields(s screen, fields []field) string {
	longest := 0
	for _, f := range fields {
		if f.value != "" {
			longest = max(longest, width(f.name))
		}
	}
	var b strings.Builder
	for _, f := range fields {
		if f.value == "" {
			continue
		}
		fmt.Fprintf(&b, "%s  %s\n", s.paint(dim, pad(f.name, longest)), s.paint(f.tone, oneLine(f.value)))
	}
	return b.String()
}
