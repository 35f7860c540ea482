package crystal_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

const pwSeed = `&CONTROL
  calculation='scf', outdir = './a/b!c' ! a path with a slash
/
&system ibrav=4, celldm(1)=5.0d0 celldm (3) = 1.6
  nat = 2 ntyp=2, ecutwfc=30 /
&ELECTRONS
&END
ATOMIC_SPECIES
 Fe1 55.8 Fe.UPF
 O 16 O.UPF
K_POINTS {automatic}
 4 4 4 0 0 0
ATOMIC_POSITIONS (crystal)
 Fe1 1/3 2/3 0.0 0 1 1 ! held
# a comment
 O 0.d0 0 5e-1
`

func pw(system, cards string) string {
	return "&CONTROL\n/\n&SYSTEM\n" + system + "\n/\n&ELECTRONS\n/\n" + cards
}

func TestPWInputIsReadAsFortranReadsIt(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "", pwSeed)
	a, c := 5*crystal.BohrA, 1.6*5*crystal.BohrA
	want := &crystal.Structure{
		Lattice: &crystal.Matrix{{a, 0, 0}, {-a / 2, a * math.Sqrt(3) / 2, 0}, {0, 0, c}},
		Species: []string{"Fe", "O"}, Labels: []string{"Fe1", "O"}, Positions: []crystal.Vector{{1. / 3, 2. / 3, 0}, {0, 0, 0.5}},
		Fixed: [][3]bool{{true, false, false}, {}},
	}
	if d := cmp.Diff(want, s, cmpopts.EquateApprox(0, 1e-12)); d != "" || len(warnings) > 0 {
		t.Errorf("%s%v", d, warnings)
	}
}

func TestPWInputKnowsEveryUnit(t *testing.T) {
	t.Parallel()
	const b = crystal.BohrA
	cell := "CELL_PARAMETERS %s\n1 0 0\n0 1 0\n0 0 2\nATOMIC_POSITIONS %s\nSi 0 0 0\nSi 0.5 0.5 0.5\n"
	for _, test := range []struct {
		system, cell, positions string
		length                  float64 // of the first vector
		x                       float64 // of the second site, Å
	}{
		{"ibrav=0, nat=2, celldm(1)=6", "alat", "alat", 6 * b, 3 * b},
		{"ibrav=0, nat=2, celldm(1)=6", "", "{alat}", 6 * b, 3 * b},
		{"ibrav=0, nat=2, A=3.5", "{alat}", "crystal", 3.5, 1.75},
		{"ibrav=0, nat=2, A=3.5", "{ alat }", "(bohr)", 3.5, 0.5 * b},
		{"ibrav=0, nat=2", "angstrom", "angstrom", 1, 0.5},
		{"ibrav=0, nat=2", "angstrom", "alat", 1, 0.5},
		{"ibrav=0, nat=2", "bohr", "angstrom", b, 0.5},
		{"ibrav=1, nat=2, celldm=4 0 0 0 0 0", "bohr", "angstrom", 4 * b, 0.5},
		{"ibrav=8, nat=2, A=3 B=4 C=5 cosAB=0", "bohr", "crystal", 3, 1.5},
	} {
		s, _ := mustRead(t, "pw-in", pw(test.system, fmt.Sprintf(cell, test.cell, test.positions)))
		if l, x := s.Lattice[0].Norm(), s.Cart()[1][0]; math.Abs(l-test.length) > 1e-9 || math.Abs(x-test.x) > 1e-9 {
			t.Errorf("%+v: length %v, position %v", test, l, x)
		}
	}
}

func TestPWInputReportsAllFaultsAtOnceWithTheirPlaces(t *testing.T) {
	t.Parallel()
	text := pw("ibrav=0, nat=x", "CELL_PARAMETERS feet\n3 0 0\n0 3 y\n0 0 3\nATOMIC_POSITIONS angstrom\nQq 0 0 0\nSi sqrt(3)/2 0 0\nSi 1 1 1 1 2 1\n")
	for words, line := range map[string]int{
		`"y" is neither a number nor a fraction`: 10, `"sqrt(3)/2" is neither`: 14, `"2" is not a flag`: 15,
		`"feet" is not a unit`: 8, `nat = "x" is not a number of atoms`: 4, `"Qq" does not begin with an element`: 13,
	} {
		refuse(t, "pw-in", text, words, line)
	}
	positions := "ATOMIC_POSITIONS alat\nSi 0 0 0\n"
	for _, bad := range []struct{ text, words string }{
		{pw("nat=1", positions), "ibrav is missing"},
		{pw("ibrav=77, A=3, nat=1", positions), "this ibrav is not known"},
		{pw("ibrav=1, nat=1", positions), "celldm(1), or A, is missing"},
		{pw("ibrav=0, nat=1", positions), "CELL_PARAMETERS has 0 vectors"},
		{pw("ibrav=0, nat=1", "CELL_PARAMETERS alat\n1 0 0\n0 1 0\n0 0 1\n"+positions), "the cell is in alat, which is not given"},
		{pw("ibrav=1, A=3, nat=2", positions), "nat is 2, but ATOMIC_POSITIONS has 1 lines"},
		{pw("ibrav=1, A=3", positions), "nat is missing"},
		{pw("ibrav=1, A=3, nat=1", ""), "ATOMIC_POSITIONS is missing"},
		{pw("ibrav=1, A=3, nat=1, space_group=225", positions), "a space group"},
		{pw("ibrav=1, A=3, nat=1", "ATOMIC_POSITIONS crystal_sg\nSi 0 0 0\n"), "crystal_sg"},
		{"&SYSTEM\nibrav=1, A=3, nat=1\n" + positions, "is not closed"},
		{pw("ibrav=1, A=3, nat=2", positions+"Si 0 0 1\n"), "0.000 Å apart"},
		{pw("ibrav=1, A=3, nat=1e99", positions), "is not a number of atoms"},
	} {
		refuse(t, "pw-in", bad.text, bad.words, 0)
	}
}

func TestPWInputKeepsCellPositionsLabelsAndFlags(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			if _, err := crystal.WritePWInput(s); err == nil {
				t.Fatal("a molecule is written as pw.x input")
			}
			return
		}
		s.Labels, s.Magmoms, s.Velocities = nil, nil, nil
		if len(s.Species) > 1 {
			s.Labels = append([]string{s.Species[0] + "1"}, s.Species[1:]...)
		}
		back := written(t, s, crystal.WritePWInput, "")
		if d := cmp.Diff(s, back); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzReadPWInput(f *testing.F) {
	addSeeds(f, pwSeed, pw("ibrav=0, nat=1", "CELL_PARAMETERS bohr\n6 0 0\n0 6 0\n0 0 6\nATOMIC_POSITIONS alat\nSi 0 0 0\n"), strings.ToUpper(pwSeed))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadPWInput(data)
		sound(t, s, err)
	})
}
