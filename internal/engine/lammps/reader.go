package lammps

import (
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// reader fills a journal from a stream of output.
//
// Rows are recognised by the header of their table and never by position: other
// lines (warnings, halts, output of print) may stand between them.
type reader struct {
	j     *journal
	lines lineWriter
	file  string // the file being read
	line  int

	open    *block // the table that rows go to
	form    tableForm
	expect  bool            // a header comes next
	partial strings.Builder // a command that goes on in the next line
	words   []float64
	names   []string
	at      int // line of the multi or statistics block being read

	stats      *minimisation // the statistics being read
	energyNext bool          // the next line has the energies
	minimising bool          // the terminal announced a minimisation
	current    *ask
	variable   string // the last command held a variable: its substitution follows
	skip       bool   // the next line is the output of print
}

type tableForm int

const (
	formLine tableForm = iota
	formMulti
	formYAML
)

func newReader(file string) *reader {
	r := &reader{file: file, j: &journal{file: file, periodic: [3]bool{true, true, true}}}
	r.lines.line = r.text
	return r
}

func (r *reader) Write(p []byte) (int, error) { return r.lines.Write(p) }

// finish ends the stream.
func (r *reader) finish() *journal {
	r.lines.Flush()
	r.endMulti(false)
	return r.j
}

// text takes one line. A line without its end may have lost numbers, so it is
// only searched for messages.
func (r *reader) text(s string, whole bool) {
	r.line++
	trimmed := strings.TrimSpace(s)
	// Nearly all lines of a long log are rows: nothing else begins with a digit
	// and fits the open table.
	if whole && trimmed != "" && trimmed[0] >= '0' && trimmed[0] <= '9' && r.form == formLine && r.tableRow(trimmed) {
		return
	}
	if trimmed == "" || r.message(trimmed, whole) || !whole {
		return
	}
	if r.statistics(trimmed) || r.row(trimmed) {
		return
	}
	if r.open == nil || r.open.loop != nil {
		r.command(trimmed)
	}
}

// message recognises the lines that may stand anywhere.
func (r *reader) message(s string, whole bool) bool {
	j := r.j
	switch {
	case strings.HasPrefix(s, "ERROR"):
		return r.fail(s)
	case strings.HasPrefix(s, "Last command:"), strings.HasPrefix(s, "Last input line:"):
		if j.problem != nil && j.problem.command == "" {
			_, command, _ := strings.Cut(s, ":")
			j.problem.command = strings.TrimSpace(command)
		}
	case strings.HasPrefix(s, "WARNING"):
		r.warning(s)
	case strings.HasPrefix(s, "Fix halt condition"):
		j.halt = r.mark(s)
	case strings.HasPrefix(s, "LAMMPS (") && whole:
		if end := strings.LastIndexByte(s, ')'); end > 0 {
			r.banner(s[len("LAMMPS ("):end])
		}
	case strings.HasPrefix(s, "Total wall time:") && whole:
		j.end = r.mark(s)
		j.wall = clockSeconds(s[len("Total wall time:"):])
	default:
		return false
	}
	return true
}

func (r *reader) mark(s string) *mark { return &mark{r.file, r.line, s} }

// banner begins a process. Where several were appended to one file, the last is
// the run.
func (r *reader) banner(version string) {
	if r.j.version != "" {
		fresh := newReader(r.file)
		fresh.lines, fresh.line, fresh.j.file = r.lines, r.line, r.j.file
		fresh.lines.line = r.text
		*r = *fresh
		r.j.warn(engine.Warning{Code: "several_runs", Message: "the file has the output of several runs; this is the last one", File: r.file, Line: r.line})
	}
	r.j.version = version
}

// fail keeps the first error; the others are its consequences.
func (r *reader) fail(s string) bool {
	head, text, ok := strings.Cut(s, ":")
	if !ok || len(head) > 40 || head != "ERROR" && !strings.HasPrefix(head, "ERROR on ") {
		return false
	}
	if r.j.problem == nil {
		message, source := sourceOf(text)
		r.j.problem = &logError{mark: *r.mark(s), message: message, source: source}
	}
	return true
}

func (r *reader) warning(s string) {
	_, text, _ := strings.Cut(s, ":")
	message, _ := sourceOf(text)
	switch {
	case strings.HasPrefix(message, "Wall time limit reached"):
		r.j.timeout = r.mark(s)
	case strings.HasPrefix(message, "Lost atoms"):
		r.j.lost = r.mark(s)
	}
	r.j.warn(engine.Warning{Code: "lammps_warning", Message: message, File: r.file, Line: r.line})
}

// row recognises thermo output and the lines around it.
func (r *reader) row(s string) bool {
	switch {
	case strings.HasPrefix(s, "Loop time of"):
		r.endMulti(true)
		return r.endLoop(s)
	case strings.HasPrefix(s, "Per MPI rank memory allocation"), strings.HasPrefix(s, "Memory usage per processor"):
		r.expect = true
		return true
	case strings.HasPrefix(s, "----") && strings.Contains(s, " Step "):
		return r.multiHead(s)
	case strings.HasPrefix(s, "keywords:"):
		return r.yamlHead(s)
	}
	if r.tableRow(s) {
		return true
	}
	if fields := strings.Fields(s); isHeader(fields) && (r.expect || fields[0] == "Step" && len(fields) > 1) && !r.announced(fields) {
		r.begin(fields, formLine)
		return true
	}
	return false
}

// announced reports words after the memory line that are not a header but the
// markers of another style.
func (r *reader) announced(fields []string) bool {
	return fields[0] == "---" || strings.HasPrefix(fields[0], "----")
}

func (r *reader) tableRow(s string) bool {
	if r.open == nil || r.open.loop != nil {
		return false
	}
	switch r.form {
	case formMulti:
		return r.multiValues(s)
	case formYAML:
		inner, ok := strings.CutPrefix(s, "- [")
		if !ok {
			return s == "data:" || s == "..." || s == "---"
		}
		inner, ok = strings.CutSuffix(inner, "]")
		row := parseRow(commaFields(inner), len(r.open.table.columns))
		return ok && row != nil && r.open.table.add(row, r.line)
	}
	row := parseRow(strings.Fields(s), len(r.open.table.columns))
	return row != nil && r.open.table.add(row, r.line)
}

func (r *reader) begin(columns []string, form tableForm) {
	b := &block{file: r.file, table: newTable(columns), units: r.j.units, norm: r.j.norm, ask: r.current, minimise: r.minimising}
	if r.current != nil {
		b.minimise = r.current.minimise
	}
	if r.j.created == 0 {
		r.j.created = r.j.atoms
	}
	r.minimising, r.expect = false, false
	r.open, r.form = b, form
	r.j.blocks = append(r.j.blocks, b)
	r.j.keepBounded()
}

// multiHead reads "---- Step 20 ----- CPU = 0.0034 (sec) ----".
func (r *reader) multiHead(s string) bool {
	r.endMulti(true)
	fields := strings.Fields(strings.Trim(s, "- "))
	if len(fields) < 2 || fields[0] != "Step" {
		return false
	}
	step, ok := parseNumber(fields[1])
	if !ok {
		return false
	}
	r.names, r.words, r.at = []string{"Step"}, []float64{step}, r.line
	if r.open == nil || r.open.loop != nil || r.form != formMulti {
		r.begin(nil, formMulti)
	}
	if i := strings.Index(s, "CPU ="); i >= 0 {
		if f := strings.Fields(s[i+len("CPU ="):]); len(f) > 0 {
			if v, ok := parseNumber(f[0]); ok {
				r.names, r.words = append(r.names, "CPU"), append(r.words, v)
			}
		}
	}
	return true
}

// multiValues reads lines of "Name = value".
func (r *reader) multiValues(s string) bool {
	fields := strings.Fields(strings.ReplaceAll(s, "=", " = "))
	if r.words == nil || len(fields)%3 != 0 {
		return false
	}
	for i := 0; i < len(fields); i += 3 {
		v, ok := parseNumber(fields[i+2])
		if !ok || fields[i+1] != "=" || len(r.names) > 256 {
			return false
		}
		r.names, r.words = append(r.names, fields[i]), append(r.words, v)
	}
	return true
}

// endMulti turns the "Name = value" lines read so far into a row. An
// interrupted one counts only if it is as long as those before it.
func (r *reader) endMulti(followed bool) {
	if r.words == nil {
		return
	}
	names, words := r.names, r.words
	r.names, r.words = nil, nil
	if r.open == nil || r.form != formMulti {
		return
	}
	t := r.open.table
	if t.columns == nil && followed {
		*t = *newTable(names)
	}
	if len(words) == len(t.columns) {
		t.add(words, r.at)
	}
}

// yamlHead reads "keywords: ['Step', 'Temp', ]".
func (r *reader) yamlHead(s string) bool {
	_, list, _ := strings.Cut(s, "[")
	list, ok := strings.CutSuffix(strings.TrimSpace(list), "]")
	names := commaFields(list)
	if !ok || len(names) == 0 {
		return false
	}
	for i := range names {
		names[i] = strings.Trim(names[i], `'"`)
	}
	r.begin(names, formYAML)
	return true
}

// commaFields splits a YAML list, which may end with a comma.
func commaFields(s string) []string {
	var out []string
	for f := range strings.SplitSeq(s, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// endLoop reads "Loop time of 2.2 on 1 procs for 500 steps with 4000 atoms".
func (r *reader) endLoop(s string) bool {
	l := readLoop(strings.Fields(s))
	if l == nil {
		return false
	}
	if r.open == nil || r.open.loop != nil {
		r.begin([]string{"Step"}, formLine)
	}
	b := r.open
	b.loop, r.expect = l, false
	if b.ask != nil {
		if b.ask.upto {
			b.ask.steps, b.ask.upto = max(0, b.ask.steps-b.table.firstStep()), false
		}
		b.ask.done += l.steps
	}
	if l.atoms < r.j.atoms && !r.j.grand && r.j.fewer == nil {
		r.j.fewer = r.mark(s)
	}
	r.j.atoms = l.atoms
	return true
}

// readLoop is nil for a line that lacks a number or has one beyond belief.
func readLoop(fields []string) *loop {
	l := &loop{steps: -1, atoms: -1}
	for i := 1; i < len(fields); i++ {
		n, err := strconv.ParseInt(fields[i-1], 10, 64)
		switch strings.TrimSuffix(fields[i], ",") {
		case "steps":
			l.steps = n
		case "atoms":
			l.atoms = n
		default:
			continue
		}
		if err != nil || n < 0 || n > 1<<53 {
			return nil
		}
	}
	if l.steps < 0 || l.atoms < 0 {
		return nil
	}
	return l
}

// clockSeconds reads "h:mm:ss".
func clockSeconds(s string) float64 {
	total := 0.0
	for part := range strings.SplitSeq(strings.TrimSpace(s), ":") {
		v, err := strconv.ParseFloat(part, 64)
		if err != nil || !(v >= 0 && v < 1e9) {
			return 0
		}
		total = total*60 + v
	}
	return total
}
