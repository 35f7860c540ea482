package lammps

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// record is everything a run left behind, read.
type record struct {
	*journal
	screen *journal // the terminal output, when the journal is a log file; else nil
	stderr string
	// stderrName is the file that stderr was read from.
	stderrName string
	// cut is a file that the run wrote and that stops in its middle.
	cut string
	// final is the latest state that was written; nil when there is none.
	final   *snapshot
	initial *snapshot // of the file that read_data named
	// maxForce is the largest force of the latest dump that has forces.
	hasForce  bool
	forceStep int64
	maxForce  float64

	warnings []engine.Warning
}

// candidate is a file and how it begins.
type candidate struct {
	name string
	head string
}

const (
	banner     = "LAMMPS ("
	dataBanner = "LAMMPS data file"
	dumpBanner = "ITEM: "
	logName    = "log.lammps"
	// headSize is enough for what MPI and the scripts of a batch system print
	// before the banner.
	headSize = 32 << 10
	// maxFiles bounds how many files of a directory are looked at.
	maxFiles = 4096
	// maxJournals bounds the logs that are read: of one run there are few.
	maxJournals = 64
)

// look reads the beginning of every file of the directory.
func look(files fs.FS) ([]candidate, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, e := range entries[:min(len(entries), maxFiles)] {
		// To open a pipe waits for its writer, and a device may have no end.
		if info, err := fs.Stat(files, e.Name()); err != nil || !info.Mode().IsRegular() {
			continue
		}
		// What a damaged log has of zero bytes makes it no binary file.
		head, _ := io.ReadAll(decoded(bytes.NewReader(engine.Head(files, e.Name(), headSize))))
		if c := (candidate{e.Name(), string(head)}); len(head) > 0 && (bytes.IndexByte(head, 0) < 0 || c.isLog()) {
			out = append(out, c)
		}
	}
	return out, nil
}

// isLog reports whether the file is the output of LAMMPS.
func (c candidate) isLog() bool {
	return strings.HasPrefix(strings.TrimLeft(c.head, "\ufeff \r\n"), banner) || strings.Contains(c.head, "\n"+banner)
}

// errNoRun says that nothing in a directory is output of LAMMPS.
var errNoRun = errors.New("no file is a log or terminal output of LAMMPS")

// readRecord finds and reads the files of a run.
func readRecord(files fs.FS) (*record, error) {
	found, err := look(files)
	if err != nil {
		return nil, err
	}
	rec := &record{}
	rec.readStderr(files, found)
	journals, overview, err := readJournals(files, found)
	switch {
	case err != nil:
		return nil, err
	case len(journals) == 0:
		return rec, errNoRun
	}
	rec.choose(journals)
	if overview != nil && rec.problem == nil {
		rec.problem = overview.problem
	}
	rec.findCutLog(files)
	rec.merge()
	rec.readStructures(files, found)
	return rec, nil
}

// readJournals reads every log and terminal output. The overview of a run in
// partitions is apart from the output of these, unless it is alone.
func readJournals(files fs.FS, found []candidate) (journals []*journal, overview *journal, err error) {
	for _, c := range found {
		if !c.isLog() || len(journals) >= maxJournals {
			continue
		}
		j, err := readChain(files, c.name)
		if err != nil {
			return nil, nil, err
		}
		if j.overview {
			overview = j
			continue
		}
		journals = append(journals, j)
	}
	if len(journals) == 0 && overview != nil {
		return []*journal{overview}, nil, nil
	}
	return journals, overview, nil
}

// readChain reads a log and those that the command log goes on in.
func readChain(files fs.FS, name string) (*journal, error) {
	r := newReader(name)
	seen := map[string]bool{}
	for next := name; next != "" && next != "none" && !seen[next] && len(seen) < maxJournals && fs.ValidPath(next); next = r.j.nextLog {
		f, err := files.Open(next)
		if err != nil {
			if next == name {
				return nil, err
			}
			break
		}
		seen[next], r.j.nextLog = true, ""
		r.file, r.line = next, 0
		_, err = io.Copy(r, decoded(f))
		f.Close()
		if err != nil && r.line == 0 {
			return nil, err
		}
		// A file that stops being readable is one that was cut there.
		r.lines.Flush()
	}
	return r.finish(), nil
}

// readStderr keeps what the launcher and the run-time library say.
func (rec *record) readStderr(files fs.FS, found []candidate) {
	for _, c := range found {
		if c.name == engine.StderrName || c.name == "err" || path.Ext(c.name) == ".err" {
			rec.stderrName = c.name
			rec.stderr = strings.ToValidUTF8(string(engine.Head(files, c.name, 64<<10)), "\uFFFD")
			if c.name == engine.StderrName {
				return
			}
		}
	}
}

// choose takes the log of the run and its terminal output. A log has the
// commands; the terminal may have more of a run that was killed, because a log
// is written in blocks. Several runs in one directory are told apart by what
// they print first.
func (rec *record) choose(all []*journal) {
	rank := func(j *journal) int {
		switch {
		case j.file == logName:
			return 0
		case j.file == engine.StdoutName:
			return 1
		case j.echoed:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(all, func(a, b *journal) int { return rank(a) - rank(b) })
	rec.journal = all[0]
	rest := all[1:]
	if i := slices.IndexFunc(rest, func(j *journal) bool { return sameRun(rec.journal, j) }); i >= 0 {
		other := rest[i]
		rest = slices.Delete(slices.Clone(rest), i, i+1)
		if other.rows() > rec.rows() || other.rows() == rec.rows() && len(other.blocks) > len(rec.blocks) {
			rec.journal, other = other, rec.journal
		}
		rec.screen = other
	}
	if len(rest) > 0 {
		rec.warnings = append(rec.warnings, engine.Warning{
			Code: "several_runs", Message: "the directory has the output of several runs; this is the one in " + rec.file, File: rest[0].file,
			Fix: "name the files of one run",
		})
	}
}

// findCutLog looks for a log that has no end although the terminal output has
// one. LAMMPS does not look whether its log could be written: on a full disk it
// goes on and ends with status 0.
func (rec *record) findCutLog(files fs.FS) {
	if info, err := fs.Stat(files, logName); err == nil && info.Size() == 0 && rec.end != nil {
		rec.cut = logName
	}
	if rec.screen == nil {
		return
	}
	for _, p := range [][2]*journal{{rec.journal, rec.screen}, {rec.screen, rec.journal}} {
		log, other := p[0], p[1]
		if log.end == nil && other.end != nil && log.echoed && log.nextLog == "" && log.quit == nil && strings.Contains(log.file, "log") {
			rec.cut = log.file
		}
	}
}

// sameRun reports whether two files are the log and the terminal output of one
// process: the same program, and the same first row as far as both have one.
func sameRun(a, b *journal) bool {
	if a.version != b.version {
		return false
	}
	stem := func(j *journal) string { return strings.TrimSuffix(j.file, path.Ext(j.file)) }
	ta, tb := a.firstTable(), b.firstTable()
	if ta == nil || tb == nil {
		return a.file == engine.StdoutName || b.file == engine.StdoutName || a.file == logName && b.file == "lmp.out" || stem(a) == stem(b)
	}
	// Not the bits: a NaN is never equal to itself.
	return slices.Equal(ta.columns, tb.columns) && slices.EqualFunc(ta.rows[0], tb.rows[0], func(x, y float64) bool { return x == y || x != x && y != y })
}

func (j *journal) firstTable() *table {
	for _, b := range j.blocks {
		if len(b.table.rows) > 0 {
			return b.table
		}
	}
	return nil
}

// merge completes the journal with what only the other file of the run says.
func (rec *record) merge() {
	j, s := rec.journal, rec.screen
	if s == nil {
		return
	}
	for _, w := range s.warnings {
		j.warn(w)
	}
	if j.problem == nil && s.problem != nil {
		j.problem = s.problem
	}
	j.halt, j.timeout, j.lost = either(j.halt, s.halt), either(j.timeout, s.timeout), either(j.lost, s.lost)
	if j.end == nil && s.end != nil {
		j.end, j.wall = s.end, s.wall
	}
	if j.quit == nil {
		j.quit, j.status = s.quit, s.status
	}
	if j.units == "" {
		j.units = s.units
	}
	switch {
	case s.echoed && !j.echoed:
		j.adopt(s)
	case s.echoed || !j.echoed:
		j.fewer = either(j.fewer, s.fewer)
	}
	j.tauPerLJ = j.tauPerLJ || s.tauPerLJ
	for _, b := range j.blocks {
		if b.units == "" {
			b.units = j.units
		}
	}
}

// adopt takes over what only commands say.
func (j *journal) adopt(s *journal) {
	j.norm, j.periodic, j.bounded, j.restarted, j.grand, j.fewer = s.norm, s.periodic, s.bounded, s.restarted, s.grand, s.fewer
	j.elements, j.masses, j.atomStyle, j.dataFiles, j.written = s.elements, s.masses, s.atomStyle, s.dataFiles, s.written
	for _, b := range j.blocks {
		b.norm = j.norm
	}
}

func either(a, b *mark) *mark {
	if a != nil {
		return a
	}
	return b
}

// readStructures finds the latest state of the system: the data file written
// last, or the last frame of a dump when that is later.
func (rec *record) readStructures(files fs.FS, found []candidate) {
	scratch := &journal{} // masses of a file that the run did not read
	for _, c := range found {
		var s *snapshot
		switch {
		case strings.HasPrefix(c.head, dumpBanner):
			var whole bool
			if s, whole = readDump(files, c.name); !whole && slices.Contains(rec.written, c.name) {
				rec.cut = c.name
			}
			rec.learn(s)
		case slices.Contains(rec.dataFiles, c.name):
			var units string
			rec.initial, units = readData(files, c.name, rec.journal)
			rec.suppose(units)
			continue
		case strings.HasPrefix(c.head, dataBanner):
			j := rec.journal
			if len(rec.written) > 0 && !slices.Contains(rec.written, c.name) {
				j = scratch
			}
			var units string
			s, units = readData(files, c.name, j)
			if j != scratch {
				rec.suppose(units)
			}
		}
		if s == nil || !s.usable() || rec.partial(s) {
			continue
		}
		if s.forces && (!rec.hasForce || s.step >= rec.forceStep) {
			rec.hasForce, rec.forceStep, rec.maxForce = true, s.step, s.maxForce
		}
		// At the same step a data file has more digits than a dump.
		if f := rec.final; f == nil || s.step > f.step || s.step == f.step && (f.dumped || !s.dumped) {
			rec.final = s
		}
	}
}

// learn takes the elements of types from a dump that names them.
func (rec *record) learn(s *snapshot) {
	if s == nil || rec.partial(s) {
		return
	}
	for sp := range s.species {
		if sp.element != "" && rec.elements[sp.kind] == "" {
			rec.setElement(sp.kind, sp.element)
		}
	}
}

// partial reports whether a file has not all atoms: the dump of a group, or a
// file of another system.
func (rec *record) partial(s *snapshot) bool {
	n := rec.natoms()
	return n > 0 && s.atoms != n && !rec.grand
}

// suppose takes units from a data file when the output does not say them.
func (rec *record) suppose(units string) {
	if rec.units != "" || units == "" {
		return
	}
	rec.units = units
	for _, b := range rec.blocks {
		if b.units == "" {
			b.units = units
		}
	}
}
