package lammps

import "testing"

func TestProbeReadsVersionAndStyles(t *testing.T) {
	t.Parallel()
	version, styles := New().ReadProbe([]byte(`
Large-scale Atomic/Molecular Massively Parallel Simulator - 29 Sep 2021 - Update 2

Usage example: lmp -var t 300

List of individual style options included in this LAMMPS executable

* Pair styles:

eam             eam/alloy
lj/cut          

* Fix styles

nve             npt
`))
	if version != "29 Sep 2021 - Update 2" {
		t.Errorf("version %q", version)
	}
	for _, s := range []string{"pair_style eam/alloy", "pair_style lj/cut", "fix npt"} {
		if !styles[s] {
			t.Errorf("%q is missing from %v", s, styles)
		}
	}
	if len(styles) != 5 {
		t.Errorf("%d styles, want 5: %v", len(styles), styles)
	}
}

func TestProbeOfSomethingElseSaysNothing(t *testing.T) {
	t.Parallel()
	if version, styles := New().ReadProbe([]byte("\x00command not found")); version != "" || styles != nil {
		t.Errorf("%q, %v", version, styles)
	}
}
