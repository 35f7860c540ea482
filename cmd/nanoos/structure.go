package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/job"
)

// What the commands take when nobody says otherwise.
const (
	// defaultSpacing between k-points in 1/Å, with the 2π, suits semiconductors
	// with smeared or fixed occupations; metals want about half.
	defaultSpacing = 0.25
	// defaultTolerance in Å is above the noise of relaxations and below every
	// distortion that matters.
	defaultTolerance = 0.01
)

func newStructureNoun(a *app) *cobra.Command {
	noun := nounCommand("structure", "structures", "Structures: read a structure file, describe it, convert it.", `nanoos structure show POSCAR
nanoos structure convert quartz.cif POSCAR
nanoos structure convert POSCAR big.data --format lammps-data --supercell 2x2x2`)
	noun.AddCommand(newStructureShow(a), newStructureConvert(a))
	return noun
}

// structureDescription is what there is to say of a structure.
type structureDescription struct {
	APIVersion string                `json:"apiVersion"`
	Kind       string                `json:"kind"` // "Structure"
	File       string                `json:"file"`
	Formula    string                `json:"formula"`
	Reduced    string                `json:"reduced_formula"`
	NAtoms     int                   `json:"n_atoms"`
	Cell       *cellDescription      `json:"cell,omitempty"`
	Primitive  *primitiveDescription `json:"primitive,omitempty"`
	Nearest    *contactDescription   `json:"nearest,omitempty"`
	Close      []contactDescription  `json:"close,omitempty"` // nearer than atoms come
	KMesh      *meshDescription      `json:"k_mesh,omitempty"`
	Hash       string                `json:"hash"`
	Warnings   []string              `json:"warnings,omitempty"`
	Structure  *crystal.Structure    `json:"structure"`
}

type cellDescription struct {
	A        float64 `json:"a_A"`
	B        float64 `json:"b_A"`
	C        float64 `json:"c_A"`
	Alpha    float64 `json:"alpha_deg"`
	Beta     float64 `json:"beta_deg"`
	Gamma    float64 `json:"gamma_deg"`
	Volume   float64 `json:"volume_A3"`
	Density  float64 `json:"density_g_per_cm3"`
	Periodic [3]bool `json:"pbc"`
}

// primitiveDescription is the primitive cell as --primitive writes it, and the
// band path in its reciprocal vectors.
type primitiveDescription struct {
	NAtoms  int              `json:"n_atoms"`
	Volume  float64          `json:"volume_A3"`
	Lattice crystal.Matrix   `json:"lattice"`
	Path    *pathDescription `json:"band_path,omitempty"`
}

type pathDescription struct {
	Bravais string                    `json:"bravais_lattice"`
	Points  map[string]crystal.Vector `json:"points"`
	Lines   [][]string                `json:"lines"`
}

type contactDescription struct {
	Distance float64   `json:"distance_A"`
	Sites    [2]int    `json:"sites"` // counted from 1
	Elements [2]string `json:"elements"`
}

type meshDescription struct {
	Spacing float64 `json:"spacing_per_A"`
	Mesh    [3]int  `json:"mesh"`
}

func newStructureShow(a *app) *cobra.Command {
	var format string
	spacing, tolerance := defaultSpacing, defaultTolerance
	cmd := &cobra.Command{
		Use: "show FILE", Aliases: []string{"get"}, Short: "Describe a structure file: cell, formula, density, distances, a k-mesh.",
		Long: `The format is recognised by the name of the file or its content; - reads standard
input. The distance between k-points is in 1/Å, with the 2π included.`,
		Args: exactArgs(1, "the name of a structure file"),
		Example: `nanoos structure show POSCAR
nanoos structure show quartz.cif --spacing 0.15
nanoos structure show pw.in -o json | jq .k_mesh.mesh`,
		RunE: func(_ *cobra.Command, args []string) error {
			s, warnings, err := a.readStructure(args[0], format)
			if err != nil {
				return err
			}
			doc, err := describeStructure(args[0], s, spacing, tolerance)
			if err != nil {
				return err
			}
			doc.Warnings = append(warnings, doc.Warnings...)
			return a.showStructure(doc)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT` of the file, instead of recognising it")
	cmd.Flags().Float64Var(&spacing, "spacing", spacing, "largest distance of neighbouring k-points, `1/Å`")
	cmd.Flags().Float64Var(&tolerance, "tolerance", tolerance, "distance in `Å` within which sites are the same, for the primitive cell")
	group(cmd, "Reading", "format", "spacing", "tolerance")
	completeFormats(cmd, "format")
	return cmd
}

// readStructure reads a file, or standard input for "-".
func (a *app) readStructure(path, format string) (*crystal.Structure, []string, error) {
	if _, err := crystal.ParseFormat(format); err != nil {
		return nil, nil, formatMistake(format)
	}
	in, name := a.io.in, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, unreadable(path, err)
		}
		defer f.Close()
		in, name = f, path
	}
	// One byte more than a reader takes, so that it says what is wrong.
	data, err := io.ReadAll(io.LimitReader(in, crystal.MaxFileSize+1))
	if err != nil {
		return nil, nil, unreadable(name, err)
	}
	s, warnings, err := crystal.Read(name, data, format)
	if pe, ok := errors.AsType[*crystal.ParseError](err); ok {
		var problems []job.Problem
		for _, p := range pe.Problems {
			problems = append(problems, job.Problem{File: name, Line: p.Line, Column: p.Column, Field: p.Field, Message: p.Message, Fix: p.Fix})
		}
		return nil, nil, job.InvalidInput("cannot read "+name, problems)
	}
	return s, warnings, err
}

func formatMistake(word string) error {
	fix := didYouMean(word, func(yield func(string) bool) {
		for _, f := range crystal.Formats {
			if !yield(string(f)) {
				return
			}
		}
	})
	_, err := crystal.ParseFormat(word)
	return usage(fix, "%v", err)
}

func completeFormats(cmd *cobra.Command, flags ...string) {
	var words []string
	for _, f := range crystal.Formats {
		words = append(words, string(f))
	}
	for _, flag := range flags {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

func describeStructure(file string, s *crystal.Structure, spacing, tolerance float64) (*structureDescription, error) {
	doc := &structureDescription{
		APIVersion: api.Version, Kind: "Structure", File: file, Structure: s,
		Formula: s.Formula(), Reduced: s.Reduced(), NAtoms: s.NAtoms(), Hash: s.Hash(),
	}
	contact := func(c crystal.Contact) contactDescription {
		return contactDescription{c.Distance, [2]int{c.I + 1, c.J + 1}, [2]string{s.Species[c.I], s.Species[c.J]}}
	}
	if d, i, j := s.MinDistance(); i >= 0 {
		nearest := contact(crystal.Contact{I: i, J: j, Distance: d})
		doc.Nearest = &nearest
	}
	for _, c := range s.Close(crystal.CloseFactor) {
		doc.Close = append(doc.Close, contact(c))
	}
	if n := len(doc.Close); n > 0 {
		doc.Warnings = append(doc.Warnings, fmt.Sprintf("%s nearer than half the sum of their radii: check the units and the positions", plural(n, "pair of atoms is", "pairs of atoms are")))
	}
	if s.Lattice == nil {
		return doc, nil
	}
	c := &cellDescription{Volume: s.Volume(), Density: s.Density(), Periodic: s.Periodic()}
	c.A, c.B, c.C, c.Alpha, c.Beta, c.Gamma = s.Lattice.Parameters()
	doc.Cell = c
	mesh, err := s.KMesh(spacing)
	if err != nil {
		return nil, usage("--spacing 0.25", "%v", err)
	}
	doc.KMesh = &meshDescription{spacing, mesh}
	primitive, err := s.Primitive(tolerance)
	if err != nil {
		doc.Warnings = append(doc.Warnings, err.Error())
		return doc, nil
	}
	doc.Primitive = &primitiveDescription{NAtoms: primitive.NAtoms(), Volume: primitive.Volume(), Lattice: *primitive.Lattice}
	// Not every lattice has a path; one without it is described all the same.
	if path, err := primitive.BandPath(tolerance); err == nil {
		doc.Primitive.Path = &pathDescription{path.Lattice, path.Points, path.Lines}
	}
	return doc, nil
}

// plural writes a number with the words for one and for several.
func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + several
}

func (a *app) showStructure(doc *structureDescription) error {
	if a.data() {
		return show(a, listing[*structureDescription]{doc: doc, rows: []*structureDescription{doc}, columns: structureColumns(),
			id: func(d **structureDescription) string { return (*d).Hash }})
	}
	c := a.cells()
	fields := []field{{name: "formula", value: doc.Formula}, {name: "atoms", value: strconv.Itoa(doc.NAtoms)}}
	if doc.Reduced != doc.Formula {
		fields[0].value += " (" + doc.Reduced + ")"
	}
	if cell := doc.Cell; cell != nil {
		fields = append(fields,
			field{name: "cell", value: fmt.Sprintf("a %.4f  b %.4f  c %.4f %s", cell.A, cell.B, cell.C, c.unit("Å"))},
			field{name: "angles", value: fmt.Sprintf("alpha %.3f  beta %.3f  gamma %.3f", cell.Alpha, cell.Beta, cell.Gamma)},
			field{name: "volume", value: fmt.Sprintf("%.4f %s", cell.Volume, c.unit("Å³"))},
			field{name: "density", value: fmt.Sprintf("%.4f %s", cell.Density, c.unit("g/cm³"))},
			field{name: "repeats", value: repeats(cell.Periodic)})
	} else {
		fields = append(fields, field{name: "cell", value: "none: atoms in free space"})
	}
	if p := doc.Primitive; p != nil {
		value := "this cell"
		if p.NAtoms < doc.NAtoms {
			value = fmt.Sprintf("%d atoms, %.4f %s", p.NAtoms, p.Volume, c.unit("Å³"))
		}
		fields = append(fields, field{name: "primitive", value: value})
		if path := p.Path; path != nil {
			lines := make([]string, len(path.Lines))
			for i, line := range path.Lines {
				lines[i] = strings.Join(line, "-")
			}
			fields = append(fields, field{name: "band path", value: strings.Join(lines, "|") + " (" + path.Bravais + ")"})
		}
	}
	if n := doc.Nearest; n != nil {
		fields = append(fields, field{name: "nearest", value: contactWords(c, *n)})
	}
	for _, n := range doc.Close {
		fields = append(fields, field{name: "too close", value: contactWords(c, n), tone: red})
	}
	if k := doc.KMesh; k != nil {
		fields = append(fields, field{name: "k-mesh", value: fmt.Sprintf("%dx%dx%d (at most %v 1/%s apart)", k.Mesh[0], k.Mesh[1], k.Mesh[2], k.Spacing, c.unit("Å"))})
	}
	fields = append(fields, field{name: "hash", value: doc.Hash})
	if _, err := io.WriteString(a.io.out, renderFields(a.outScreen(), fields)); err != nil {
		return err
	}
	for _, w := range doc.Warnings {
		a.note("warning: %s", w)
	}
	return nil
}

func repeats(pbc [3]bool) string {
	var along []string
	for k, p := range pbc {
		if p {
			along = append(along, string(rune('a'+k)))
		}
	}
	if len(along) == 0 {
		return "nowhere"
	}
	return "along " + strings.Join(along, ", ")
}

func contactWords(c *cells, n contactDescription) string {
	return fmt.Sprintf("%.4f %s between %s (site %d) and %s (site %d)", n.Distance, c.unit("Å"), n.Elements[0], n.Sites[0], n.Elements[1], n.Sites[1])
}

// structureColumns make one line of a structure, for csv.
func structureColumns() []column[*structureDescription] {
	text := func(name string, get func(*structureDescription) string) column[*structureDescription] {
		return column[*structureDescription]{name: name, cell: func(_ *cells, d **structureDescription) string { return get(*d) }}
	}
	ofCell := func(get func(*cellDescription) float64) func(*structureDescription) string {
		return func(d *structureDescription) string {
			if d.Cell == nil {
				return ""
			}
			return trimZeros(get(d.Cell))
		}
	}
	return []column[*structureDescription]{
		text("file", func(d *structureDescription) string { return d.File }),
		text("formula", func(d *structureDescription) string { return d.Formula }),
		text("n_atoms", func(d *structureDescription) string { return strconv.Itoa(d.NAtoms) }),
		text("volume_a3", ofCell(func(c *cellDescription) float64 { return c.Volume })),
		text("density_g_per_cm3", ofCell(func(c *cellDescription) float64 { return c.Density })),
		text("nearest_a", func(d *structureDescription) string {
			if d.Nearest == nil {
				return ""
			}
			return trimZeros(d.Nearest.Distance)
		}),
		text("hash", func(d *structureDescription) string { return d.Hash }),
	}
}
