package lammps

import (
	"math"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// journal is what one log file, or the terminal output, of one LAMMPS process
// says. It is read once, as a stream, into bounded memory.
type journal struct {
	file     string
	version  string // "29 Sep 2021 - Update 2"; empty when there is no banner
	echoed   bool   // the commands of the input script are in it
	units    string // "" when not said
	norm     *bool  // thermo_modify norm, when said
	atoms    int64  // created, read or left; 0 when not said
	created  int64  // when the first run began
	tauPerLJ bool   // the performance was given in reduced time
	overview bool   // of a run in partitions: each has a log of its own

	asks   []*ask
	blocks []*block

	problem  *logError
	warnings []engine.Warning
	halt     *mark // fix halt
	timeout  *mark // timer timeout
	lost     *mark // a warning of lost atoms, which the script tolerates
	fewer    *mark // a run that ended with fewer atoms than there were, and does not say why
	end      *mark // "Total wall time"
	wall     float64
	quit     *mark // the script ended with the command quit
	status   int64 // the exit status that quit asked for

	periodic  [3]bool // from the command boundary
	bounded   bool    // boundary was given
	restarted bool    // read_restart: units come from a file
	grand     bool    // the number of atoms may change: evaporation, deposition, exchange
	dangerous int64   // dangerous neighbour list builds of the last run
	dangerAt  mark
	elements  map[int]string // from pair_coeff and type labels
	masses    map[int]float64
	atomStyle string
	dataFiles []string // read_data
	written   []string // write_data, dump, write_dump
	nextLog   string   // the command log: the output goes on in that file
}

// ask is a command that makes steps.
type ask struct {
	minimise bool
	known    bool // steps is known
	upto     bool // steps is an absolute step until the run has begun
	rerun    bool // it reads steps that another run made
	other    bool // neither run nor minimize: it need not print how it ended
	steps    int64
	done     int64
	at       mark
}

// short reports whether the run made fewer steps than it was asked for.
func (a *ask) short() bool { return !a.minimise && a.known && a.done < a.steps }

// block is one piece of thermo output and what is printed after it.
type block struct {
	file     string
	table    *table
	units    string
	norm     *bool
	ask      *ask // nil when commands are not echoed
	minimise bool
	stats    *minimisation
	// loop is the line that ends a run; nil when it was interrupted.
	loop *loop
}

// steps is how many steps the block made.
func (b *block) steps() int64 {
	if b.ask != nil && b.ask.rerun {
		return 0
	}
	if b.loop != nil {
		return b.loop.steps
	}
	return max(0, b.table.lastStep()-b.table.firstStep())
}

// loop is what "Loop time of" says of a run.
type loop struct {
	steps int64
	atoms int64
}

// minimisation is the statistics block of minimize.
type minimisation struct {
	criterion string
	energy    []float64 // initial, next to last, final
	at        mark      // of the stopping criterion
}

// converged reports whether the minimiser reached a tolerance.
func (m *minimisation) converged() bool {
	switch m.criterion {
	case "energy tolerance", "force tolerance", "forces are zero":
		return true
	}
	return false
}

// mark is a line worth pointing at.
type mark struct {
	file string
	line int
	text string
}

// logError is the text with which LAMMPS gives up.
type logError struct {
	mark
	message string // without "ERROR: " and the source
	source  string // "src/thermo.cpp:439"
	command string // the last command
}

// Bounds of what is kept of a hostile or endless log.
const (
	maxBlocks   = 512
	maxAsks     = 512
	maxWarnings = 200
	maxCells    = 1 << 21 // numbers in all tables: 16 MiB
)

// last returns the block that the final state is read from: the last one with
// a row.
func (j *journal) last() *block {
	for _, b := range slices.Backward(j.blocks) {
		if b.table.last != nil {
			return b
		}
	}
	return nil
}

// rows counts the rows printed.
func (j *journal) rows() int {
	n := 0
	for _, b := range j.blocks {
		n += b.table.count
	}
	return n
}

// short is the first run that made fewer steps than asked.
func (j *journal) short() *ask {
	for _, a := range j.asks {
		if a.short() {
			return a
		}
	}
	return nil
}

// warn keeps a warning once, however often it is printed.
func (j *journal) warn(w engine.Warning) {
	same := func(o engine.Warning) bool { return o.Message == w.Message }
	if len(j.warnings) < maxWarnings && !slices.ContainsFunc(j.warnings, same) {
		j.warnings = append(j.warnings, w)
	}
}

// perAtom reports whether extensive quantities of a block are divided by the
// number of atoms: said by thermo_modify norm, else only in reduced units.
func (b *block) perAtom() bool {
	if b.norm != nil {
		return *b.norm
	}
	return b.units == reduced
}

// keepBounded drops what a plot would not show any more.
func (j *journal) keepBounded() {
	if len(j.blocks) > maxBlocks {
		j.blocks = slices.Delete(j.blocks, maxBlocks/2, maxBlocks/2+1)
	}
	if len(j.asks) > maxAsks {
		last := j.asks[len(j.asks)-1]
		j.asks = slices.DeleteFunc(j.asks, func(a *ask) bool { return a != last && !a.short() })
		if len(j.asks) > maxAsks {
			j.asks = slices.Delete(j.asks, maxAsks/2, maxAsks/2+1)
		}
	}
	for range 16 {
		cells := 0
		for _, b := range j.blocks {
			cells += len(b.table.rows) * len(b.table.columns)
		}
		if cells <= maxCells {
			return
		}
		for _, b := range j.blocks {
			b.table.thin()
		}
	}
}

// sourceOf splits the "(src/file.cpp:12)" off a message.
func sourceOf(s string) (message, source string) {
	s = strings.TrimSpace(s)
	i := strings.LastIndex(s, " (")
	if i < 0 || !strings.HasSuffix(s, ")") {
		return s, ""
	}
	source = s[i+2 : len(s)-1]
	if !strings.Contains(source, ".cpp:") && !strings.Contains(source, ".h:") {
		return s, ""
	}
	return s[:i], source
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
