package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/job"
)

// conversion is what a structure goes through between two files.
type conversion struct {
	from, to  string // formats; empty means recognised
	supercell string
	primitive bool
	tolerance float64
	force     bool
}

func newStructureConvert(a *app) *cobra.Command {
	conv := conversion{tolerance: defaultTolerance}
	cmd := &cobra.Command{
		Use: "convert FILE OUT", Short: "Write a structure in another format, as a supercell or as its primitive cell.",
		Long: `The formats go by the names of the files, or by --from and --format; - is standard
input or output. What the new format has no place for is named. The primitive
cell is made before the supercell.`,
		Args: exactArgs(2, "two files, the one to read and the one to write"),
		Example: `nanoos structure convert quartz.cif POSCAR
nanoos structure convert POSCAR big.data --format lammps-data --supercell 2x2x2
nanoos structure convert relaxed.xyz - --format cif --primitive`,
		RunE: func(_ *cobra.Command, args []string) error { return a.convertStructure(args[0], args[1], conv) },
	}
	cmd.Flags().StringVar(&conv.to, "format", "", "`FORMAT` to write, instead of the one that the name says")
	cmd.Flags().StringVar(&conv.from, "from", "", "`FORMAT` of the file, instead of recognising it")
	cmd.Flags().StringVar(&conv.supercell, "supercell", "", "repeat the cell, as in `2x2x1`")
	cmd.Flags().BoolVar(&conv.primitive, "primitive", false, "write the primitive cell")
	cmd.Flags().Float64Var(&conv.tolerance, "tolerance", conv.tolerance, "distance in `Å` within which sites are the same, for the primitive cell")
	cmd.Flags().BoolVar(&conv.force, "force", false, "write over a file that exists")
	group(cmd, "Formats", "format", "from")
	group(cmd, "Changes", "supercell", "primitive", "tolerance")
	completeFormats(cmd, "format", "from")
	return cmd
}

func (a *app) convertStructure(from, to string, conv conversion) error {
	format, err := writtenFormat(to, conv.to)
	if err != nil {
		return err
	}
	times, err := parseSupercell(conv.supercell)
	if err != nil {
		return err
	}
	s, warnings, err := a.readStructure(from, conv.from)
	if err != nil {
		return err
	}
	if conv.primitive {
		if s, err = s.Primitive(conv.tolerance); err != nil {
			return &job.Error{Code: job.Invalid, Message: err.Error(), Fix: "leave out --primitive, or choose another --tolerance", Err: err}
		}
	}
	if times != [3]int{1, 1, 1} {
		if s, err = s.Supercell(times[0], times[1], times[2]); err != nil {
			return &job.Error{Code: job.Invalid, Message: err.Error(), Fix: "leave out --supercell, or repeat less often", Err: err}
		}
	}
	text, err := crystal.Write(s, format)
	if err != nil {
		return &job.Error{Code: job.Invalid, Message: err.Error(), Fix: "choose another --format: xyz and json hold every structure", Err: err}
	}
	if lost := format.Losses(s); len(lost) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s has no place for what the structure holds: %s", format, strings.Join(lost, ", ")))
	}
	for _, w := range warnings {
		a.note("warning: %s", w)
	}
	if to == "-" {
		_, err := a.io.out.Write(text)
		return err
	}
	if err := writeNew(to, text, conv.force); err != nil {
		return err
	}
	a.note("%s: %s, %s, as %s", to, s.Formula(), plural(s.NAtoms(), "atom", "atoms"), format)
	return nil
}

// writtenFormat is the one asked for, or the one that the name of the file says.
func writtenFormat(path, asked string) (crystal.Format, error) {
	f, err := crystal.ParseFormat(asked)
	if err != nil {
		return "", formatMistake(asked)
	}
	if f == "" && path != "-" {
		f = crystal.FormatOfName(path)
	}
	if f == "" {
		return "", usage("name it: --format cif", "the format to write cannot be told from the name %s", path)
	}
	return f, nil
}

// parseSupercell reads "2x2x1"; empty is the cell itself.
func parseSupercell(text string) (times [3]int, err error) {
	if text == "" {
		return [3]int{1, 1, 1}, nil
	}
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == 'x' || r == 'X' || r == '×' || r == ',' })
	if len(parts) != 3 {
		return times, usage("--supercell 2x2x1", "the supercell %q is not three numbers", text)
	}
	for k, part := range parts {
		if times[k], err = strconv.Atoi(part); err != nil || times[k] < 1 {
			return times, usage("--supercell 2x2x1", "the supercell %q is not three numbers from 1 on", text)
		}
	}
	return times, nil
}

// writeNew writes a file, and writes over one only when told to.
func writeNew(path string, text []byte, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &job.Error{Code: job.Conflict, Message: path + " exists", Fix: "choose another name, or write over it with --force"}
	}
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return &job.Error{Code: job.Invalid, Message: "cannot write " + path, Why: plainError(err), Fix: "name a file in a directory that can be written", Err: err}
	}
	return nil
}
