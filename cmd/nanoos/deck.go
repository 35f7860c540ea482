package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Bounds of looking for the files that a deck names. A deck of 4 MiB is a
// structure written out; a directory of more entries is no work directory.
const (
	maxDeck        = 4 << 20
	maxDeckScan    = 16     // decks that include others
	maxDeckEntries = 10_000 // names looked up
	deckHead       = 64 << 10
)

// readInput reads what a person submits: a job file, a deck, or "-".
func readInput(engines []engine.Engine, name, engineName string, stdin io.Reader, set []string) ([]*draft, error) {
	for _, change := range set {
		if key, _, ok := strings.Cut(change, "="); !ok || strings.TrimSpace(key) == "" {
			return nil, usage("for example --set ecutwfc=40", "--set %s is not KEY=VALUE", change)
		}
	}
	if incar := filepath.Join(name, "INCAR"); isRegular(incar) {
		name = incar
	}
	text, dir, err := openInput(name, stdin)
	if err != nil {
		return nil, err
	}
	shown := name
	if name == "-" {
		shown = "standard input"
	}
	deck, err := deckEngine(engines, shown, engineName, text)
	if err != nil {
		return nil, err
	}
	if deck == nil {
		return readJobFile(shown, dir, text, set)
	}
	if len(set) > 0 {
		return nil, usage("edit the deck, or write a job file", "--set has no meaning for a deck, which is run as it is")
	}
	base := filepath.Base(name)
	if name == "-" {
		base = stdinDeckName(deck)
	}
	d := &draft{name: shown, text: string(text)}
	d.request.Engine = deck.Name()
	d.uploads = append([]upload{{name: base, text: text, size: int64(len(text))}}, beside(deck, text, dir, base)...)
	return []*draft{d}, nil
}

// beside finds the files that belong to a deck. VASP knows its own by their
// names and not from INCAR. Its POTCAR is licensed, and stays where it is.
func beside(e engine.Engine, deck []byte, dir, self string) []upload {
	if e.Name() == "vasp" {
		deck = slices.Concat(deck, []byte("\nPOSCAR KPOINTS\n"))
	}
	return slices.DeleteFunc(namedBy(deck, dir, self), func(u upload) bool {
		return e.Name() == "vasp" && engine.Licensed(u.name)
	})
}

func isRegular(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func openInput(name string, stdin io.Reader) (text []byte, dir string, err error) {
	if name == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, maxDeck+1))
		if err == nil && len(text) > maxDeck {
			err = job.Errorf(job.Invalid, "standard input is larger than %s", size(maxDeck))
		}
		return text, ".", err
	}
	text, err = readBounded(name, maxDeck)
	if err == nil {
		return text, filepath.Dir(name), nil
	}
	e := &job.Error{Code: job.Invalid, Message: name + " was not submitted", Why: plainError(err), Err: err}
	if errors.Is(err, fs.ErrNotExist) {
		e.Why = "there is no such file"
		r := jobReader{dir: "."}
		if fix := r.missingFix(name); strings.HasPrefix(fix, "did") {
			e.Fix = fix
		} else {
			e.Fix = "name a job file or an input deck; an example is in: nanoos submit --help"
		}
	}
	return nil, "", e
}

// deckEngine is the engine whose deck the text is, or nil for a job file.
func deckEngine(engines []engine.Engine, name, engineName string, text []byte) (engine.Engine, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return nil, nil
	}
	if engineName != "" {
		return engineNamed(engines, engineName)
	}
	head := text[:min(len(text), deckHead)]
	for _, e := range engines {
		if e.Deck(filepath.Base(name), head) {
			return e, nil
		}
	}
	if looksLikeJobFile(head) {
		return nil, nil
	}
	var titles []string
	for _, e := range engines {
		titles = append(titles, e.Title())
	}
	return nil, &job.Error{Code: job.Invalid, Message: name + " was not submitted",
		Why: "it is neither a job file (.yaml) nor an input deck of " + strings.Join(titles, ", "),
		Fix: "say whose deck it is: --engine qe"}
}

// looksLikeJobFile reports whether a text has one of the keys that every job
// file begins with.
func looksLikeJobFile(head []byte) bool {
	for line := range bytes.Lines(head) {
		key, _, ok := bytes.Cut(line, []byte{':'})
		if ok && slices.Contains([]string{"engine", "name", "structure", "parameters", "resources", "files"}, string(key)) {
			return true
		}
	}
	trimmed := bytes.TrimSpace(head)
	return len(trimmed) == 0 || trimmed[0] == '{'
}

func engineNamed(engines []engine.Engine, name string) (engine.Engine, error) {
	e, near := engine.ByName(engines, name)
	if e != nil {
		return e, nil
	}
	var known []string
	for _, e := range engines {
		known = append(known, e.Name())
	}
	fix := "Known: " + strings.Join(known, ", ")
	if near != "" {
		fix = fmt.Sprintf("did you mean %q? %s", near, fix)
	}
	return nil, usage(fix, "there is no engine %q", name)
}

// stdinDeckName is a name by which the engine knows a nameless deck again.
func stdinDeckName(e engine.Engine) string {
	for _, name := range []string{"pw.in", "in.lammps"} {
		if e.Deck(name, nil) {
			return name
		}
	}
	return "input"
}

// namedBy finds the files beside a deck that the deck names: potentials, data
// files, other decks that it includes. A deck is not fully parsed for this: a
// word of it that is the path of a file below its directory is taken, and so is
// a word that is a file in a directory that the deck names (pseudo_dir).
func namedBy(deck []byte, dir, self string) []upload {
	seen := map[string]bool{self: true}
	var found []upload
	queue := [][]byte{deck}
	total, lookups := int64(0), 0
	for n := 0; n < len(queue) && n < maxDeckScan; n++ {
		words := deckWords(queue[n])
		dirs := append([]string{"."}, directories(dir, words)...)
		for _, w := range words {
			for _, d := range dirs {
				name := path.Join(d, w)
				if seen[name] || !fs.ValidPath(name) || lookups == maxDeckEntries || len(found) == maxUploads {
					continue
				}
				lookups++
				info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
				if err != nil || !info.Mode().IsRegular() || total+info.Size() > maxUploadBytes {
					continue
				}
				seen[name] = true
				total += info.Size()
				found = append(found, upload{name: name, path: filepath.Join(dir, filepath.FromSlash(name)), size: info.Size()})
				if info.Size() < maxJobFile {
					if text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
						queue = append(queue, text)
					}
				}
			}
		}
	}
	return found
}

// deckWords are the words of a text that could be paths, each once.
func deckWords(text []byte) []string {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	var words []string
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		if i := bytes.IndexAny(line, "#!"); i >= 0 {
			line = line[:i]
		}
		for _, w := range bytes.FieldsFunc(line, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`'",=()`, r) }) {
			word := strings.TrimSuffix(strings.TrimPrefix(string(w), "./"), "/")
			// A word without a letter is a number, of which decks are full.
			if len(word) > 200 || seen[word] || !strings.ContainsFunc(word, func(r rune) bool { return r >= 'A' }) {
				continue
			}
			seen[word] = true
			if len(words) < maxDeckEntries {
				words = append(words, word)
			}
		}
	}
	return words
}

// directories are the words that are directories below dir.
func directories(dir string, words []string) []string {
	var out []string
	for _, w := range words {
		if !fs.ValidPath(w) || w == "." || len(out) == 8 {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, w)); err == nil && info.IsDir() {
			out = append(out, w)
		}
	}
	return out
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("it is a directory")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it is larger than %s", size(limit))
	}
	return text, nil
}
