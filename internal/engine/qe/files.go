package qe

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// Bounds of the search for a run's files.
const (
	maxEntries  = 50_000
	maxDepth    = 5
	maxTexts    = 64
	maxXMLs     = 32
	headSize    = 64 << 10
	maxDeckSize = 64 << 20
)

// crashFile is where pw.x repeats its error message; text of earlier runs stays
// in it.
const crashFile = "CRASH"

// runFiles are the files of a run by what they are.
type runFiles struct {
	texts, xmls, decks, errs []string
	crash                    bool
	isJob                    bool     // the output of a job of ours is here, under its name
	empty                    []string // data files of a save directory without a byte
	copies                   []string // pseudopotentials that pw.x copied into a save directory
}

// findFiles looks through a directory. Where the standard output of a job is,
// no other text is read.
func findFiles(files fs.FS) (runFiles, error) {
	var f runFiles
	_, err := fs.Stat(files, engine.StdoutName)
	f.isJob = err == nil
	entries := 0
	if err := f.walk(files, ".", &entries); err != nil {
		return f, fmt.Errorf("look for the files of the run: %w", err)
	}
	return f, nil
}

// walk looks into one directory and those below. It asks for lists alone: some
// files that people name are in no directory.
func (f *runFiles) walk(files fs.FS, dir string, entries *int) error {
	list, err := fs.ReadDir(files, dir)
	if err != nil {
		if dir == "." {
			return err
		}
		return nil // a directory below that cannot be read has nothing for us
	}
	for _, e := range list {
		if *entries++; *entries > maxEntries {
			return nil
		}
		name := path.Join(dir, e.Name())
		switch {
		case e.Type().IsRegular():
			f.add(files, name, e)
		case e.IsDir() && strings.Count(name, "/") < maxDepth:
			if err := f.walk(files, name, entries); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *runFiles) add(files fs.FS, name string, d fs.DirEntry) {
	base, inSave := path.Base(name), strings.HasSuffix(path.Dir(name), ".save")
	if inSave && isDataFile(base) {
		if info, err := d.Info(); err == nil && info.Size() == 0 {
			f.empty = append(f.empty, name)
		}
		return
	}
	if inSave && strings.EqualFold(path.Ext(base), ".upf") {
		f.copies = append(f.copies, name)
		return
	}
	switch {
	case base == crashFile && path.Dir(name) == ".":
		f.crash = true
	case strings.EqualFold(path.Ext(base), ".xml"):
		if len(f.xmls) < maxXMLs && isSchemaXML(engine.Head(files, name, 4096)) {
			f.xmls = append(f.xmls, name)
		}
	case inSave || slices.Contains([]string{".upf", ".dat", ".json", ".hdf5", ".gz"}, strings.ToLower(path.Ext(base))):
	case name == engine.StderrName || path.Ext(base) == ".err":
		f.errs = append(f.errs, name)
	case f.isJob && name == engine.StdoutName:
		f.texts = append(f.texts, name)
	default:
		head := engine.Head(files, name, headSize)
		switch {
		case !f.isJob && len(f.texts) < maxTexts && isOutput(head):
			f.texts = append(f.texts, name)
		case isDeck(head):
			f.decks = append(f.decks, name)
		}
	}
}

// cutCopies returns the copies of pseudopotentials that are much shorter than
// their sources; pw.x may drop blanks at the ends of lines as it copies.
func (f *runFiles) cutCopies(files fs.FS) []string {
	var out []string
	for _, name := range f.copies {
		source, err := fs.Stat(files, pseudoDir+"/"+path.Base(name))
		if err != nil {
			continue
		}
		if info, err := fs.Stat(files, name); err == nil && info.Size() < source.Size()/10*8 {
			out = append(out, name)
		}
	}
	return out
}

// isDataFile recognises what pw.x must have written in full.
func isDataFile(base string) bool {
	ext := path.Ext(base)
	return (ext == ".dat" || ext == ".hdf5") && (strings.HasPrefix(base, "wfc") || strings.HasPrefix(base, "charge-density"))
}

func isSchemaXML(head []byte) bool {
	return bytes.Contains(head, []byte("<qes:espresso")) || bytes.Contains(head, []byte("<espresso")) && bytes.Contains(head, []byte("QEXSD"))
}

// isOutput recognises standard output of pw.x and its companions, also when its
// beginning is lost.
func isOutput(head []byte) bool {
	framed := bytes.Contains(head, []byte("%%%%%%%%"))
	for line := range bytes.Lines(head) {
		text := bytes.TrimSpace(line)
		if _, _, _, ok := banner(text); ok || isBareError(text) {
			return true
		}
		for _, mark := range []string{"Self-consistent Calculation", "estimated scf accuracy    <", "Band Structure Calculation"} {
			if bytes.HasPrefix(text, []byte(mark)) {
				return true
			}
		}
		if framed && bytes.HasPrefix(text, []byte("Error in routine")) {
			return true
		}
	}
	return false
}

// readTexts reads all standard output, in the order in which the programs
// started.
func readTexts(files fs.FS, names []string) ([]*textRun, error) {
	var runs []*textRun
	for _, name := range names {
		f, err := files.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		got, err := readText(name, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		runs = append(runs, got...)
	}
	if len(names) > 1 {
		// An scf that took less than a second comes before its bands.
		slices.SortStableFunc(runs, func(a, b *textRun) int {
			if a.bandsOnly != b.bandsOnly && a.startTime().Equal(b.startTime()) {
				return map[bool]int{true: 1, false: -1}[a.bandsOnly]
			}
			return a.startTime().Compare(b.startTime())
		})
	}
	return runs, nil
}

// startTime is when the program says that it started, by its own clock.
func (t *textRun) startTime() time.Time {
	at, err := time.Parse("2Jan2006 at 15:4:5", strings.ReplaceAll(t.started, ": ", ":"))
	if err != nil {
		return time.Time{}
	}
	return at
}

func readXMLs(files fs.FS, names []string) ([]*xmlRun, error) {
	var out []*xmlRun
	for _, name := range names {
		f, err := files.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		x, err := readXML(name, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		out = append(out, x)
	}
	return out, nil
}

// readStderr finds the first line of standard error that names a fault.
func readStderr(files fs.FS, names []string) (*diagnosis, job.Evidence) {
	for _, name := range names {
		f, err := files.Open(name)
		if err != nil {
			continue
		}
		d, evidence := scanStderr(name, f)
		f.Close()
		if d != nil {
			return d, evidence
		}
	}
	return nil, job.Evidence{}
}

func scanStderr(name string, r io.Reader) (*diagnosis, job.Evidence) {
	lines := printed.NewLineReader(r)
	best, evidence := len(stderrMarks), job.Evidence{}
	for {
		line, _, err := lines.Next()
		if err != nil {
			break
		}
		lower := bytes.ToLower(line)
		for i := range best {
			if bytes.Contains(lower, []byte(stderrMarks[i].mark)) {
				best, evidence = i, job.Evidence{File: name, Line: lines.Line(), Text: clip(bytes.TrimSpace(line))}
				break
			}
		}
	}
	if best == len(stderrMarks) {
		return nil, evidence
	}
	return &stderrMarks[best], evidence
}

// readCrash returns the last error of the CRASH file.
func readCrash(files fs.FS) *errorBlock {
	f, err := files.Open(crashFile)
	if err != nil {
		return nil
	}
	defer f.Close()
	var found *errorBlock
	lines := printed.NewLineReader(f)
	for {
		line, _, err := lines.Next()
		if err != nil {
			return found
		}
		text := bytes.TrimSpace(line)
		if name, ok := bytes.CutPrefix(text, []byte("from ")); ok && bytes.Contains(name, []byte(": error #")) {
			routine, _, _ := bytes.Cut(name, []byte(":"))
			found = &errorBlock{routine: string(bytes.TrimSpace(routine))}
			if line, _, err = lines.Next(); err != nil {
				return found
			}
			text = bytes.TrimSpace(line)
			found.message = clip(text)
			found.evidence = job.Evidence{File: crashFile, Line: lines.Line(), Text: found.message}
		}
	}
}
