package lammps

import (
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// dataReader reads a data file as read_data and write_data know it: the box,
// the masses, and the atoms of the common styles.
type dataReader struct {
	lines   lineWriter
	j       *journal // receives elements and masses
	s       *snapshot
	section string
	style   string
	units   string
	begun   bool // the first line, a comment, has been read
	box     [6]float64
	tilt    [3]float64
	hasBox  [3]bool
	labels  map[string]int // type labels
	failed  bool
}

// readData reads a data file; the snapshot is nil when its atoms are not all
// there or their style is not known.
func readData(files fs.FS, name string, j *journal) (*snapshot, string, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	d := &dataReader{j: j, s: &snapshot{file: name}, labels: make(map[string]int)}
	d.lines.line = d.text
	if _, err := io.Copy(&d.lines, f); err != nil {
		return nil, "", err
	}
	d.lines.Flush()
	if d.failed || d.hasBox != [3]bool{true, true, true} || int64(len(d.s.sites)) != d.s.atoms {
		return nil, d.units, nil
	}
	d.s.origin = [3]float64{d.box[0], d.box[2], d.box[4]}
	d.s.cell = triclinic(d.box[1]-d.box[0], d.box[3]-d.box[2], d.box[5]-d.box[4], d.tilt[0], d.tilt[1], d.tilt[2])
	return d.s, d.units, nil
}

// sections are the headings of the data files whose lines are not skipped.
var sections = map[string]bool{"Masses": true, "Atoms": true, "Atom Type Labels": true}

func (d *dataReader) text(s string, whole bool) {
	if !d.begun {
		d.begun = true
		d.first(s)
		return
	}
	line, comment, _ := strings.Cut(s, "#")
	line = strings.TrimSpace(line)
	switch {
	case line == "":
	case line[0] >= 'A' && line[0] <= 'Z' && !strings.ContainsAny(line, "0123456789"):
		d.section, d.style = line, strings.TrimSpace(comment)
	case d.section == "":
		d.header(line)
	case !sections[d.section] || d.failed:
	case d.section == "Masses":
		if t, m, symbol, ok := massLine(s, d.labels); ok {
			d.j.setMass(t, m)
			if symbol != "" {
				d.j.setElement(t, symbol)
			}
		}
	case d.section == "Atom Type Labels":
		d.label(strings.Fields(line))
	default:
		d.failed = !whole || !d.atom(strings.Fields(line))
	}
}

// first reads "LAMMPS data file via write_data, version 3 Nov 2022, timestep = 12, units = metal".
func (d *dataReader) first(s string) {
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "timestep":
			d.s.step, _ = strconv.ParseInt(value, 10, 64)
		case "units":
			if isUnits(value) {
				d.units = value
			}
		}
	}
}

func (d *dataReader) header(line string) {
	f := strings.Fields(line)
	n := parseRow(f[:1], 1)
	if n == nil || len(f) < 2 {
		return
	}
	name := strings.Join(f[1:], " ")
	switch {
	case name == "atoms":
		if d.s.atoms = int64(n[0]); n[0] < 0 || n[0] > maxSites {
			d.failed = true
		}
	case len(f) == 4:
		d.bounds(f)
	case len(f) == 6 && f[3] == "xy" && f[4] == "xz" && f[5] == "yz":
		if t := parseRow(f[:3], 3); t != nil {
			d.tilt = [3]float64(t)
		}
	}
}

func (d *dataReader) bounds(f []string) {
	v := parseRow(f[:2], 2)
	for k, axis := range []string{"x", "y", "z"} {
		if v != nil && f[2] == axis+"lo" && f[3] == axis+"hi" {
			d.box[2*k], d.box[2*k+1], d.hasBox[k] = v[0], v[1], true
		}
	}
}

func (d *dataReader) label(f []string) {
	if len(f) != 2 || len(d.labels) >= maxTypes {
		return
	}
	t, err := strconv.Atoi(f[0])
	if err != nil {
		return
	}
	d.labels[f[1]] = t
	if isElement(f[1]) {
		d.j.setElement(t, f[1])
	}
}

// atomColumns says where the type and x stand in an Atoms line.
var atomColumns = map[string][2]int{
	"atomic": {1, 2}, "charge": {1, 3}, "bond": {2, 3}, "angle": {2, 3}, "molecular": {2, 3}, "full": {2, 4}, "sphere": {1, 4},
	"dipole": {1, 3}, "dpd": {1, 3}, "electron": {1, 5}, "ellipsoid": {1, 4}, "spin": {1, 2}, "hybrid": {1, 2},
	"line": {2, 5}, "tri": {2, 5}, "body": {1, 4}, "peri": {1, 4}, "mdpd": {1, 3}, "edpd": {1, 4},
}

// atom reads a line of the Atoms section. Without a style in the heading the
// number of columns tells the common ones apart.
func (d *dataReader) atom(f []string) bool {
	style, _, _ := strings.Cut(d.style, " ")
	at, known := atomColumns[style]
	if !known {
		switch len(f) {
		case 5, 8:
			at = atomColumns["atomic"]
		case 6, 9:
			at = atomColumns["charge"]
		case 7, 10:
			at = atomColumns["full"]
		default:
			return false
		}
	}
	if len(f) < at[1]+3 || int64(len(d.s.sites)) >= d.s.atoms {
		return false
	}
	x := parseRow(f[at[1]:at[1]+3], 3)
	id, err := strconv.ParseInt(f[0], 10, 64)
	kind, err2 := strconv.Atoi(f[at[0]])
	if err2 != nil {
		kind = d.labels[f[at[0]]]
	}
	if x == nil || err != nil || kind < 1 {
		return false
	}
	d.s.sites = append(d.s.sites, site{id: id, kind: kind, position: [3]float64(x)})
	return true
}
