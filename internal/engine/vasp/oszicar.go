package vasp

import (
	"bytes"
	"fmt"
	"io"
	"math"

	"github.com/nano-os/nanoos/internal/job"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// scanner reads the lines of OSZICAR, which standard output repeats between
// messages: one for each electronic step, and one that ends each ionic step.
type scanner struct {
	r     *record
	now   scf
	begun bool
}

func newScanner(file string) *scanner { return &scanner{r: newRecord(file), now: newSCF()} }

// electronic reads "DAV:   5    -0.107E+02   -0.1E-03   -0.2E-04  1234   0.1E-01  0.2E-02".
func electronic(line []byte) (row [6]float64, ok bool) {
	if len(line) < 12 || line[3] != ':' && line[4] != ':' || line[0] < 'A' || line[0] > 'Z' {
		return row, false
	}
	head, rest, _ := bytes.Cut(line, []byte{':'})
	for _, c := range head {
		if c < 'A' || c > 'Z' {
			return row, false
		}
	}
	var values [8]float64
	got := printed.Numbers(rest, values[:0])
	if len(got) < 3 {
		return row, false
	}
	row = [6]float64{got[0], got[1], got[2], math.NaN(), math.NaN(), math.NaN()}
	if len(got) > 3 {
		row[3] = got[3]
	}
	if len(got) > 5 {
		row[4] = got[5]
	}
	if len(got) > 6 {
		row[5] = got[6]
	}
	return row, true
}

// line takes one line and reports whether it was of one of the two kinds.
func (s *scanner) line(line []byte) bool {
	if row, ok := electronic(line); ok {
		if printed.Finite(row[0]) && row[0] <= 1 && s.now.n > 0 {
			s.now = newSCF() // the step before was cut by a new start
		}
		s.now.add(row[1])
		s.now.change, s.now.bands = row[2], row[3]
		s.r.total++
		s.r.partial = s.now
		s.r.cycle.Add(float64(s.now.n), float64(s.r.steps+1), row[1], row[2], row[3], row[4], row[5])
		return true
	}
	return s.ionic(line)
}

// ionic reads "   1 F= -.10E+02 E0= -.10E+02  d E =0.0E+00  mag=  0.0" and, of
// dynamics, "   3 T=  300. E= … F= … E0= … EK= …".
func (s *scanner) ionic(line []byte) bool {
	i := bytes.Index(line, []byte("F="))
	if i < 0 || i > 80 || !bytes.Contains(line[i:], []byte("E0=")) {
		return false
	}
	n, rest, ok := printed.Number(line)
	if !ok || !(n >= 0) || !bytes.Contains(rest[:min(len(rest), 4)], []byte("=")) {
		return false
	}
	r := s.r
	e := energies{}
	var good bool
	e.free, good = printed.After(line, "F=")
	e.zero, _ = printed.After(line, "E0=")
	e.without, e.known = math.NaN(), good
	if r.steps > 0 {
		r.previous = r.energies.free
		if r.scf.n > 0 && !r.scf.met(&r.set) {
			r.missed++
		}
	}
	r.steps++
	r.energies, r.scf = e, s.now
	s.now, r.partial = newSCF(), newSCF()
	r.moment, r.temp, r.kinetic = nil, nil, nil
	if _, tail, ok := bytes.Cut(line, []byte("mag=")); ok {
		if m := printed.Numbers(tail, nil); len(m) == 3 {
			r.moment = new(norm(m))
		} else if len(m) > 0 {
			r.moment = &m[0]
		}
	}
	if t, ok := printed.After(line, "T="); ok {
		r.temp = &t
	}
	if k, ok := printed.After(line, "EK="); ok {
		r.kinetic = &k
	}
	r.addIonic()
	return true
}

// readOSZICAR reads the file with the settings that its verdicts need.
func readOSZICAR(name string, src io.Reader, set settings) (*record, error) {
	s := newScanner(name)
	s.r.set = set
	lines := printed.NewLineReader(src)
	for {
		line, _, err := lines.Next()
		if err == io.EOF {
			return s.r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		s.line(bytes.TrimLeft(line, " "))
	}
}

// messages are what standard output and error say beside numbers.
type messages struct {
	hits    []hit
	seen    map[*diagnosis]bool
	banner  bool
	version string
	// accuracy is the farewell of a relaxation that converged.
	accuracy bool
	stopped  job.Evidence // it was asked to stop
	above    []byte       // the line before, within a box
	boxed    bool         // an ERROR box, after which VASP ends
	box      job.Evidence
}

type hit struct {
	d        *diagnosis
	evidence job.Evidence
}

// readOutput reads standard output or error: numbers and messages.
func readOutput(name string, src io.Reader, set settings, m *messages) (*record, error) {
	s := newScanner(name)
	s.r.set = set
	lines := printed.NewLineReader(src)
	for {
		line, _, err := lines.Next()
		if err == io.EOF {
			return s.r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		text := bytes.TrimLeft(line, " ")
		if !s.line(text) {
			m.line(name, lines.Line(), bytes.TrimSpace(text))
		}
	}
}

func (m *messages) line(name string, n int, line []byte) {
	if len(line) < 4 {
		return
	}
	if bytes.HasPrefix(line, []byte("vasp.")) && len(line) > 6 && printed.IsDigit(line[5]) {
		m.banner = true
		word, _, _ := bytes.Cut(line[5:], []byte{' '})
		m.version = string(word)
		return
	}
	text := bytes.TrimSpace(bytes.Trim(line, "|"))
	if bytes.HasPrefix(text, []byte("reached required accuracy")) {
		m.accuracy = true
		return
	}
	if bytes.HasPrefix(text, []byte("EEEEEEE  RRRRRR   RRRRRR")) || bytes.Contains(text, []byte("I REFUSE TO CONTINUE WITH THIS SICK JOB")) {
		m.boxed = true
		if m.box.File == "" {
			m.box = job.Evidence{File: name, Line: n, Text: clip(text)}
		}
		return
	}
	if bytes.Contains(text, []byte("stop encountered!")) {
		m.stopped = job.Evidence{File: name, Line: n, Text: clip(text)}
		return
	}
	d := diagnosisOf(text)
	if d == nil && line[0] == '|' && len(m.above) > 0 {
		// A box breaks its lines anywhere.
		d = diagnosisOf(append(append(m.above, ' '), text...))
	}
	if m.above = m.above[:0]; line[0] == '|' {
		m.above = append(m.above, text...)
	}
	if d != nil && !m.seen[d] {
		if m.seen == nil {
			m.seen = map[*diagnosis]bool{}
		}
		m.seen[d] = true
		m.hits = append(m.hits, hit{d, job.Evidence{File: name, Line: n, Text: clip(text)}})
	} else if d == nil && m.boxed && (m.box.Text == "" || bytes.HasPrefix([]byte(m.box.Text), []byte("EEEEEEE"))) && isProse(text) {
		m.box = job.Evidence{File: name, Line: n, Text: clip(text)}
	}
}

// isProse tells the words in a box from the letters drawn above them.
func isProse(text []byte) bool {
	lower := 0
	for _, c := range text {
		if c >= 'a' && c <= 'z' {
			lower++
		}
	}
	return lower > 8
}

// clip bounds a line that is shown to people.
func clip(line []byte) string {
	const most = 200
	text := string(bytes.ToValidUTF8(bytes.TrimSpace(line), []byte("�")))
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
