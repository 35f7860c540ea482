package main

import (
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// summaryFields are the numbers of a result with their names and units, in the
// order of the type.
func (c *cells) summaryFields(s *engine.Summary) []field {
	if s == nil {
		return nil
	}
	v := reflect.ValueOf(s).Elem()
	var out []field
	for _, f := range reflect.VisibleFields(v.Type()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		name, unit := unitOf(key)
		text := c.summaryValue(v.FieldByIndex(f.Index), unit)
		if key == "program" {
			text = strings.TrimSpace(text + " " + s.ProgramVersion)
		}
		if text == "" || key == "program_version" {
			continue
		}
		if strings.HasPrefix(key, "n_") {
			name = "number of " + strings.TrimPrefix(name, "n ")
		}
		if key == "natoms" {
			name = "number of atoms"
		}
		out = append(out, field{name: name, value: strings.TrimSpace(text + " " + c.unit(unit))})
	}
	return out
}

func (c *cells) summaryValue(v reflect.Value, unit string) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case string:
		return x
	case bool:
		if x {
			return "yes"
		}
		return "no"
	case int, int64:
		return fmt.Sprint(x)
	case float64:
		if unit == "" {
			return trimNumber(x) // a count that need not be whole
		}
		return number(x)
	case engine.Voigt:
		parts := make([]string, len(x))
		for i, n := range x {
			parts[i] = number(n)
		}
		return strings.Join(parts, " ")
	case map[string]float64:
		var parts []string
		for _, k := range sortedKeys(x) {
			parts = append(parts, k+" "+number(x[k]))
		}
		return strings.Join(parts, ", ")
	}
	return ""
}

// verdictWords is a verdict for people; a run that ended well without
// converging is never worded as a success.
func verdictWords(state job.State, v job.Verdict) string {
	switch {
	case state == job.Completed && v == job.NotConverged:
		return "finished, not converged"
	case v == job.NotConverged:
		return "not converged"
	case v == "":
		return ""
	}
	return string(v)
}

func verdictTone(v job.Verdict) tone {
	switch v {
	case job.Converged:
		return green
	case job.NotConverged, job.Unstable:
		return yellow
	}
	return plain
}

// writeFailure says what broke, what that rests on, and what to do.
func writeFailure(w io.Writer, s screen, f *job.Failure) {
	if f == nil {
		return
	}
	how := fmt.Sprintf("%s (%s)", f.Code, f.Class)
	if f.Signal != "" {
		how += ", ended by " + f.Signal
	} else if f.Exit != 0 {
		how += fmt.Sprintf(", exit status %d", f.Exit)
	}
	fmt.Fprintf(w, "\n%s %s\n", s.paint(red, "failure:"), oneLine(f.Message))
	writePart(w, s, "why", how)
	for _, e := range f.Evidence {
		where := e.File
		if e.Line > 0 {
			where += fmt.Sprintf(":%d", e.Line)
		}
		writePart(w, s, "see", where+"  "+strings.TrimSpace(e.Text))
	}
	writePart(w, s, "fix", f.Fix)
}

func writeWarnings(w io.Writer, s screen, warnings []engine.Warning) {
	for i, warn := range warnings {
		if i == maxProblems {
			fmt.Fprintf(w, "  and %d more warnings\n", len(warnings)-i)
			return
		}
		e := &job.Error{Message: warn.Message, Fix: warn.Fix, Code: "warning"}
		if warn.File != "" {
			e.Why = warn.File
			if warn.Line > 0 {
				e.Why += fmt.Sprintf(" line %d", warn.Line)
			}
		}
		writeError(w, s, "warning", e, nil)
	}
}

// leadingQuantities are what people look at first in a series, in this order.
var leadingQuantities = []string{"accuracy", "energy", "TotEng", "PotEng", "Temp"}

// leadingSeries is what one small plot shows of a result: the relaxation if
// there is one, else the first series with at least three points.
func leadingSeries(all []engine.Series) (title string, x, y []float64) {
	var best *engine.Series
	for i := range all {
		s := &all[i]
		if len(s.Columns) > 1 && len(s.Columns[0].Values) >= 3 && (best == nil || s.Name == "ionic") {
			best = s
		}
	}
	if best == nil {
		return "", nil, nil
	}
	lead := leadingColumn(best)
	for _, col := range best.Columns {
		if col.Name == best.X {
			x = col.Values
		}
	}
	title = lead.Name
	if lead.Unit != "" {
		title += " (" + lead.Unit + ")"
	}
	return title + " by " + best.X, x, lead.Values
}

func leadingColumn(s *engine.Series) engine.Column {
	for _, name := range leadingQuantities {
		for _, col := range s.Columns {
			if col.Name == name {
				return col
			}
		}
	}
	for _, col := range s.Columns {
		if col.Name != s.X {
			return col
		}
	}
	return s.Columns[0]
}

// plot draws y in a box of characters, with its range on the left. Values that
// span more than three decades, all positive, are drawn by their logarithm.
func plot(s screen, x, y []float64, columns, rows int) string {
	low, high, any := bounds(y)
	if !any || columns < 10 || rows < 2 {
		return ""
	}
	scale := func(v float64) float64 { return v }
	if low > 0 && high/low > 1000 {
		scale = math.Log10
	}
	bottom, top := scale(low), scale(high)
	labels := []string{number(high), number(low)}
	margin := max(width(labels[0]), width(labels[1]))
	columns = min(columns-margin-3, max(len(y), 16))
	grid := make([][]rune, rows)
	for i := range grid {
		grid[i] = []rune(strings.Repeat(" ", columns))
	}
	point := []rune(s.glyph("•", "*"))[0]
	for i, v := range y {
		if v != v || v-v != 0 {
			continue
		}
		r := rows - 1
		if top > bottom {
			r = rows - 1 - int(math.Round((scale(v)-bottom)/(top-bottom)*float64(rows-1)))
		}
		grid[min(max(r, 0), rows-1)][i*(columns-1)/max(len(y)-1, 1)] = point
	}
	bar := s.glyph("│", "|")
	var b strings.Builder
	for i, line := range grid {
		label := ""
		if i == 0 {
			label = labels[0]
		} else if i == rows-1 && high > low {
			label = labels[1]
		}
		b.WriteString(strings.TrimRight(padLeft(label, margin)+" "+bar+" "+string(line), " ") + "\n")
	}
	if len(x) > 0 {
		first, last := trimNumber(x[0]), trimNumber(x[len(x)-1])
		fmt.Fprintf(&b, "%s   %s%s\n", strings.Repeat(" ", margin), first, padLeft(last, max(1, columns-width(first))))
	}
	return b.String()
}

func trimNumber(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return fmt.Sprintf("%.0f", v)
	}
	return number(v)
}
