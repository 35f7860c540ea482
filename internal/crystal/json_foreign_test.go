package crystal_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

const pymatgenSeed = `{"@module":"pymatgen.core.structure","@class":"Structure","charge":0.0,
"lattice":{"matrix":[[4.0,0.0,0.0],[0.0,4.0,0.0],[0.0,0.0,12.0]],"pbc":[true,true,false],"a":4.0,"volume":192.0},"properties":{},
"sites":[{"species":[{"element":"Fe","oxidation_state":2,"spin":null,"occu":1}],"abc":[0.0,0.0,0.0],"properties":{"magmom":2.0,"selective_dynamics":[true,true,false]},"label":"Fe2+","xyz":[0.0,0.0,0.0]},
{"species":[{"element":"O","occu":1}],"abc":[0.5,0.5,0.5],"properties":{"magmom":0.0,"selective_dynamics":[true,true,true]},"label":"O","xyz":[2.0,2.0,6.0]}]}`

const aseSeed = `{"1": {
 "cell": {"array": {"__ndarray__": [[3, 3], "float64", [4.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 12.0]]}, "__ase_objtype__": "cell"},
 "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [1]}}, {"name": "FixCartesian", "kwargs": {"a": [0], "mask": [true, false, false]}}],
 "ctime": 26.9, "initial_magmoms": {"__ndarray__": [[2], "float64", [1.0, -1.0]]},
 "numbers": {"__ndarray__": [[2], "int64", [26, 8]]}, "pbc": {"__ndarray__": [[3], "bool", [true, true, false]]},
 "positions": [[0.0, 0.0, 0.0], [2.0, 2.0, 6.0]], "unique_id": "4395", "user": null},
"ids": [1], "nextid": 2}`

func TestPymatgenAndASEJSONAreTold(t *testing.T) {
	t.Parallel()
	want := &crystal.Structure{
		Lattice: &crystal.Matrix{{4, 0, 0}, {0, 4, 0}, {0, 0, 12}}, PBC: &[3]bool{true, true, false},
		Species: []string{"Fe", "O"}, Positions: []crystal.Vector{{0, 0, 0}, {0.5, 0.5, 0.5}}, Magmoms: []float64{2, 0},
		Fixed: [][3]bool{{false, false, true}, {}},
	}
	s, _ := mustRead(t, "json", pymatgenSeed)
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	want.Positions, want.Cartesian = want.Cart(), true
	want.Magmoms, want.Fixed = []float64{1, -1}, [][3]bool{{true, false, false}, {true, true, true}}
	s, _ = mustRead(t, "", aseSeed)
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

func TestASEReadsPlainDictionariesAndTheFirstRow(t *testing.T) {
	t.Parallel()
	s, _ := mustRead(t, "ase", `{"numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 0.74]], "cell": [[0,0,0],[0,0,0],[0,0,0]], "pbc": false}`)
	if s.Lattice != nil || s.PBC != nil || s.Formula() != "H2" {
		t.Errorf("%+v", s)
	}
	_, warnings := mustRead(t, "", `{"1": {"numbers": [2], "positions": [0, 0, 0]}, "2": {"numbers": [99999], "positions": []}}`)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "2 structures") {
		t.Error(warnings)
	}
}

func TestForeignJSONIsRefusedWithThePathOfTheFault(t *testing.T) {
	t.Parallel()
	site := `{"species":[{"element":"Fe","occu":1}],"abc":[0,0,0]}`
	lattice := `{"lattice":{"matrix":[[4,0,0],[0,4,0],[0,0,4]]},"sites":[`
	for text, words := range map[string]string{
		lattice + site + `,{"species":[{"element":"Fe","occu":0.5}],"abc":[0.5,0,0]}]}`:                 "sites[1].species: the site is shared by elements or partly empty",
		lattice + `{"species":[{"element":"Fe","occu":1},{"element":"Ni","occu":1}],"abc":[0.5,0,0]}]}`: "sites[0].species: the site is shared",
		lattice + `{"species":[{"element":"Fe","occu":1}],"abc":[0,"x",0]}]}`:                           `line 1, column 106, sites[0].abc[1]: a number is needed, not the text "x"`,
		lattice + `{"species":[{"element":"Fe","occu":1}],"abc":[0,0]}]}`:                               "sites[0].abc: 2 numbers, not 3",
		lattice + `{"species":[{"element":"Fe","occu":1}]}]}`:                                           "sites[0]: the site has no position",
		lattice + `{"abc":[0,0,0]}]}`:                                                                   "sites[0]: the site has no species",
		lattice + `7]}`:                                                                                 "sites[0]: an object is needed",
		lattice + `]}`:                                                                                  "the structure has no sites",
		`{"@module":"pymatgen.core.structure"}`:                                                         "sites: the field is missing",
		`{"sites":[` + site + `]}`:                                                                      "there is no lattice",
		lattice + site + `,{"species":[{"element":"O","occu":1}],"abc":[0.5,0.5,0.5],"properties":{"magmom":1}}]}`: "1 of 2 sites have magmom",
		`{"numbers": [14, 999], "positions": [[0,0,0],[1,1,1]]}`:                                                   "numbers[1]: 999 is not the number of an element",
		`{"numbers": [14.5], "positions": [[0,0,0]]}`:                                                              "numbers[0]: 14.5 is not the number",
		`{"numbers": [14], "positions": [[0,0]]}`:                                                                  "positions: 2 numbers are no positions",
		`{"numbers": [14]}`: "positions: the field is missing",
		`{"numbers": [14], "positions": [[[[[[[[0]]]]]]]]}`:                                                      "nest too deep",
		`{"numbers": [14], "positions": [0,0,0], "cell": [1,2]}`:                                                 "cell: 2 numbers are no cell",
		`{"numbers": [14], "positions": [0,0,0], "constraints": [{"name":"FixAtoms","kwargs":{"indices":[3]}}]}`: "constraints: 3 is not the number of an atom",
		`{"numbers": [14, 14], "positions": [0,0,0,1,1,1], "initial_magmoms": [1,2,3]}`:                          "magmoms: 3 entries for 2 species",
	} {
		_, _, err := crystal.Read("", []byte(text), "")
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v, want %q", text, err, words)
		}
	}
}

func TestPymatgenJSONKeepsAllThatAStructureHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		back := written(t, s, crystal.WritePymatgen, "")
		if s.Lattice != nil {
			s.Positions, s.Cartesian = s.Frac(), false
		}
		if slices.Equal(s.Labels, s.Species) {
			s.Labels = nil // pymatgen's sites are labelled by their element when by nothing else
		}
		if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestASEJSONKeepsPositionsMomentsAndFixedCoordinates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		back := written(t, s, crystal.WriteASE, "")
		if s.Lattice != nil {
			s.Positions, s.Cartesian = s.Cart(), true
		}
		s.Labels, s.Velocities = nil, nil
		for i, el := range s.Species {
			if el == "D" {
				s.Species[i] = "H"
			}
		}
		if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzReadPymatgen(f *testing.F) {
	addSeeds(f, pymatgenSeed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadPymatgen(data)
		sound(t, s, err)
	})
}

func FuzzReadASE(f *testing.F) {
	addSeeds(f, aseSeed, `{"numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 1]], "cell": [3, 3, 3], "pbc": true}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadASE(data)
		sound(t, s, err)
	})
}
