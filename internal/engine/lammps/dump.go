package lammps

import (
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
)

// dumpTail is how much of the end of a trajectory is searched for its last
// frame first: one of 100 000 atoms fits.
const dumpTail = 16 << 20

// dumpReader keeps the last whole frame of a text dump.
type dumpReader struct {
	lines   lineWriter
	last    *snapshot
	frame   *snapshot
	item    string
	columns []string
	bounds  [][]float64
	oblique bool
	general bool  // general triclinic: three vectors and the origin
	left    int64 // lines missing of the frame; negative when its number of atoms is not known
}

// readDump returns the last whole frame of a dump file, nil when it has none;
// whole is false when the file stops in the middle of a frame.
func readDump(files fs.FS, name string) (s *snapshot, whole bool) {
	f, err := files.Open(name)
	if err != nil {
		return nil, true
	}
	defer f.Close()
	seeker, _ := f.(io.Seeker)
	size := int64(0)
	if info, err := f.Stat(); err == nil && seeker != nil {
		size = info.Size()
	}
	for tail := int64(dumpTail); ; tail *= 4 {
		if seeker != nil {
			if _, err := seeker.Seek(max(0, size-tail), io.SeekStart); err != nil {
				return nil, true
			}
		}
		d := &dumpReader{}
		d.lines.line = d.text
		// A file that stops being readable is one that was cut there.
		_, err := io.Copy(&d.lines, f)
		d.lines.Flush()
		if d.last != nil {
			d.last.file = name
		}
		if d.last != nil || tail >= size {
			return d.last, err == nil && d.left == 0
		}
	}
}

func (d *dumpReader) text(s string, whole bool) {
	if item, ok := strings.CutPrefix(s, "ITEM: "); ok {
		d.head(strings.TrimSpace(item))
		return
	}
	if !whole {
		d.frame, d.left = nil, -1
		return
	}
	if d.item == "ATOMS" && d.left > 0 {
		d.left--
	}
	if d.frame == nil {
		return
	}
	switch d.item {
	case "TIMESTEP":
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			d.frame.step = n
		}
	case "NUMBER OF ATOMS":
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil || n < 0 {
			d.frame = nil
			return
		}
		d.frame.atoms, d.left = n, n
	case "BOX":
		if d.bounds = append(d.bounds, numbers(s)); len(d.bounds) == 3 && !d.box() || len(d.bounds) > 3 {
			d.frame = nil
		}
	case "ATOMS":
		d.atom(strings.Fields(s))
	}
}

func (d *dumpReader) head(item string) {
	d.item = item
	names, isAtoms := strings.CutPrefix(item, "ATOMS")
	flags, isBox := strings.CutPrefix(item, "BOX BOUNDS")
	switch {
	case item == "TIMESTEP":
		d.frame, d.bounds, d.left = &snapshot{dumped: true}, nil, -1
	case isAtoms:
		d.item, d.columns = "ATOMS", strings.Fields(names)
		if d.left == 0 && d.frame != nil {
			d.last, d.frame = d.frame, nil
		}
	case isBox && d.frame != nil:
		d.item = "BOX"
		d.boxFlags(strings.Fields(flags))
	}
}

// boxFlags reads "xy xz yz pp pp ff" or "abc origin pp pp pp".
func (d *dumpReader) boxFlags(w []string) {
	d.oblique = slices.Contains(w, "xy")
	d.general = slices.Contains(w, "abc")
	if len(w) >= 3 {
		for i, b := range w[len(w)-3:] {
			d.frame.periodic[i] = b == "pp"
		}
		d.frame.bounded = len(w[len(w)-1]) == 2 && w[len(w)-1] != "yz"
	}
}

// box turns the three lines of bounds into a cell. The bounds of an oblique
// cell are those of the box around it: the tilts reach beyond its edges.
func (d *dumpReader) box() bool {
	want := 2
	if d.general {
		want = 4
	} else if d.oblique {
		want = 3
	}
	for _, b := range d.bounds {
		if len(b) < want {
			return false
		}
	}
	f, b := d.frame, d.bounds
	if d.general {
		for i := range 3 {
			f.cell[i], f.origin[i] = crystal.Vector(b[i][:3]), b[i][3]
		}
		return true
	}
	var xy, xz, yz float64
	if d.oblique {
		xy, xz, yz = b[0][2], b[1][2], b[2][2]
	}
	xlo, xhi := b[0][0]-min(0, xy, xz, xy+xz), b[0][1]-max(0, xy, xz, xy+xz)
	ylo, yhi := b[1][0]-min(0, yz), b[1][1]-max(0, yz)
	f.origin = crystal.Vector{xlo, ylo, b[2][0]}
	f.cell = triclinic(xhi-xlo, yhi-ylo, b[2][1]-b[2][0], xy, xz, yz)
	return true
}

func (d *dumpReader) atom(w []string) {
	if len(w) != len(d.columns) {
		d.frame = nil
		return
	}
	a := site{id: d.frame.atoms - d.left}
	var has, forces [3]bool
	for i, c := range d.columns {
		v, number := parseNumber(w[i])
		switch c {
		case "id":
			a.id = int64(v)
		case "type":
			a.kind = int(v)
		case "element":
			if isElement(w[i]) {
				a.element = w[i]
			}
		case "x", "y", "z", "xu", "yu", "zu", "xs", "ys", "zs", "xsu", "ysu", "zsu":
			k := int(c[0] - 'x')
			if has[k] || !number {
				continue
			}
			has[k] = true
			d.place(&a, k, v, strings.Contains(c, "s"))
		case "fx", "fy", "fz":
			k := int(c[1] - 'x')
			a.force[k], forces[k] = v, number
		}
	}
	if has != [3]bool{true, true, true} {
		d.frame = nil
		return
	}
	d.frame.forces = forces == [3]bool{true, true, true}
	d.frame.add(a)
	if d.left == 0 {
		d.last, d.frame = d.frame, nil
	}
}

// place sets a coordinate; a scaled one adds its share of the cell vector.
func (d *dumpReader) place(a *site, k int, v float64, scaled bool) {
	if !scaled {
		a.position[k] += v
		return
	}
	if k == 0 {
		for i := range 3 {
			a.position[i] += d.frame.origin[i]
		}
	}
	for i := range 3 {
		a.position[i] += v * d.frame.cell[k][i]
	}
}
