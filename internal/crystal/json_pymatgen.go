package crystal

import (
	"encoding/json"
	"strings"
)

// ReadPymatgen reads the JSON form of a Structure or a Molecule of pymatgen.
// Of the properties of sites it keeps magmom, selective_dynamics, velocities
// (Å/fs) and labels; charges and oxidation states are not read.
func ReadPymatgen(data []byte) (s *Structure, warnings []string, err error) {
	j, err := newJSONReader(data)
	if err != nil {
		return nil, nil, err
	}
	r := &pymatgenReader{jsonReader: j}
	if err := r.structure(); err != nil {
		return nil, nil, err
	}
	s, err = r.finish()
	return s, r.warnings, err
}

type pymatgenReader struct {
	*jsonReader
	warnings []string
	sites    int
	labelled bool
	held     bool
	moments  int // sites that have one
	flagged  int
	moving   int
	cart     []Vector
	frac     int // sites that give fractional coordinates
}

func (r *pymatgenReader) structure() error {
	seen := false
	err := r.whole(func(name string) error {
		t, err := r.token()
		if err != nil {
			return err
		}
		switch at := fieldPath(name); name {
		case "lattice":
			return r.object(t, at, r.latticeField)
		case "sites":
			seen = true
			return r.list(t, at, r.site)
		case "charge":
			if n, ok := t.(json.Number); ok && strings.Trim(string(n), "-0.") != "" {
				r.warnings = append(r.warnings, "the charge "+short(string(n))+" is not read")
			}
		}
		return r.skip(t)
	})
	if err != nil {
		return err
	}
	if !seen {
		r.ps.field("sites", "the field is missing")
	}
	r.settle()
	return nil
}

func (r *pymatgenReader) latticeField(name string, t json.Token, at jsonPath) error {
	switch name {
	case "matrix":
		return r.lattice(t, at)
	case "pbc":
		periodic, err := r.flags(t, at)
		if periodic != [3]bool{true, true, true} {
			r.s.PBC = &periodic
		}
		return err
	}
	return r.skip(t)
}

// site reads one site. What only some sites have is a fault: a list of a
// Structure has an entry for each.
func (r *pymatgenReader) site(t json.Token, at jsonPath) error {
	var species, label string
	var frac, cart *Vector
	var moment *float64
	var fixed *[3]bool
	var velocity *Vector
	err := r.object(t, at, func(name string, t json.Token, at jsonPath) (err error) {
		switch name {
		case "species":
			species, err = r.species(t, at)
			return err
		case "abc":
			frac = new(Vector)
			*frac, err = r.vector(t, at)
			return err
		case "xyz":
			cart = new(Vector)
			*cart, err = r.vector(t, at)
			return err
		case "label":
			if text, ok := t.(string); ok {
				label = text
			}
			return r.skip(t)
		case "properties":
			return r.object(t, at, func(name string, t json.Token, at jsonPath) (err error) {
				switch {
				case t == nil:
				case name == "magmom" && t != json.Delim('{') && t != json.Delim('['):
					moment = new(float64)
					*moment, err = r.number(t, at)
					return err
				case name == "selective_dynamics":
					fixed = new([3]bool)
					*fixed, err = r.flags(t, at)
					for k := range fixed {
						fixed[k] = !fixed[k]
					}
					return err
				case name == "velocities":
					velocity = new(Vector)
					*velocity, err = r.vector(t, at)
					return err
				}
				return r.skip(t)
			})
		}
		return r.skip(t)
	})
	if err != nil {
		return err
	}
	r.add(at, species, label, frac, cart)
	if moment != nil {
		r.moments++
		r.s.Magmoms = append(r.s.Magmoms, *moment)
	}
	if fixed != nil {
		r.flagged++
		r.held = r.held || *fixed != [3]bool{}
		r.s.Fixed = append(r.s.Fixed, *fixed)
	}
	if velocity != nil {
		r.moving++
		r.s.Velocities = append(r.s.Velocities, *velocity)
	}
	return nil
}

// species reads the occupation of a site, which must be one whole atom.
func (r *pymatgenReader) species(t json.Token, at jsonPath) (string, error) {
	element, kinds, share := "", 0, 1.0
	err := r.list(t, at, func(t json.Token, at jsonPath) error {
		kinds++
		return r.object(t, at, func(name string, t json.Token, at jsonPath) (err error) {
			switch name {
			case "element":
				element, err = r.word(t, at)
				return err
			case "occu":
				share, err = r.number(t, at)
				return err
			}
			return r.skip(t)
		})
	})
	switch {
	case err != nil:
		return "", err
	case kinds != 1 || share != 1:
		r.wrong(at, "the site is shared by elements or partly empty: a simulation needs one atom on each site")
	}
	return element, nil
}

func (r *pymatgenReader) add(at jsonPath, species, label string, frac, cart *Vector) {
	if species == "" {
		r.wrong(at, "the site has no species")
	}
	if label == "" {
		label = species
	}
	r.labelled = r.labelled || label != species && !isOxidation(label, species)
	r.sites++
	r.s.Species = append(r.s.Species, species)
	r.s.Labels = append(r.s.Labels, label)
	switch {
	case frac != nil:
		r.frac++
		r.s.Positions = append(r.s.Positions, *frac)
	case cart != nil:
		r.s.Positions = append(r.s.Positions, *cart)
	default:
		r.wrong(at, "the site has no position: neither abc nor xyz")
		r.s.Positions = append(r.s.Positions, Vector{})
	}
}

// isOxidation reports whether a label says the state of its species, as Fe2+
// does: pymatgen labels sites so when nobody else does.
func isOxidation(label, species string) bool {
	state, ok := strings.CutPrefix(label, species)
	return ok && state != "" && strings.ContainsAny(state[len(state)-1:], "+-")
}

// settle decides what holds for all sites.
func (r *pymatgenReader) settle() {
	s := r.s
	switch {
	case r.frac == 0:
		s.Cartesian = s.Lattice != nil
	case s.Lattice == nil:
		r.ps.field("lattice", "the sites have fractional coordinates (abc), but there is no lattice")
	case r.frac < r.sites:
		r.ps.field("sites", "some sites have fractional coordinates (abc) and others none")
	}
	if !r.labelled {
		s.Labels = nil
	}
	r.complete("magmom", r.moments)
	r.complete("selective_dynamics", r.flagged)
	r.complete("velocities", r.moving)
	if !r.held {
		s.Fixed = nil
	}
}

func (r *pymatgenReader) complete(what string, n int) {
	if n > 0 && n < r.sites {
		r.ps.field("sites", "%d of %d sites have %s: give it to all or to none", n, r.sites, what)
	}
}
