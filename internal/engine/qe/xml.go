package qe

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// xmlRun is what data-file-schema.xml says. All of it is in Hartree atomic
// units; a pointer is nil for what the file does not say.
type xmlRun struct {
	file string

	program, version string
	calculation      string
	gamma            bool
	convThr          *float64
	targetPressure   float64

	nstep          *int
	steps          int
	stepIterations int
	firstAtoms     *atoms
	ionicTable     *printed.Table

	scfFlag, optFlag   *bool
	scfIterations      *int
	scfError           *float64
	atoms              *atoms
	alat               float64 // bohr
	etot, demet        *float64
	magTotal, magAbs   *float64
	lsda, noncollinear bool
	nbnd, nup, ndown   int
	nelec, fermi       *float64
	twoFermi           []float64
	occupations        string
	nks                int
	bands              *bands
	maxForce           *float64
	stress             []float64
	exitStatus         *int
	wall               *float64
	closed             bool // the file is whole

	current    *atoms // structure being read
	stepRow    stepRow
	numbers    []float64
	isEspresso bool
}

type stepRow struct{ energy, maxForce, pressure *float64 }

// readXML reads one file. A file that ends too early keeps what was complete;
// the error is for one that cannot be read at all.
func readXML(file string, r io.Reader) (*xmlRun, error) {
	x := &xmlRun{file: file, ionicTable: printed.NewTable(
		engine.Column{Name: "step"}, engine.Column{Name: "energy", Unit: "eV"}, engine.Column{Name: "max_force", Unit: "eV/Å"},
		engine.Column{Name: "pressure", Unit: "GPa"}, engine.Column{Name: "volume", Unit: "Å³"})}
	p := newPullReader(r)
	for {
		e, err := p.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errDepth) {
			break
		}
		if err != nil {
			return nil, err
		}
		if e == opened {
			x.open(p)
			continue
		}
		x.close(p)
		if len(p.ends) == 1 {
			x.closed = x.isEspresso
		}
		p.pop()
	}
	return x, nil
}

// unwanted are the elements whose text is not needed although they are long.
var unwanted = []string{"/symmetries/", "/partial"}

func (x *xmlRun) open(p *pullReader) {
	path := string(p.path)
	path = strings.TrimPrefix(path, "qes:espresso")
	if len(p.ends) == 1 {
		x.isEspresso = path == "" || strings.HasSuffix(path, "espresso")
	}
	p.keep = true
	for _, u := range unwanted {
		if strings.Contains(path, u) {
			p.keep = false
			return
		}
	}
	switch {
	case path == "/general_info/creator":
		x.program, x.version = p.attr("NAME"), p.attr("VERSION")
	case path == "/step":
		x.stepRow = stepRow{}
	case strings.HasSuffix(path, "/atomic_structure"):
		x.current = &atoms{lattice: &crystal.Matrix{}}
		if path == "/output/atomic_structure" {
			x.alat, _, _ = printed.Number([]byte(p.attr("alat")))
		}
	case x.current != nil && strings.HasSuffix(path, "/atom") && len(x.current.labels) < maxAtoms:
		if label := p.attr("name"); len(label) <= maxLabel {
			x.current.labels = append(x.current.labels, label)
		}
	case path == "/output/band_structure/ks_energies":
		if x.bands == nil {
			x.bands = newBands(x)
		}
		x.bands.begin()
	}
}

func (x *xmlRun) close(p *pullReader) {
	path := strings.TrimPrefix(string(p.path), "qes:espresso")
	text := bytes.TrimSpace(p.text)
	switch section, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); section {
	case "input":
		x.closeInput(rest, text)
	case "step":
		x.closeStep(rest, text)
	case "output":
		x.closeOutput(rest, text)
	case "status", "exit_status":
		x.exitStatus = whole(text)
	case "timing_info":
		if rest == "total/wall" {
			x.wall = real(text)
		}
	}
}

func (x *xmlRun) closeInput(name string, text []byte) {
	switch name {
	case "control_variables/calculation":
		x.calculation = string(text)
	case "control_variables/nstep":
		x.nstep = whole(text)
	case "electron_control/conv_thr":
		x.convThr = real(text)
	case "cell_control/pressure":
		// In kbar: the one number of the file that is as the user gave it.
		x.targetPressure, _, _ = printed.Number(text)
	case "basis/gamma_only":
		x.gamma = string(text) == "true"
	}
	if a := x.closeAtoms(name, text); a != nil && x.firstAtoms == nil {
		x.firstAtoms = a
	}
}

func (x *xmlRun) closeStep(name string, text []byte) {
	switch name {
	case "":
		x.addStep()
	case "scf_conv/n_scf_steps":
		if n := whole(text); n != nil {
			x.stepIterations += *n
		}
	case "total_energy/etot":
		x.stepRow.energy = real(text)
	case "forces":
		x.stepRow.maxForce = maxNorm(x.readNumbers(text))
	case "stress":
		x.stepRow.pressure = thirdOfTrace(x.readNumbers(text))
	}
	if a := x.closeAtoms(name, text); a != nil {
		x.atoms = a
		if x.firstAtoms == nil {
			x.firstAtoms = a
		}
	}
}

func (x *xmlRun) addStep() {
	x.steps++
	volume := 0.0
	if x.atoms != nil {
		volume = math.Abs(x.atoms.lattice.Det())
	}
	x.ionicTable.Add(float64(x.steps), orNaN(x.stepRow.energy)*crystal.HartreeEV, orNaN(x.stepRow.maxForce)*crystal.HaPerBohrEVPerA,
		orNaN(x.stepRow.pressure)*crystal.HaPerBohr3GPa, orNaN(positive(volume)))
}

func (x *xmlRun) closeOutput(name string, text []byte) {
	if rest, ok := strings.CutPrefix(name, "band_structure/"); ok {
		x.closeBands(rest, text)
		return
	}
	switch name {
	case "convergence_info/scf_conv/convergence_achieved":
		x.scfFlag = truth(text)
	case "convergence_info/scf_conv/n_scf_steps":
		x.scfIterations = whole(text)
	case "convergence_info/scf_conv/scf_error":
		x.scfError = real(text)
	case "convergence_info/opt_conv/convergence_achieved":
		x.optFlag = truth(text)
	case "magnetization/lsda":
		x.lsda = string(text) == "true"
	case "magnetization/noncolin":
		x.noncollinear = string(text) == "true"
	case "magnetization/total":
		// Without a direction it is 0 for spins that are not collinear.
		if !x.noncollinear {
			x.magTotal = real(text)
		}
	case "magnetization/total_vec":
		x.magTotal = norm(printed.Numbers(text, nil))
	case "magnetization/absolute":
		x.magAbs = real(text)
	case "total_energy/etot":
		// It is 0 when SCF was stopped in its first iteration.
		if v := real(text); v != nil && *v != 0 {
			x.etot = v
		}
	case "total_energy/demet":
		x.demet = real(text)
	case "forces":
		x.maxForce = maxNorm(x.readNumbers(text))
	case "stress":
		if v := x.readNumbers(text); len(v) == 9 {
			x.stress = append([]float64(nil), v...)
		}
	}
	if a := x.closeAtoms(name, text); a != nil {
		x.atoms = a
	}
}

func (x *xmlRun) closeBands(name string, text []byte) {
	switch name {
	case "lsda":
		x.lsda = string(text) == "true"
	case "noncolin":
		x.noncollinear = string(text) == "true"
	case "nbnd", "nbnd_up", "nbnd_dw", "nks":
		if v := whole(text); v != nil {
			*map[string]*int{"nbnd": &x.nbnd, "nbnd_up": &x.nup, "nbnd_dw": &x.ndown, "nks": &x.nks}[name] = *v
		}
	case "nelec":
		x.nelec = real(text)
	case "fermi_energy":
		x.fermi = real(text)
	case "two_fermi_energies":
		x.twoFermi = printed.Numbers(text, nil)
	case "occupations_kind":
		x.occupations = string(text)
	case "ks_energies/k_point":
		if v, ok := printed.Vector(text); ok && x.bands != nil {
			x.bands.k = v
		}
	case "ks_energies/occupations":
		if x.bands != nil {
			x.bands.addOccupations(x.readNumbers(text))
		}
	case "ks_energies/eigenvalues":
		if x.bands != nil {
			x.bands.add(x.readNumbers(text))
		}
	}
}

// closeAtoms collects a structure and returns it when its element ends, with
// the cell and all atoms there.
func (x *xmlRun) closeAtoms(name string, text []byte) *atoms {
	rest, ok := strings.CutPrefix(name, "atomic_structure")
	if !ok || x.current == nil {
		return nil
	}
	a := x.current
	switch rest {
	case "":
		x.current = nil
		if len(a.positions) == 0 || len(a.positions) != len(a.labels) || a.lattice.Det() == 0 {
			return nil
		}
		return a
	case "/cell/a1", "/cell/a2", "/cell/a3":
		if v, ok := printed.Vector(text); ok {
			a.lattice[rest[len(rest)-1]-'1'] = scale(v, crystal.BohrA)
		}
	default:
		if v, ok := printed.Vector(text); ok && strings.HasSuffix(rest, "/atom") && len(a.positions) < maxAtoms {
			a.positions = append(a.positions, scale(v, crystal.BohrA))
		}
	}
	return nil
}

// readNumbers returns numbers in a buffer that the next call reuses.
func (x *xmlRun) readNumbers(text []byte) []float64 {
	x.numbers = numbersBroken(text, x.numbers[:0])
	return x.numbers
}

// numbersBroken is numbers over several lines.
func numbersBroken(b []byte, dst []float64) []float64 {
	for len(b) > 0 {
		b = bytes.TrimLeft(b, " \t\r\n")
		v, rest, ok := printed.Number(b)
		if !ok {
			return dst
		}
		dst, b = append(dst, v), rest
	}
	return dst
}

func real(text []byte) *float64 {
	v, _, ok := printed.Number(text)
	if !ok {
		return nil
	}
	return &v
}

func whole(text []byte) *int {
	v := real(text)
	if v == nil || !(*v > -1e9 && *v < 1e9) {
		return nil
	}
	return new(int(*v))
}

func truth(text []byte) *bool {
	switch strings.ToLower(string(text)) {
	case "true", "t", ".true.", "1":
		return new(true)
	case "false", "f", ".false.", "0":
		return new(false)
	}
	return nil
}

// maxNorm is the largest length of the vectors in v.
func maxNorm(v []float64) *float64 {
	if len(v) < 3 {
		return nil
	}
	largest := 0.0
	for i := 0; i+3 <= len(v); i += 3 {
		if n := length([3]float64(v[i : i+3])); n > largest || n != n {
			largest = n
		}
	}
	return &largest
}

func thirdOfTrace(v []float64) *float64 {
	if len(v) != 9 {
		return nil
	}
	return new((v[0] + v[4] + v[8]) / 3)
}
