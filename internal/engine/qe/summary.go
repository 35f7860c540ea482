package qe

import (
	"math"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// summarise fills the result's numbers: from the XML file where it is this
// run's, else from the text.
func (d *dossier) summarise(s *engine.Summary) {
	d.summariseProgram(s)
	if t := d.scf; t != nil {
		t.summarise(s)
	}
	if x := d.scfXML; x != nil {
		x.summarise(s)
	}
	d.summariseCell(s)
	d.summariseBands(s)
	if s.EnergyEV != nil && s.NAtoms != nil && *s.NAtoms > 0 {
		s.EnergyPerAtomEV = new(*s.EnergyEV / float64(*s.NAtoms))
	}
	d.summariseMD(s)
}

func (d *dossier) summariseProgram(s *engine.Summary) {
	for _, t := range []*textRun{d.other, d.main} {
		if t != nil && t.program != "" {
			s.Program, s.ProgramVersion, s.WallTimeS = t.program, t.version, t.wall
		}
	}
	if x := d.mainXML; x != nil {
		if x.program != "" {
			s.Program, s.ProgramVersion = x.program, x.version
		}
		if x.wall != nil {
			s.WallTimeS = x.wall
		}
	}
}

// summarise takes what the text of an scf, relaxation or dynamics run says.
func (t *textRun) summarise(s *engine.Summary) {
	s.EnergyEV = times(t.energy, crystal.RydbergEV)
	if t.minusTS != nil {
		s.FreeEnergyEV = s.EnergyEV
	}
	s.MaxForceEVPerA = times(t.maxForce(), crystal.RyPerBohrEVPerA)
	s.PressureGPa = times(t.pressure, crystal.KbarGPa)
	if len(t.stress) == 9 {
		s.StressGPa = voigt(t.stress, crystal.KbarGPa)
	}
	s.TotalMagMuB, s.AbsoluteMagMuB = t.magTotal, t.magAbs
	if t.iterations > 0 {
		s.NSCFIterations = &t.iterations
	}
	n := t.cycles
	if t.finalSCF && n > 0 && t.relax {
		n-- // the last SCF of a vc-relax is no step of it
	}
	if (t.relax || t.md) && n > 0 {
		s.NIonicSteps = &n
	}
}

// summarise takes what the XML says, which has more digits.
func (x *xmlRun) summarise(s *engine.Summary) {
	if x.etot != nil {
		s.EnergyEV = times(x.etot, crystal.HartreeEV)
		if x.demet != nil && *x.demet != 0 {
			s.FreeEnergyEV = s.EnergyEV
		}
	}
	if f := times(x.maxForce, crystal.HaPerBohrEVPerA); f != nil && !contradicts(s.MaxForceEVPerA, f, 1e-3) {
		s.MaxForceEVPerA = f
	}
	if p := times(thirdOfTrace(x.stress), crystal.HaPerBohr3GPa); p != nil && !contradicts(s.PressureGPa, p, 0.01) {
		s.PressureGPa = times(thirdOfTrace(x.stress), crystal.HaPerBohr3GPa)
		s.StressGPa = voigt(x.stress, crystal.HaPerBohr3GPa)
	}
	if x.lsda || x.noncollinear {
		if x.magTotal != nil {
			s.TotalMagMuB = x.magTotal
		}
		if x.magAbs != nil {
			s.AbsoluteMagMuB = x.magAbs
		}
	}
	if s.NSCFIterations == nil && x.scfIterations != nil {
		s.NSCFIterations = new(x.stepIterations + *x.scfIterations)
		if x.steps > 0 && x.calculation != "vc-relax" {
			s.NSCFIterations = &x.stepIterations
		}
	}
	if x.steps > 0 {
		s.NIonicSteps = &x.steps
	}
}

// contradicts reports whether the text says another number than the XML file by
// more than it rounds. Then the text is right: some versions write the forces
// of damped dynamics mixed, and the stress of vc-md times the volume.
func contradicts(text, xml *float64, rounding float64) bool {
	return text != nil && printed.Finite(*text) && math.Abs(*text-*xml) > rounding*(1+math.Abs(*text)/100)
}

func (d *dossier) summariseCell(s *engine.Summary) {
	t := d.main
	structure := (*atoms)(nil).structure(nil)
	if d.mainXML != nil {
		structure = d.mainXML.atoms.structure(t)
	}
	if structure == nil && t != nil {
		structure = t.last.structure(t)
	}
	if structure != nil {
		s.Formula = structure.Formula()
		s.NAtoms = new(structure.NAtoms())
		s.VolumeA3 = new(structure.Volume())
	} else if t != nil {
		if t.nat > 0 {
			s.NAtoms = &t.nat
		}
		s.VolumeA3 = positive(t.volume)
	}
}

// summariseBands takes levels and gap from the last step of a chain, and the
// Fermi energy from the scf, whose mesh samples the whole zone, unless only
// the last step has it.
func (d *dossier) summariseBands(s *engine.Summary) {
	fermi := d.fermi()
	if len(fermi) > 0 {
		s.FermiEnergyEV = &fermi[0]
		for _, f := range fermi {
			s.FermiEnergyEV = new(max(*s.FermiEnergyEV, f))
		}
	}
	t := d.main
	if t != nil {
		if t.homo != nil && t.lumo != nil {
			s.BandGapEV = new(max(0, *t.lumo-*t.homo))
		}
		if t.nk > 0 {
			s.NKPoints = &t.nk
		}
		if t.nelec > 0 {
			s.NElectrons = &t.nelec
		}
	}
	x := d.mainXML
	if x == nil {
		return
	}
	if x.nks > 0 {
		s.NKPoints = &x.nks
	}
	if x.nelec != nil {
		s.NElectrons = x.nelec
	}
	hartrees := make([]float64, len(fermi))
	for i, f := range fermi {
		hartrees[i] = f / crystal.HartreeEV
	}
	if gap, direct, ok := x.gap(hartrees); ok {
		s.BandGapEV, s.BandGapDirect = &gap, nil
		if gap > 0 {
			s.BandGapDirect = &direct
		}
	}
}

// fermi returns the Fermi energies in eV, one or one for each spin.
func (d *dossier) fermi() []float64 {
	x, t := d.mainXML, d.main
	if x != nil && x.calculation == "bands" && d.scfXML != nil && (d.scfXML.fermi != nil || len(d.scfXML.twoFermi) == 2) {
		x = d.scfXML
	}
	switch {
	case x != nil && len(x.twoFermi) == 2:
		return []float64{x.twoFermi[0] * crystal.HartreeEV, x.twoFermi[1] * crystal.HartreeEV}
	case x != nil && x.fermi != nil:
		return []float64{*x.fermi * crystal.HartreeEV}
	case t != nil && len(t.fermi) > 0:
		return t.fermi
	case d.scf != nil && len(d.scf.fermi) > 0:
		return d.scf.fermi
	case t != nil && t.homo != nil:
		return []float64{*t.homo}
	}
	return nil
}

func (d *dossier) summariseMD(s *engine.Summary) {
	t := d.main
	if t == nil || d.kind() != "md" && d.kind() != "vc-md" || t.mdTable.Len() == 0 {
		return
	}
	s.NSteps = new(int64(t.mdStep))
	s.TemperatureK = t.temperature
	s.PotentialEnergyEV = s.EnergyEV
	s.KineticEnergyEV = times(t.ekin, crystal.RydbergEV)
	s.TotalEnergyEV = times(t.etotal, crystal.RydbergEV)
	rows := t.mdTable.Len()
	s.TemperatureMeanK = mean(t.mdTable.Column(2)[rows/2:])
	s.PressureMeanGPa = mean(t.mdTable.Column(6)[rows/2:])
}

func mean(v []float64) *float64 {
	sum := 0.0
	for _, f := range v {
		sum += f
	}
	if m := sum / float64(len(v)); printed.Finite(m) {
		return &m
	}
	return nil
}

func times(v *float64, f float64) *float64 {
	if v == nil {
		return nil
	}
	return new(*v * f)
}

// voigt turns the pressure tensor that pw.x prints into stress: positive in
// tension, in the order xx yy zz yz xz xy.
func voigt(v []float64, unit float64) *engine.Voigt {
	var out engine.Voigt
	for i, at := range [6]int{0, 4, 8, 5, 2, 1} {
		out[i] = -v[at] * unit
		if !printed.Finite(out[i]) {
			return nil
		}
	}
	return &out
}

// dropNotFinite takes out what JSON cannot say; the outcome tells of it.
func dropNotFinite(s *engine.Summary) {
	for _, v := range []**float64{
		&s.VolumeA3, &s.EnergyEV, &s.EnergyPerAtomEV, &s.FreeEnergyEV, &s.FermiEnergyEV, &s.BandGapEV, &s.MaxForceEVPerA, &s.PressureGPa,
		&s.TotalMagMuB, &s.AbsoluteMagMuB, &s.NElectrons, &s.TemperatureK, &s.PotentialEnergyEV, &s.KineticEnergyEV, &s.TotalEnergyEV, &s.WallTimeS,
	} {
		if *v != nil && !printed.Finite(**v) {
			*v = nil
		}
	}
}

func (d *dossier) series(res *engine.Result) {
	add := func(s engine.Series, ok bool) {
		if ok {
			res.Series = append(res.Series, s)
		}
	}
	if t := d.scf; t != nil {
		add(t.scfTable.Series("scf", "SCF accuracy", "iteration"))
	}
	switch kind := d.kind(); kind {
	case "relax", "vc-relax":
		if d.main != nil {
			add(d.main.ionicTable.Series("ionic", "Relaxation", "step"))
		} else {
			add(d.mainXML.ionicTable.Series("ionic", "Relaxation", "step"))
		}
	case "md", "vc-md":
		if d.main != nil {
			add(d.main.mdTable.Series("md", "Dynamics", "step"))
		}
	}
	if d.mainXML != nil {
		add(d.mainXML.bandSeries())
	}
}
