package vasp

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Bounds of the search for a run's files, and of small inputs.
const (
	maxEntries = 10_000
	headSize   = 64 << 10
	maxInput   = 64 << 20
)

// runFiles are the files of a run by what they are; "" where there is none.
type runFiles struct {
	xml, outcar, oszicar, incar, kpoints, poscar, contcar string
	outputs                                               []string // standard output and error
	isJob                                                 bool
}

// findFiles looks at one directory. A file under another name than VASP's own
// is known by its beginning.
func findFiles(files fs.FS) (runFiles, error) {
	var f runFiles
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		return f, fmt.Errorf("look for the files of the run: %w", err)
	}
	for _, e := range list[:min(len(list), maxEntries)] {
		if e.Type().IsRegular() && (e.Name() == engine.StdoutName || e.Name() == engine.StderrName) {
			f.isJob = true
		}
	}
	for _, e := range list[:min(len(list), maxEntries)] {
		if e.Type().IsRegular() {
			f.add(files, e.Name())
		}
	}
	return f, nil
}

func (f *runFiles) add(files fs.FS, name string) {
	for _, k := range []struct {
		name string
		to   *string
	}{{"vasprun.xml", &f.xml}, {"OUTCAR", &f.outcar}, {"OSZICAR", &f.oszicar}, {"INCAR", &f.incar}, {"KPOINTS", &f.kpoints}, {"POSCAR", &f.poscar}, {"CONTCAR", &f.contcar}} {
		switch {
		case name == k.name:
			*k.to = name
			return
		case strings.HasPrefix(name, k.name+".") || strings.HasSuffix(name, "."+k.name) || strings.HasPrefix(name, k.name+"_"):
			if *k.to == "" {
				*k.to = name
			}
			return
		}
	}
	if notText(name) {
		return
	}
	head := engine.Head(files, name, headSize)
	switch {
	case f.isJob:
		if name == engine.StdoutName || name == engine.StderrName {
			f.outputs = append(f.outputs, name)
		}
	case isVasprun(head):
		if f.xml == "" {
			f.xml = name
		}
	case isOUTCAR(head):
		if f.outcar == "" {
			f.outcar = name
		}
	case isOutput(head) || strings.Contains(strings.ToLower(name), "err"):
		f.outputs = append(f.outputs, name)
	case isOSZICAR(head):
		if f.oszicar == "" {
			f.oszicar = name
		}
	}
}

// notText are files of VASP without anything to read here, many of them large;
// POTCAR is licensed, and never opened.
func notText(name string) bool {
	base := path.Base(name)
	if engine.Licensed(name) {
		return true
	}
	if slices.Contains([]string{".json", ".h5", ".yaml", ".gz", ".bz2", ".zip", ".tar", ".cif", ".py"}, strings.ToLower(path.Ext(base))) {
		return true
	}
	return slices.ContainsFunc([]string{"WAVECAR", "CHGCAR", "CHG", "AECCAR", "PROCAR", "DOSCAR", "EIGENVAL", "LOCPOT", "ELFCAR", "XDATCAR", "WAVEDER", "PCDAT", "IBZKPT", "REPORT", "ML_"},
		func(p string) bool { return strings.HasPrefix(base, p) })
}

func isVasprun(head []byte) bool {
	return bytes.Contains(head, []byte("<modeling")) && bytes.HasPrefix(bytes.TrimLeft(head, " \r\n\t\xef\xbb\xbf"), []byte("<"))
}

func isOUTCAR(head []byte) bool {
	text := bytes.TrimLeft(head, " \r\n\t")
	return bytes.HasPrefix(text, []byte("vasp.")) && bytes.Contains(head, []byte("executed on"))
}

func isOSZICAR(head []byte) bool {
	for line := range bytes.Lines(head) {
		if _, ok := electronic(bytes.TrimLeft(line, " ")); ok {
			return true
		}
	}
	return false
}

// isOutput recognises standard output of VASP, and pieces of it.
func isOutput(head []byte) bool {
	var m messages
	n := 0
	for line := range bytes.Lines(head) {
		n++
		text := bytes.TrimSpace(line)
		if bytes.HasPrefix(text, []byte("running on")) && bytes.Contains(text, []byte("cores")) || bytes.HasPrefix(text, []byte("POSCAR found")) || bytes.HasPrefix(text, []byte("POSCAR, INCAR and KPOINTS ok")) {
			return true
		}
		m.line("", n, text)
		if m.banner || m.boxed || slices.ContainsFunc(m.hits, func(h hit) bool {
			return h.d.outcome != engine.OutOfMemory && h.d.outcome != engine.FileSystemError && h.d.outcome != engine.Killed
		}) {
			return true
		}
	}
	return false
}

// open opens a file that was found.
func open[T any](files fs.FS, name string, read func(string, io.Reader) (T, error)) (T, error) {
	var none T
	f, err := files.Open(name)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	return read(name, f)
}

func evidence(file string, line int, text []byte) job.Evidence {
	return job.Evidence{File: file, Line: line, Text: clip(text)}
}
