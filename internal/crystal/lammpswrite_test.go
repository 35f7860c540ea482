package crystal_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

func TestLAMMPSDataKeepsTheCrystalTurned(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			if _, err := crystal.WriteLAMMPSData(s); err == nil {
				t.Fatal("a molecule is written as LAMMPS data")
			}
			return
		}
		if rapid.Bool().Draw(t, "left-handed") {
			frac := s.Frac()
			s.Lattice[0], s.Lattice[1] = s.Lattice[1], s.Lattice[0]
			for i := range frac {
				frac[i][0], frac[i][1] = frac[i][1], frac[i][0]
			}
			s.Positions, s.Cartesian = frac, false
		}
		back := written(t, s, crystal.WriteLAMMPSData, "")
		if !slices.Equal(s.Species, back.Species) {
			t.Fatalf("species %v, want %v", back.Species, s.Species)
		}
		box := back.Lattice
		if box[0][1] != 0 || box[0][2] != 0 || box[1][2] != 0 || box.Det() <= 0 {
			t.Fatalf("the box %v is not one of LAMMPS", box)
		}
		if math.Abs(box[1][0]) > 0.5000001*box[0][0] || math.Abs(box[2][0]) > 0.5000001*box[0][0] || math.Abs(box[2][1]) > 0.5000001*box[1][1] {
			t.Fatalf("the box %v is tilted by more than one half", box)
		}
		if math.Abs(box.Det()-s.Volume()) > 1e-9*s.Volume() {
			t.Fatalf("volume %v, want %v", box.Det(), s.Volume())
		}
		want, _, _ := s.MinDistance()
		if got, _, _ := back.MinDistance(); math.Abs(got-want) > 1e-9 {
			t.Fatalf("shortest distance %v, want %v", got, want)
		}
	})
}

func TestLAMMPSDataHasVelocitiesPerPicosecond(t *testing.T) {
	t.Parallel()
	s := silicon()
	s.Velocities = []crystal.Vector{{0.001, 0, 0}, {0, 0, 0}}
	text, err := crystal.WriteLAMMPSData(s)
	if err != nil {
		t.Fatal(err)
	}
	_, velocities, _ := strings.Cut(string(text), "Velocities\n\n")
	var v crystal.Vector
	var id int
	if _, err := fmt.Sscan(velocities, &id, &v[0], &v[1], &v[2]); err != nil || id != 1 || math.Abs(v.Norm()-1) > 1e-12 {
		t.Errorf("velocities %q: %v Å/ps of atom %d, %v", velocities, v, id, err)
	}
	if !strings.Contains(string(text), "1 28.085 # Si") || !strings.Contains(string(text), "xy xz yz") {
		t.Errorf("%s", text)
	}
}
