package qe

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// seeds are lines of every kind, whole and broken.
const textSeed = `     Program PWSCF v.6.7MaX starts on 23Nov2026 at  7:53: 2
     Reading input from scf.in
     gamma-point specific algorithms are used
     lattice parameter (alat)  =       6.9484  a.u.
     unit-cell volume          =     239.4984 (a.u.)^3
     number of atoms/cell      =            2
     number of electrons       =         8.00
     scf convergence threshold =      1.0E-08
     nstep                     =           50
     crystal axes: (cart. coord. in units of alat)
               a(1) = (   0.000000   0.707107   0.707107 )
               a(2) = (   0.720705   0.000000   0.707107 )
               a(3) = (   0.707107-0.707107   0.000000 )
     atomic species   valence    mass     pseudopotential
        Si             4.00    28.08550     Si( 1.00)

     site n.     atom                  positions (alat units)
         1           Si  tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           Si  tau(   2) = (   0.3569529   0.3606245   0.3606245  )

     Self-consistent Calculation
     iteration #  1     ecut=    20.00 Ry     beta= 0.70
     total energy              =     -15.78119906 Ry
     estimated scf accuracy    <       0.08310950 Ry
!    total energy              =     **********  Ry
     highest occupied, lowest unoccupied level (ev):     6.2936    6.9
     total magnetization       =     0.00     0.00     1.00 Bohr mag/cell
     convergence has been achieved in   6 iterations
     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =    -0.00116584    NaN    0.123-100
     Total force =     0.037447     Total SCF correction =     0.000004
          total   stress  (Ry/bohr**3)                   (kbar)     P=      141.58
   0.00092093  -0.00002301  -0.00020219          135.47       -3.38      -29.74
     number of scf cycles    =   1
CELL_PARAMETERS (alat= 1.0D+01)
  -0.014637973   2.664103406   2.664209185
   2.697868932  -0.001274048   2.650563761
   2.658364788   2.662357737  -0.012892304

ATOMIC_POSITIONS (crystal)
Si            0.0037620594       -0.0011736791        0.0009589665
Si            0.2562379406        0.2511736791        0.2490410335

     Error in routine  cdiaghg (668):
      problems computing cholesky
 %%%%%%%%%%%%
     PWSCF        :      1m 1.19s CPU      1h 2m WALL
   JOB DONE.
`

const xmlSeed = `<?xml version="1.0"?><qes:espresso Units="Hartree atomic units"><!-- > -->
<general_info><creator NAME="PWSCF" VERSION="6.7MaX">x</creator></general_info>
<input><control_variables><calculation>bands</calculation></control_variables><electron_control><conv_thr>5e-9</conv_thr></electron_control></input>
<output><convergence_info><scf_conv><convergence_achieved>true</convergence_achieved><n_scf_steps>6</n_scf_steps><scf_error>1.0D-9</scf_error></scf_conv></convergence_info>
<atomic_structure nat="1" alat="10.2"><atomic_positions><atom name="Si" index="1">0 0 0</atom></atomic_positions><cell><a1>5 0 0</a1><a2>0 5 0</a2><a3>0 0 5</a3></cell></atomic_structure>
<total_energy><etot>-7.9</etot></total_energy><band_structure><lsda>false</lsda><nbnd>3</nbnd><nelec>4</nelec><nks>2</nks><occupations_kind>fixed</occupations_kind>
<ks_energies><k_point weight="1">0 0 0</k_point><eigenvalues size="3">0.1 0.2 0.3</eigenvalues></ks_energies>
<ks_energies><k_point weight="1">0 0 1</k_point><eigenvalues size="3">0.1 0.2 0.3</eigenvalues></ks_energies></band_structure>
<forces>0.1 0.2 ****</forces><stress>1 2 3 4 5 6 7 8 9</stress></output><status/></qes:espresso>`

const deckSeed = `&CONTROL
  calculation = 'scf', prefix = 'it''s', title = "a, b/c" ! comment
  outdir='/tmp/x' pseudo_dir = '/p'
/
&SYSTEM ibrav=2, celldm(1) = 10.2, nat=2, ntyp=1, ecutwfc=18 /
&ELECTRONS
  conv_thr = 1.0d-8
&end
ATOMIC_SPECIES
Si 28.0855 Si.UPF
ATOMIC_POSITIONS (crystal)
Si 0.00 0.00 0.00
Si 1/4 0.25 0.25 1 1 0
K_POINTS {automatic}
2 2 2 0 0 0
`

func FuzzText(f *testing.F) {
	f.Add([]byte(textSeed))
	f.Add([]byte("Error in routine x (1):\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		res := parseFiles(t, fstest.MapFS{"stdout": {Data: text}}, &job.Exit{Observed: true})
		if _, err := json.Marshal(res); err != nil {
			t.Fatal(err)
		}
		m := New().Monitor(&engine.Plan{})
		last := 0.0
		for len(text) > 0 {
			n := min(len(text), 37)
			if _, err := m.Write(text[:n]); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
			if p := m.Progress().Fraction; !(p >= last && p <= 1) {
				t.Fatalf("progress %v after %v", p, last)
			} else {
				last = p
			}
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(xmlSeed))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := readXML("x.xml", bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		res := parseFiles(t, fstest.MapFS{"a.xml": {Data: text}, "stdout": {Data: []byte(textSeed)}}, nil)
		if _, err := json.Marshal(res); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDeck(f *testing.F) {
	f.Add([]byte(deckSeed))
	f.Add([]byte("&SYSTEM\ncelldm(9999)=1,2,3\nibrav=14\n&CONTROL"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files := fstest.MapFS{"pw.in": {Data: text}}
		spec := job.Spec{Params: []byte(`{"input":"pw.in"}`)}
		plan, err := New().Plan(spec, engine.Inputs{Files: files})
		switch {
		case err == nil && len(plan.Steps) != 1:
			t.Fatalf("plan %+v", plan)
		case err != nil && job.CodeOf(err) != job.Invalid:
			t.Fatal(err)
		case err == nil:
			again := readDeck("pw.in", plan.Files["pw.in"])
			if dir := again.get("control", "outdir"); dir == nil || dir.text() != "./out" {
				t.Fatalf("outdir %+v in\n%s", dir, plan.Files["pw.in"])
			}
			if dir := again.get("control", "wfcdir"); dir != nil {
				t.Fatalf("wfcdir is left in\n%s", plan.Files["pw.in"])
			}
		}
	})
}

func FuzzUPF(f *testing.F) {
	f.Add([]byte("<UPF version=\"2.0.1\"><PP_HEADER element=\"Si\" pseudo_type=\"NC\" functional=\"SLA PZ NOGX NOGC\" z_valence=\"4.0\" comment=\"a > b\"/>"))
	f.Add([]byte("<PP_HEADER>\n  C   Element\n NC  Norm\n SLA PZ NOGX NOGC PZ Exchange-Correlation functional\n 4.0 Z valence\n</PP_HEADER>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if u, err := readUPF(fstest.MapFS{"x.upf": {Data: text}}, "x.upf"); err == nil && (u.element == "" || u.valence <= 0) {
			t.Fatalf("header %+v", u)
		}
	})
}

// Large outputs are read in one pass, in little memory.
func BenchmarkText(b *testing.B) {
	text, err := os.ReadFile(fixtureDir(b) + "/si_vcrelax/vcrelax.out")
	if err != nil {
		b.Fatal(err)
	}
	big := bytes.Repeat(bytes.TrimSuffix(text, []byte("JOB DONE")), 100)
	b.SetBytes(int64(len(big)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readText("x", bytes.NewReader(big)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkXML(b *testing.B) {
	text, err := os.ReadFile(fixtureDir(b) + "/si_bands_dos/bands.xml")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readXML("x", bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
