package crystal

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"slices"
)

// maxShifted bounds the work of finding a common origin: the sites that may
// become it times all sites. 512 equal atoms take 0.1 s.
const maxShifted = 1 << 18

// Hash returns the canonical SHA-256 of a valid structure, in hexadecimal. Two
// structures have the same hash if a calculation cannot tell them apart, that
// is, when they differ only by
//
//   - the order of the sites,
//   - lattice vectors added to sites, along the directions that repeat,
//   - the form of the coordinates, fractional or cartesian,
//   - fields that are absent or say what absence means,
//   - noise well below 1e-7 of a cell, Å, Å/fs or µB, as arithmetic makes:
//     numbers are rounded to 1e-5, and only the rare number that lies at a
//     border between two results is moved across it by noise,
//   - a common shift of all sites, in structures that repeat in all directions
//     or in none, as long as the sites of the rarest kind times all sites are
//     no more than 262144: those of a kind have equal element, label, moment,
//     fixed coordinates and velocity.
//
// It depends on the directions of the cell vectors and on their choice: a
// supercell, another cell of the same crystal and a turned one have other
// hashes, for their results are other numbers. Whoever shares a result by the
// hash must mind that its sites may stand in another order.
func (s *Structure) Hash() string {
	h := sha256.New()
	periodic := s.Periodic()
	writeInts(h, hashVersion)
	for k, p := range periodic {
		writeInts(h, int64(k), boolInt(p))
	}
	if s.Lattice != nil {
		for _, v := range s.Lattice {
			writeInts(h, rounded(v[0]), rounded(v[1]), rounded(v[2]))
		}
	}
	kinds := s.kinds()
	for _, k := range kinds {
		h.Write([]byte(k.element + " " + k.label + "\n"))
		writeInts(h, k.moment, k.fixed, k.velocity[0], k.velocity[1], k.velocity[2], int64(len(k.sites)))
	}
	for _, p := range s.canonicalPositions(kinds, periodic) {
		writeInts(h, p[0], p[1], p[2], p[3])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashVersion changes when equal structures would get another hash.
const hashVersion = 1

// siteKind is all there is to a site but its position.
type siteKind struct {
	siteTraits
	sites []int
}

type siteTraits struct {
	element, label string
	moment, fixed  int64
	velocity       [3]int64
}

// kinds sorts the sites into kinds, and the kinds into one order.
func (s *Structure) kinds() []siteKind {
	index := map[siteTraits]int{}
	var out []siteKind
	for i := range s.Species {
		t := s.traits(i)
		at, ok := index[t]
		if !ok {
			at = len(out)
			index[t] = at
			out = append(out, siteKind{siteTraits: t})
		}
		out[at].sites = append(out[at].sites, i)
	}
	slices.SortFunc(out, func(a, b siteKind) int { return a.compare(b.siteTraits) })
	return out
}

func (s *Structure) traits(i int) siteTraits {
	t := siteTraits{element: s.Species[i]}
	if s.Labels != nil {
		t.label = s.Labels[i]
	}
	if s.Magmoms != nil {
		t.moment = rounded(s.Magmoms[i])
	}
	if s.Fixed != nil {
		for k, fixed := range s.Fixed[i] {
			t.fixed |= boolInt(fixed) << k
		}
	}
	if s.Velocities != nil {
		for k, v := range s.Velocities[i] {
			t.velocity[k] = rounded(v)
		}
	}
	return t
}

func (t siteTraits) compare(u siteTraits) int {
	return cmp.Or(cmp.Compare(t.element, u.element), cmp.Compare(t.label, u.label), cmp.Compare(t.moment, u.moment),
		cmp.Compare(t.fixed, u.fixed), slices.Compare(t.velocity[:], u.velocity[:]))
}

// canonicalPositions returns the kind and the rounded position of every site,
// sorted. Of all origins at a site of the rarest kind it takes the one that
// sorts first; a crystal that looks the same from several sites looks the same
// from each.
func (s *Structure) canonicalPositions(kinds []siteKind, periodic [3]bool) [][4]int64 {
	positions := s.Frac()
	if positions == nil {
		positions = s.Cart()
	}
	rarest := slices.MinFunc(kinds, func(a, b siteKind) int { return cmp.Compare(len(a.sites), len(b.sites)) })
	uniform := periodic[0] == periodic[1] && periodic[1] == periodic[2]
	if !uniform || len(rarest.sites) > maxShifted/len(positions) {
		return seenFrom(Vector{}, positions, kinds, periodic)
	}
	var best [][4]int64
	for _, origin := range rarest.sites {
		seen := seenFrom(positions[origin], positions, kinds, periodic)
		if best == nil || slices.CompareFunc(seen, best, comparePositions) < 0 {
			best = seen
		}
	}
	return best
}

func seenFrom(origin Vector, positions []Vector, kinds []siteKind, periodic [3]bool) [][4]int64 {
	out := make([][4]int64, 0, len(positions))
	for kind, k := range kinds {
		for _, i := range k.sites {
			p := [4]int64{int64(kind)}
			for axis, x := range positions[i].sub(origin) {
				p[axis+1] = rounded(x)
				if periodic[axis] {
					p[axis+1] = rounded(wrap(x)) % roundedOne
				}
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePositions)
	return out
}

func comparePositions(a, b [4]int64) int { return slices.Compare(a[:], b[:]) }

// roundedOne is the rounded form of 1, which is 0 where space repeats.
const roundedOne = 100_000

// rounded returns x in units of 1e-5, rounded. The borders between two results
// lie at 0.4364 of a unit above one and not in the middle, where short decimals
// and 1/64 are: noise never moves a simple fraction across them.
func rounded(x float64) int64 {
	return int64(math.Floor(x*roundedOne + (1 - 0.4364)))
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func writeInts(h hash.Hash, list ...int64) {
	var buf [8]byte
	for _, n := range list {
		binary.BigEndian.PutUint64(buf[:], uint64(n))
		h.Write(buf[:])
	}
}
