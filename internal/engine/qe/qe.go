// Package qe speaks Quantum ESPRESSO: it writes input decks of pw.x or checks
// those that people bring, follows the running program by its output, and reads
// what a run left, from text and XML together. A run counts as a success only
// when its convergence is proven by numbers; exit statuses and the program's
// farewell prove nothing.
package qe

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io/fs"
	"path"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// QE is the engine.
type QE struct{}

var _ engine.Engine = (*QE)(nil)

// New returns the engine.
func New() *QE { return &QE{} }

// program is the only executable that plans start.
const program = "pw.x"

//go:embed schema.json
var schema []byte

func (*QE) Name() string            { return "qe" }
func (*QE) Title() string           { return "Quantum ESPRESSO" }
func (*QE) Aliases() []string       { return []string{"QUANTUM_ESPRESSO", "ESPRESSO", "PWSCF", "PW"} }
func (*QE) Programs() []string      { return []string{program} }
func (*QE) Schema() json.RawMessage { return schema }

// Deck implements engine.Engine.
func (*QE) Deck(_ string, head []byte) bool { return isDeck(head) }

// isDeck recognises an input of pw.x by its namelists.
func isDeck(head []byte) bool {
	found := map[string]bool{}
	for line := range bytes.Lines(head) {
		text := bytes.TrimLeft(line, " \t\xef\xbb\xbf")
		if len(text) == 0 || text[0] != '&' {
			continue
		}
		word, _, _ := strings.Cut(strings.ToLower(string(bytes.TrimSpace(text[1:]))), " ")
		found[word] = true
	}
	return found["system"] && (found["control"] || found["electrons"])
}

// Recognise implements engine.Engine.
func (*QE) Recognise(files fs.FS) float64 {
	f, err := findFiles(files)
	if err != nil {
		return 0
	}
	switch {
	case len(f.xmls) > 0:
		return 1
	case len(f.texts) > 0:
		for _, name := range f.texts {
			if isOutput(engine.Head(files, name, headSize)) {
				return 0.95
			}
		}
	}
	for _, name := range f.decks {
		if ext := strings.ToLower(path.Ext(name)); ext == ".in" || ext == ".inp" || ext == ".pwi" {
			return 0.5
		}
	}
	if len(f.decks) > 0 {
		return 0.4
	}
	return 0
}
