package lammps

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
)

// The same argon crystal in every physical unit style gives the same result.
func TestEveryUnitStyleGivesTheSamePhysics(t *testing.T) {
	t.Parallel()
	needProgram(t, "lmp")
	const joule, metre, kilogram = 1.66626369936e-21, 1e-10, 39.948 * 1.66053906660e-27 // of 0.0104 eV, 1 Å, 1 Ar
	for units, scale := range map[string][3]float64{                                    // energy, length, mass
		"metal":    {0.0104, 1, 39.948},
		"real":     {0.0104 * 23.0605478, 1, 39.948},
		"si":       {joule, metre, kilogram},
		"cgs":      {joule * 1e7, metre * 1e2, kilogram * 1e3},
		"electron": {0.0104 / 27.211386245988, 1 / 0.529177210903, 39.948},
		"micro":    {joule * 1e15, metre * 1e6, kilogram * 1e15},
		"nano":     {joule * 1e21, metre * 1e9, kilogram * 1e21},
	} {
		t.Run(units, func(t *testing.T) {
			t.Parallel()
			script := fmt.Sprintf(`units %s
boundary p p p
lattice fcc %.15g
region box block 0 3 0 3 0 3
create_box 1 box
create_atoms 1 box
mass 1 %.15g
pair_style lj/cut %.15g
pair_coeff 1 1 %.15g %.15g
group one id 1
displace_atoms one move %[7]g %[7]g 0 units box
neighbor %[8]g bin
fix 1 all nve
thermo_style custom step temp pe ke etotal press vol density pxx pyy pzz pxy pxz pyz
run 0
write_data final.data
write_dump all custom final.dump id type x y z fx fy fz modify format float %%.12g
`, units, 5.2*scale[1], scale[2], 8*scale[1], scale[0], 3.4*scale[1], 0.2*scale[1], 0.3*scale[1])
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "in.lmp"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			exit := runStep(t, dir, engine.Step{Program: "lmp", Args: []string{"-in", "in.lmp", "-log", logName, "-nocite"}}, New().Monitor(nil), nil)
			res, err := New().Parse(engine.Run{Files: os.DirFS(dir), Exit: exit})
			if err != nil || res.Outcome != engine.Success {
				t.Fatalf("%v, %+v", err, res)
			}
			s := res.Summary
			// The numbers of the run in metal units. LAMMPS prints eight digits,
			// and its own constants are of different years.
			near(t, "energy", s.EnergyEV, -8.7516326, 1e-5)
			near(t, "pressure", s.PressureGPa, 0.16225012, 1e-6)
			near(t, "volume", s.VolumeA3, 27*5.2*5.2*5.2, 1e-3)
			near(t, "density", s.DensityGPerCM3, 108*39.948*1.66053906660/(27*5.2*5.2*5.2), 1e-3)
			near(t, "largest force", s.MaxForceEVPerA, 0.131073035, 1e-6)
			if s.StressGPa == nil || s.Formula != "Ar108" || s.Units != "" {
				t.Errorf("stress %v, formula %q, units %q", s.StressGPa, s.Formula, s.Units)
			}
		})
	}
}
