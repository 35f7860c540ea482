package crystal

import (
	"fmt"
	"math"
	"strings"
)

// BandPath is a path through the Brillouin zone along its lines of high
// symmetry.
type BandPath struct {
	Lattice string // Bravais lattice and its variant, as in the source: "FCC", "BCT1"
	// Points by their labels, in fractions of the reciprocal vectors of the
	// structure; G is the centre of the zone.
	Points map[string]Vector
	// Lines are runs from point to point; between two of them the path jumps.
	Lines [][]string
}

// BandPath returns the path of W. Setyawan and S. Curtarolo, Comput. Mater. Sci.
// 49, 299 (2010), for the cubic, tetragonal, orthorhombic, hexagonal and
// rhombohedral lattices. The lattice is found within the tolerance, in Å. It
// is the one of the cell: that of a supercell gives the folded zone, so take
// the path of the primitive cell. The sites do not matter: where the crystal has
// fewer symmetries than its lattice, lines that the path leaves out may differ
// from those that it takes.
func (s *Structure) BandPath(tolerance float64) (*BandPath, error) {
	switch {
	case s.Lattice == nil:
		return nil, fmt.Errorf("band path of %s: %w", s.Formula(), errNoLattice)
	case s.Periodic() != [3]bool{true, true, true}:
		return nil, fmt.Errorf("band path of %s: it does not repeat in all directions", s.Formula())
	case !(tolerance > 0 && tolerance <= maxTolerance):
		return nil, fmt.Errorf("band path of %s: the tolerance %v is not between 0 and %v Å", s.Formula(), tolerance, maxTolerance)
	}
	cell, err := standardise(s.Lattice, tolerance)
	if err != nil {
		return nil, fmt.Errorf("band path of %s: %w", s.Formula(), err)
	}
	points, path := cell.zone()
	out := &BandPath{Lattice: cell.name, Points: map[string]Vector{}}
	inverse := cell.primitive.Inverse()
	for label, k := range points {
		var f Vector
		for j, v := range s.Lattice {
			// The lattices are one: the vectors differ by whole numbers.
			own := inverse.Cart(v)
			for i := range own {
				own[i] = math.Round(own[i])
			}
			f[j] = own.Dot(k)
		}
		out.Points[label] = f
	}
	for line := range strings.SplitSeq(path, "|") {
		out.Lines = append(out.Lines, strings.Fields(line))
	}
	return out, nil
}

// String is the path in one line: "G-X-W-K-G-L-U-W-L-K|U-X".
func (p *BandPath) String() string {
	lines := make([]string, len(p.Lines))
	for i, line := range p.Lines {
		lines[i] = strings.Join(line, "-")
	}
	return strings.Join(lines, "|")
}

// zone returns the points of the table, in the reciprocal vectors of its
// primitive cell, and the path through them.
func (c *standardCell) zone() (points map[string]Vector, path string) {
	const h, q = 0.5, 0.25
	switch c.name {
	case "CUB":
		return map[string]Vector{"G": {}, "M": {h, h, 0}, "R": {h, h, h}, "X": {0, h, 0}}, "G X M G R X|M R"
	case "FCC":
		return map[string]Vector{
			"G": {}, "K": {3. / 8, 3. / 8, 3. / 4}, "L": {h, h, h}, "U": {5. / 8, q, 5. / 8}, "W": {h, q, 3. / 4}, "X": {h, 0, h},
		}, "G X W K G L U W L K|U X"
	case "BCC":
		return map[string]Vector{"G": {}, "H": {h, -h, h}, "P": {q, q, q}, "N": {0, 0, h}}, "G H N G P H|P N"
	case "TET":
		return map[string]Vector{
			"G": {}, "A": {h, h, h}, "M": {h, h, 0}, "R": {0, h, h}, "X": {0, h, 0}, "Z": {0, 0, h},
		}, "G X M G Z R A Z|X R|M A"
	case "BCT1", "BCT2":
		return c.bodyCentredTetragonal()
	case "HEX":
		return map[string]Vector{
			"G": {}, "A": {0, 0, h}, "H": {1. / 3, 1. / 3, h}, "K": {1. / 3, 1. / 3, 0}, "L": {h, 0, h}, "M": {h, 0, 0},
		}, "G M K G A L H A|L M|K H"
	case "RHL1", "RHL2":
		return c.rhombohedral()
	}
	return c.orthorhombic()
}

func (c *standardCell) bodyCentredTetragonal() (points map[string]Vector, path string) {
	const h, q = 0.5, 0.25
	points = map[string]Vector{"G": {}, "N": {0, h, 0}, "P": {q, q, q}, "X": {0, 0, h}}
	if c.name == "BCT1" {
		eta := (1 + c.c*c.c/(c.a*c.a)) / 4
		points["M"], points["Z"], points["Z1"] = Vector{-h, h, h}, Vector{eta, eta, -eta}, Vector{-eta, 1 - eta, eta}
		return points, "G X M G Z P N Z1 M|X P"
	}
	eta, zeta := (1+c.a*c.a/(c.c*c.c))/4, c.a*c.a/(2*c.c*c.c)
	points["S"], points["S1"] = Vector{-eta, eta, eta}, Vector{eta, 1 - eta, -eta}
	points["Y"], points["Y1"], points["Z"] = Vector{-zeta, zeta, h}, Vector{h, h, -zeta}, Vector{h, h, -h}
	return points, "G X Y S G Z S1 N P Y1 Z|X P"
}

func (c *standardCell) rhombohedral() (points map[string]Vector, path string) {
	const h = 0.5
	if c.name == "RHL1" {
		cos := math.Cos(c.alpha)
		eta := (1 + 4*cos) / (2 + 4*cos)
		nu := 3./4 - eta/2
		return map[string]Vector{
			"G": {}, "B": {eta, h, 1 - eta}, "B1": {h, 1 - eta, eta - 1}, "F": {h, h, 0}, "L": {h, 0, 0}, "L1": {0, 0, -h}, "P": {eta, nu, nu},
			"P1": {1 - nu, 1 - nu, 1 - eta}, "P2": {nu, nu, eta - 1}, "Q": {1 - nu, nu, 0}, "X": {nu, 0, -nu}, "Z": {h, h, h},
		}, "G L B1|B Z G X|Q F P1 Z|L P"
	}
	tan := math.Tan(c.alpha / 2)
	eta := 1 / (2 * tan * tan)
	nu := 3./4 - eta/2
	return map[string]Vector{
		"G": {}, "F": {h, -h, 0}, "L": {h, 0, 0}, "P": {1 - nu, -nu, 1 - nu}, "P1": {nu, nu - 1, nu - 1},
		"Q": {eta, eta, eta}, "Q1": {1 - eta, -eta, -eta}, "Z": {h, -h, h},
	}, "G P Z Q G F P1 Q1 L Z"
}

func (c *standardCell) orthorhombic() (points map[string]Vector, path string) {
	const h, q = 0.5, 0.25
	a2, b2, c2 := c.a*c.a, c.b*c.b, c.c*c.c
	switch c.name {
	case "ORC":
		return map[string]Vector{
			"G": {}, "R": {h, h, h}, "S": {h, h, 0}, "T": {0, h, h}, "U": {h, 0, h}, "X": {h, 0, 0}, "Y": {0, h, 0}, "Z": {0, 0, h},
		}, "G X S Y G Z U R T Z|Y T|U X|S R"
	case "ORCC":
		zeta := (1 + a2/b2) / 4
		return map[string]Vector{
			"G": {}, "A": {zeta, zeta, h}, "A1": {-zeta, 1 - zeta, h}, "R": {0, h, h}, "S": {0, h, 0}, "T": {-h, h, h},
			"X": {zeta, zeta, 0}, "X1": {-zeta, 1 - zeta, 0}, "Y": {-h, h, 0}, "Z": {0, 0, h},
		}, "G X S R A Z G Y X1 A1 T Y|Z T"
	case "ORCI":
		zeta, eta, delta, mu := (1+a2/c2)/4, (1+b2/c2)/4, (b2-a2)/(4*c2), (a2+b2)/(4*c2)
		return map[string]Vector{
			"G": {}, "L": {-mu, mu, h - delta}, "L1": {mu, -mu, h + delta}, "L2": {h - delta, h + delta, -mu}, "R": {0, h, 0}, "S": {h, 0, 0},
			"T": {0, 0, h}, "W": {q, q, q}, "X": {-zeta, zeta, zeta}, "X1": {zeta, 1 - zeta, -zeta},
			"Y": {eta, -eta, eta}, "Y1": {1 - eta, eta, -eta}, "Z": {h, h, -h},
		}, "G X L T W R X1 Z G Y S W|L1 Y|Y1 Z"
	case "ORCF2":
		eta, delta, phi := (1+a2/b2-a2/c2)/4, (1+b2/a2-b2/c2)/4, (1+c2/b2-c2/a2)/4
		return map[string]Vector{
			"G": {}, "C": {h, h - eta, 1 - eta}, "C1": {h, h + eta, eta}, "D": {h - delta, h, 1 - delta}, "D1": {h + delta, h, delta},
			"L": {h, h, h}, "H": {1 - phi, h - phi, h}, "H1": {phi, h + phi, h}, "X": {0, h, h}, "Y": {h, 0, h}, "Z": {h, h, 0},
		}, "G Y C D X G Z D1 H C|C1 Z|X H1|H Y|L G"
	}
	zeta, eta := (1+a2/b2-a2/c2)/4, (1+a2/b2+a2/c2)/4
	path = "G Y T Z G X A1 Y|T X1|X A Z|L G"
	if c.name == "ORCF3" {
		path = "G Y T Z G X A1 Y|X A Z|L G"
	}
	return map[string]Vector{
		"G": {}, "A": {h, h + zeta, zeta}, "A1": {h, h - zeta, 1 - zeta}, "L": {h, h, h}, "T": {1, h, h},
		"X": {0, eta, eta}, "X1": {1, 1 - eta, 1 - eta}, "Y": {h, 0, h}, "Z": {h, h, 0},
	}, path
}
