package lammps

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the files of a generated run.
const (
	inputName    = "in.lmp"
	dataName     = "structure.data"
	finalData    = "final.data"
	finalDump    = "final.dump"
	finalRestart = "final.restart"
	runningA     = "running.restart.a"
	runningB     = "running.restart.b"
	trajectory   = "trajectory.dump"
	stopName     = "STOP"
)

const (
	// haltEvery is how many steps may pass until a stop is noticed. Looking for
	// a file costs microseconds.
	haltEvery = 10
	// longRun is where a run is worth restart files on the way, of which there
	// are then twenty.
	longRun  = 20_000
	restarts = 20
)

// scales turn the units of the parameters into those of the script.
type scales struct {
	time     float64 // of 1 fs
	pressure float64 // of 1 GPa
	force    float64 // of 1 eV/Å
	velocity float64 // unit in Å/fs
}

func scalesOf(units string) scales {
	u := styles[units]
	s := scales{time: 1, pressure: 1 / u.pressure, force: 1 / u.force, velocity: u.velocity}
	if units == "metal" {
		s.time = 1e-3
	}
	return s
}

// deck writes the input script.
type deck struct {
	strings.Builder
	p     params
	sys   *system
	inter *interaction
	soft  time.Duration
}

func (d *deck) line(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *deck) script() []byte {
	d.setup()
	d.output()
	d.stopping()
	if d.p.Task == taskMinimize {
		d.minimise()
	} else {
		d.dynamics()
	}
	d.finish()
	return []byte(d.String())
}

// setup is the system and how it interacts.
func (d *deck) setup() {
	d.line("# Written by nanoos: %s of %s.", d.p.Task, d.sys.st.Formula())
	d.line("units %s", d.p.Units)
	d.line("atom_style atomic")
	d.line("boundary %s", d.boundary())
	if d.oblique() {
		d.line("box tilt large")
	}
	d.line("read_data %s", dataName)
	d.line("pair_style %s", d.inter.style)
	for _, c := range d.inter.coeffs {
		d.line("pair_coeff %s", c)
	}
	d.line("neighbor %s bin", number(d.p.NeighborSkin))
	d.line("neigh_modify every 1 delay 5 check yes")
}

// boundary lets the box follow the atoms where nothing repeats; it never becomes
// smaller than it began.
func (d *deck) boundary() string {
	var out []string
	for _, p := range d.sys.st.Periodic() {
		if p {
			out = append(out, "p")
		} else {
			out = append(out, "m")
		}
	}
	return strings.Join(out, " ")
}

// oblique says whether the cell has tilts or may get some.
func (d *deck) oblique() bool {
	return d.sys.cell.oblique() || d.p.Task == taskNPT && d.p.Coupling == "tri" || d.p.Task == taskMinimize && d.p.BoxRelax == "tri"
}

// output has fixed columns, so that the parser needs no guessing, in full
// precision and written at once, so that progress can be followed and a killed
// run loses nothing.
func (d *deck) output() {
	forces := ""
	if d.p.Task == taskMinimize {
		forces = " fnorm fmax"
	}
	d.line("thermo_style custom step temp pe ke etotal press vol density lx ly lz xy xz yz pxx pyy pzz pxy pxz pyz%s", forces)
	d.line("thermo_modify flush yes norm no lost error format float %%.10g")
	d.line("thermo %d", d.p.ThermoEvery)
	if d.p.DumpEvery > 0 {
		d.line("dump trajectory all custom %d %s id type element x y z", d.p.DumpEvery, trajectory)
		d.line("dump_modify trajectory sort id flush yes format float %%.8g element %s", strings.Join(d.sys.types, " "))
	}
}

// stopping lets the run end itself cleanly: by a file, and before its time limit.
func (d *deck) stopping() {
	d.line("variable stopfile equal is_file(%s)", stopName)
	d.line("fix stop all halt %d v_stopfile > 0 error continue", haltEvery)
	if t := timerText(d.soft); t != "" {
		d.line("timer timeout %s every %d", t, haltEvery)
	}
}

// timerText writes a duration for the timer; "" when there is no limit.
func timerText(limit time.Duration) string {
	s := int64(limit / time.Second)
	if s <= 0 {
		return ""
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func (d *deck) minimise() {
	d.freeze()
	p := scalesOf(d.p.Units).pressure * d.p.Pressure[0]
	if d.p.BoxRelax != "none" {
		d.line("fix cell all box/relax %s %s vmax 0.001", d.p.BoxRelax, number(p))
	}
	d.line("min_style %s", d.p.Minimizer)
	// A line search evaluates forces several times in an iteration.
	d.line("minimize %s %s %d %d", number(d.p.EnergyTolerance), number(d.p.ForceTolerance*scalesOf(d.p.Units).force), d.p.Steps, 10*d.p.Steps)
}

// freeze holds the sites that the structure says may not move, and returns the
// group of those that may.
func (d *deck) freeze() (mobile string) {
	ids := make(map[[3]bool][]string)
	var order [][3]bool
	for id, i := range d.sys.order {
		if f := d.sys.fixed(i); f != ([3]bool{}) {
			if ids[f] == nil {
				order = append(order, f)
			}
			ids[f] = append(ids[f], fmt.Sprint(id+1))
		}
	}
	mobile = "all"
	for n, f := range order {
		// group adds up, so that lines keep a length that can be read.
		for list := range slices.Chunk(ids[f], 100) {
			d.line("group fixed%d id %s", n+1, strings.Join(list, " "))
		}
		axis := [3]string{"NULL", "NULL", "NULL"}
		for k := range 3 {
			if f[k] {
				axis[k] = "0.0"
			}
		}
		d.line("fix hold%d fixed%d setforce %s", n+1, n+1, strings.Join(axis[:], " "))
		if f == [3]bool{true, true, true} {
			mobile = "mobile"
			d.line("group mobile subtract all fixed%d", n+1)
		}
	}
	return mobile
}

func (d *deck) dynamics() {
	p, s := d.p, scalesOf(d.p.Units)
	d.line("timestep %s", number(rounded(p.TimestepFS*s.time)))
	mobile := d.freeze()
	if mobile != "all" {
		// Sites that cannot move have no temperature.
		d.line("compute mobiletemp mobile temp")
		d.line("thermo_modify temp mobiletemp")
	}
	if t := p.startTemperature(d.sys.st.Velocities != nil); t >= 0 {
		d.line("velocity %s create %s %d mom yes rot yes dist gaussian", mobile, number(t), p.Seed)
	}
	d.line("fix integrate %s %s", mobile, d.ensemble(s))
	if p.Steps >= longRun {
		d.line("restart %d %s %s", p.Steps/restarts, runningA, runningB)
	}
	d.line("run %d", p.Steps)
}

// ensemble is the integrator and its thermostat and barostat.
func (d *deck) ensemble(s scales) string {
	p := d.p
	if p.Task == taskNVE {
		return "nve"
	}
	e := fmt.Sprintf("%s temp %s %s %s", p.Task, number(p.Temperature[0]), number(p.Temperature[1]), number(rounded(p.ThermostatFS*s.time)))
	if p.Task == taskNPT {
		e += fmt.Sprintf(" %s %s %s %s", p.Coupling,
			number(rounded(p.Pressure[0]*s.pressure)), number(rounded(p.Pressure[1]*s.pressure)), number(rounded(p.BarostatFS*s.time)))
	}
	return e
}

// startTemperature of new velocities; negative keeps those of the structure.
func (p *params) startTemperature(has bool) float64 {
	switch {
	case p.InitialTemperature != nil:
		return *p.InitialTemperature
	case has:
		return -1
	case p.Temperature != nil:
		return p.Temperature[0]
	}
	return 0
}

func (d *deck) finish() {
	d.line("write_data %s", finalData)
	d.line("write_restart %s", finalRestart)
	d.line("write_dump all custom %s id type element x y z fx fy fz modify sort id format float %%.10g element %s", finalDump, strings.Join(d.sys.types, " "))
}

// fixed says which coordinates of a site may not move.
func (s *system) fixed(i int) [3]bool {
	if s.st.Fixed == nil {
		return [3]bool{}
	}
	return s.st.Fixed[i]
}

// rounded removes the noise that converting a decimal unit leaves.
func rounded(v float64) float64 {
	out, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
	if err != nil {
		return v
	}
	return out
}
