package vasp

import (
	"bytes"
	"math"
	"strings"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// settings are the tags of INCAR that a verdict needs, from the output that
// repeats them or from INCAR itself. A nil pointer is what nobody said.
type settings struct {
	nelm, nsw, ibrion, ispin, icharg *int
	ediff, ediffg                    *float64
	nelect                           *float64
	algo                             string
	noncollinear, dfpt               bool
}

// take reads one tag; the first value of a tag counts, since later sections of
// vasprun.xml use some names again for other things.
func (s *settings) take(name string, value []byte) {
	switch name {
	case "NELM":
		takeInt(&s.nelm, value)
	case "NSW":
		takeInt(&s.nsw, value)
	case "IBRION":
		takeInt(&s.ibrion, value)
		s.dfpt = s.dfpt || s.ibrion != nil && (*s.ibrion == 7 || *s.ibrion == 8)
	case "ISPIN":
		takeInt(&s.ispin, value)
	case "ICHARG":
		takeInt(&s.icharg, value)
	case "EDIFF":
		takeFloat(&s.ediff, value)
	case "EDIFFG":
		takeFloat(&s.ediffg, value)
	case "NELECT":
		takeFloat(&s.nelect, value)
	case "ALGO":
		if s.algo == "" {
			s.algo = strings.ToUpper(string(bytes.TrimSpace(value)))
		}
	case "LNONCOLLINEAR", "LSORBIT":
		s.noncollinear = s.noncollinear || isTrue(value)
	case "LEPSILON", "LRPA":
		s.dfpt = s.dfpt || isTrue(value)
	}
}

// fill takes what is not known from another source.
func (s *settings) fill(o settings) {
	for _, p := range [][2]**int{{&s.nelm, &o.nelm}, {&s.nsw, &o.nsw}, {&s.ibrion, &o.ibrion}, {&s.ispin, &o.ispin}, {&s.icharg, &o.icharg}} {
		if *p[0] == nil {
			*p[0] = *p[1]
		}
	}
	for _, p := range [][2]**float64{{&s.ediff, &o.ediff}, {&s.ediffg, &o.ediffg}, {&s.nelect, &o.nelect}} {
		if *p[0] == nil {
			*p[0] = *p[1]
		}
	}
	if s.algo == "" {
		s.algo = o.algo
	}
	s.noncollinear, s.dfpt = s.noncollinear || o.noncollinear, s.dfpt || o.dfpt
}

func takeInt(to **int, value []byte) {
	if v, _, ok := printed.Number(value); ok && *to == nil && math.Abs(v) <= math.MaxInt32 {
		*to = new(int(v))
	}
}

func takeFloat(to **float64, value []byte) {
	if v, _, ok := printed.Number(value); ok && *to == nil && printed.Finite(v) {
		*to = &v
	}
}

// isTrue reads a Fortran logical: T, .TRUE., .t.
func isTrue(value []byte) bool {
	v := bytes.TrimLeft(bytes.TrimSpace(value), ".")
	return len(v) > 0 && (v[0] == 'T' || v[0] == 't')
}

// maxElectronic is NELM; VASP's own default is 60.
func (s *settings) maxElectronic() int {
	if s.nelm != nil {
		return *s.nelm
	}
	return 60
}

// energyTolerance is EDIFF; VASP's own default is 1e-4 eV.
func (s *settings) energyTolerance() float64 {
	if s.ediff != nil {
		return math.Abs(*s.ediff)
	}
	return 1e-4
}

func (s *settings) ionicSteps() int {
	if s.nsw != nil {
		return *s.nsw
	}
	return 0
}

// motion is what the ions do.
type motion int

const (
	still motion = iota
	relaxing
	dynamics
	vibrating // finite differences or perturbation theory
)

func (s *settings) motion() motion {
	if s.ionicSteps() <= 0 {
		if s.ibrion != nil && *s.ibrion >= 5 && *s.ibrion <= 8 {
			return vibrating
		}
		return still
	}
	if s.ibrion == nil {
		return dynamics // NSW above 1 without IBRION is molecular dynamics
	}
	switch n := *s.ibrion; {
	case n == -1:
		return still
	case n == 0:
		return dynamics
	case n >= 5 && n <= 8:
		return vibrating
	}
	return relaxing
}

// oneShot reports that electrons are not brought to self-consistency at all.
func (s *settings) oneShot() bool {
	for _, name := range []string{"NONE", "NOTHING", "EIGENVAL", "SUBROT", "CHI", "GW", "EVGW", "QPGW", "SCGW", "G0W0", "BSE", "TDHF", "TIMEEV", "ACFDT", "RPA", "CRPA"} {
		if s.algo == name || strings.HasPrefix(s.algo, name) && len(name) > 1 && strings.Contains(name, "GW") {
			return true
		}
	}
	return false
}

// readINCAR reads the tags of an INCAR: "KEY = value" or several with ";"
// between, and comments after "#" or "!".
func readINCAR(data []byte) (settings, map[string]string) {
	var s settings
	tags := map[string]string{}
	for line := range bytes.Lines(bytes.ReplaceAll(data, []byte("\\\n"), []byte(" "))) {
		if i := bytes.IndexAny(line, "#!"); i >= 0 {
			line = line[:i]
		}
		for part := range bytes.SplitSeq(line, []byte{';'}) {
			key, value, ok := bytes.Cut(part, []byte{'='})
			if !ok {
				continue
			}
			name := strings.ToUpper(string(bytes.TrimSpace(key)))
			if _, twice := tags[name]; twice || name == "" {
				continue // VASP takes the first
			}
			tags[name] = string(bytes.TrimSpace(value))
			s.take(name, value)
		}
	}
	return s, tags
}
