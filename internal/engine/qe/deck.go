package qe

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
)

// deck writes the input of one step: ibrav = 0, units always said, one variable
// a line.
func (g *generator) deck(calculation string, k kpoints) []byte {
	w := &deckWriter{extra: g.p.Namelists}
	w.namelist("control", g.control(calculation))
	w.namelist("system", g.system(calculation))
	w.namelist("electrons", g.electronic())
	if moves(calculation) {
		w.namelist("ions", nil)
	}
	if changesCell(calculation) {
		w.namelist("cell", g.cell())
	}
	g.writeSpecies(w)
	w.line("CELL_PARAMETERS angstrom")
	for _, v := range g.structure.Lattice {
		w.line("%s", coordinates(v))
	}
	g.writePositions(w)
	g.writeKPoints(w, k)
	return []byte(w.b.String())
}

// assignment is one line of a namelist; an empty value leaves it out.
type assignment struct{ name, value string }

type deckWriter struct {
	b     strings.Builder
	extra map[string]map[string]any
}

func (w *deckWriter) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *deckWriter) namelist(name string, list []assignment) {
	for _, key := range slices.Sorted(maps.Keys(w.extra[name])) {
		list = append(list, assignment{strings.ToLower(key), fortranValue(w.extra[name][key])})
	}
	w.line("&%s", strings.ToUpper(name))
	for _, a := range list {
		if a.value != "" {
			w.line("  %s = %s", a.name, a.value)
		}
	}
	w.line("/")
}

func fortranValue(v any) string {
	switch v := v.(type) {
	case bool:
		return logical(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatInt(int64(v), 10)
		}
		return fortran(v)
	}
	return quoted(fmt.Sprint(v))
}

func (g *generator) control(calculation string) []assignment {
	list := []assignment{
		{"calculation", quoted(calculation)},
		{"prefix", quoted(prefix)},
		{"outdir", quoted("./" + outdir)},
		{"pseudo_dir", quoted("./" + pseudoDir)},
		{"disk_io", quotedOr(g.p.DiskIO)},
	}
	if s := maxSeconds(g.spec); s > 0 {
		list = append(list, assignment{"max_seconds", strconv.Itoa(s)})
	}
	if calculation != "nscf" && calculation != "bands" {
		list = append(list, assignment{"tprnfor", ".true."}, assignment{"tstress", ".true."})
	}
	if moves(calculation) {
		list = append(list, assignment{"nstep", integer(g.p.Nstep)}, assignment{"etot_conv_thr", float(g.p.EtotConvThr)}, assignment{"forc_conv_thr", float(g.p.ForcConvThr)})
	}
	return list
}

func (g *generator) system(calculation string) []assignment {
	list := []assignment{
		{"ibrav", "0"},
		{"nat", strconv.Itoa(g.structure.NAtoms())},
		{"ntyp", strconv.Itoa(len(g.kinds))},
		{"ecutwfc", float(g.p.Ecutwfc)},
		{"ecutrho", g.ecutrho()},
	}
	list = append(list, g.occupations(calculation)...)
	if g.nbnd > 0 {
		list = append(list, assignment{"nbnd", strconv.Itoa(g.nbnd)})
	}
	if g.spins() == 2 {
		list = append(list, assignment{"nspin", "2"})
	}
	for i, k := range g.kinds {
		if m := g.startingMagnetization(k); m != 0 {
			list = append(list, assignment{fmt.Sprintf("starting_magnetization(%d)", i+1), fortran(m)})
		}
	}
	return append(list, assignment{"tot_magnetization", float(g.p.TotMagnetization)}, assignment{"tot_charge", float(g.p.TotCharge)},
		assignment{"input_dft", quotedOr(g.p.InputDFT)}, assignment{"vdw_corr", quotedOr(g.p.VdwCorr)}, assignment{"assume_isolated", quotedOr(g.p.AssumeIsolated)})
}

// ecutrho is the job's, or twice pw.x's default of 4 where a pseudopotential is
// ultrasoft or PAW: these need a finer density.
func (g *generator) ecutrho() string {
	if g.p.Ecutrho != nil {
		return float(g.p.Ecutrho)
	}
	for _, k := range g.kinds {
		if k.header != nil && (k.header.kind == "US" || k.header.kind == "PAW") {
			return fortran(8 * *g.p.Ecutwfc)
		}
	}
	return ""
}

// occupations of a step. Bands along a path have no tetrahedra.
func (g *generator) occupations(calculation string) []assignment {
	occupations, smearing, degauss := g.p.Occupations, g.p.Smearing, 0.01
	if g.p.Degauss != nil {
		degauss = *g.p.Degauss
	}
	if calculation == "bands" && strings.HasPrefix(occupations, "tetrahedra") {
		occupations = "smearing"
	}
	list := []assignment{{"occupations", quoted(occupations)}}
	if occupations == "smearing" {
		if smearing == "" {
			smearing = "cold"
		}
		list = append(list, assignment{"smearing", quoted(smearing)}, assignment{"degauss", fortran(degauss)})
	}
	return list
}

// startingMagnetization is the job's for a label or element, else the moment of
// the sites over the valence electrons.
func (g *generator) startingMagnetization(k kind) float64 {
	for _, name := range []string{k.label, k.element} {
		if m, ok := g.p.StartingMagnetization[name]; ok {
			return m
		}
	}
	if k.moment == 0 || g.spins() != 2 {
		return 0
	}
	valence := 10.0
	if k.header != nil {
		valence = k.header.valence
	}
	return min(1, max(-1, k.moment/valence))
}

func (g *generator) electronic() []assignment {
	return []assignment{
		{"conv_thr", float(g.p.ConvThr)},
		{"electron_maxstep", integer(g.p.ElectronMaxstep)},
		{"mixing_beta", float(g.p.MixingBeta)},
		{"mixing_mode", quotedOr(g.p.MixingMode)},
		{"diagonalization", quotedOr(g.p.Diagonalization)},
	}
}

func (g *generator) cell() []assignment {
	return []assignment{{"press", float(g.p.Press)}, {"press_conv_thr", float(g.p.PressConvThr)}, {"cell_dofree", quotedOr(g.p.CellDofree)}}
}

func (g *generator) writeSpecies(w *deckWriter) {
	w.line("ATOMIC_SPECIES")
	for _, k := range g.kinds {
		mass, _ := crystal.Mass(k.element)
		w.line("%-3s %.4f %s", k.label, mass, k.file)
	}
}

func (g *generator) writePositions(w *deckWriter) {
	w.line("ATOMIC_POSITIONS crystal")
	for i, v := range g.structure.Frac() {
		flags := ""
		if g.structure.Fixed != nil && g.structure.Fixed[i] != [3]bool{} {
			for _, fixed := range g.structure.Fixed[i] {
				flags += map[bool]string{true: " 0", false: " 1"}[fixed]
			}
		}
		w.line("%-3s %s%s", g.kinds[g.of[i]].label, coordinates(v), flags)
	}
}

func (g *generator) writeKPoints(w *deckWriter, k kpoints) {
	switch {
	case k.gamma:
		w.line("K_POINTS gamma")
	case k.path != nil:
		w.line("K_POINTS crystal_b")
		w.line("%d", len(k.path))
		for i, c := range k.path {
			points, label := k.points, ""
			if i == len(k.path)-1 {
				points = 1
			}
			if c.label != "" {
				label = " ! " + strings.Map(printable, c.label)
			}
			w.line("%s %d%s", coordinates(c.k), points, label)
		}
	default:
		m := g.mesh(k)
		w.line("K_POINTS automatic")
		w.line("%d %d %d %d %d %d", m[0], m[1], m[2], k.shift[0], k.shift[1], k.shift[2])
	}
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// coordinates have ten decimals: 1e-10 of a cell vector is far below any
// tolerance of symmetry.
func coordinates(v [3]float64) string {
	return fmt.Sprintf("%15.10f %15.10f %15.10f", v[0], v[1], v[2])
}

func float(v *float64) string {
	if v == nil {
		return ""
	}
	return fortran(*v)
}

func integer(v *int) string {
	if v == nil {
		return ""
	}
	return strconv.Itoa(*v)
}

func quotedOr(s string) string {
	if s == "" {
		return ""
	}
	return quoted(s)
}
