package qe

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// upf is the header of a pseudopotential file. The header is trusted, not the
// file's name.
type upf struct {
	name       string
	element    string
	kind       string // NC, US, PAW, SL, 1/r
	functional string // normalised: PZ, PBE, PBESOL
	valence    float64
	// Suggested cut-offs in Ry; 0 means that the file gives none.
	wavefunctions, density float64
	spinOrbit              bool
}

// maxHeader is how far the header may begin in the file: before it stands the
// input of the program that made it.
const maxHeader = 1 << 20

// readUPF reads the header of a file of format 1 or 2.
func readUPF(files fs.FS, name string) (*upf, error) {
	head := engine.Head(files, name, maxHeader)
	if head == nil {
		return nil, fmt.Errorf("read %s: no such file, or no permission", name)
	}
	start := bytes.Index(head, []byte("<PP_HEADER"))
	if start < 0 {
		return nil, fmt.Errorf("%s is no UPF file: it has no PP_HEADER", name)
	}
	tag, body, ok := bytes.Cut(head[start:], []byte(">"))
	if !ok {
		return nil, fmt.Errorf("%s is cut in its header", name)
	}
	end := "</PP_" // of the last section of format 1
	if bytes.Contains(head[:start], []byte("<UPF version")) {
		end = "</UPF>"
	}
	if !endsWith(files, name, end) {
		return nil, fmt.Errorf("%s is cut: its end is missing", name)
	}
	u := &upf{name: name}
	if attrs := bytes.TrimSuffix(tag[len("<PP_HEADER"):], []byte("/")); len(bytes.TrimSpace(attrs)) > 0 {
		u.readAttributes(head[start:])
	} else {
		u.readLines(body)
	}
	if u.element = elementOf(u.element); u.element == "" || !(u.valence > 0) || !printed.Finite(u.valence) {
		return nil, fmt.Errorf("%s has no element or no valence in its header", name)
	}
	return u, nil
}

// endsWith reports whether mark is near the end of a file.
func endsWith(files fs.FS, name, mark string) bool {
	const most = 4096 // blanks and a note may follow
	f, err := files.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var tail []byte
	buf := make([]byte, 64<<10)
	for err == nil {
		var n int
		n, err = f.Read(buf)
		tail = append(tail, buf[:n]...)
		tail = append(tail[:0], tail[max(0, len(tail)-most):]...)
	}
	return bytes.Contains(tail, []byte(mark))
}

// readAttributes reads the header of format 2. A > may stand inside quotes, so
// this takes the tag as XML.
func (u *upf) readAttributes(text []byte) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = false
	token, err := d.Token()
	start, ok := token.(xml.StartElement)
	if err != nil || !ok {
		return
	}
	for _, a := range start.Attr {
		value := strings.TrimSpace(a.Value)
		v, _, _ := printed.Number([]byte(value))
		switch a.Name.Local {
		case "element":
			u.element = value
		case "pseudo_type":
			u.kind = value
		case "functional":
			u.functional = functional(value)
		case "z_valence":
			u.valence = v
		case "wfc_cutoff":
			u.wavefunctions = v
		case "rho_cutoff":
			u.density = v
		case "has_so":
			u.spinOrbit = strings.HasPrefix(strings.ToLower(value), "t")
		}
	}
	if u.kind == "USPP" {
		u.kind = "US"
	}
}

// readLines reads the header of format 1: one value a line, its meaning behind.
func (u *upf) readLines(body []byte) {
	for line := range bytes.Lines(body) {
		text := string(bytes.TrimSpace(line))
		fields := strings.Fields(text)
		switch {
		case strings.HasPrefix(text, "</PP_HEADER"):
			return
		case len(fields) < 2:
		case fields[1] == "Element":
			u.element = fields[0]
		case strings.HasSuffix(text, "Exchange-Correlation functional"):
			u.functional = functional(strings.TrimSuffix(text, "Exchange-Correlation functional"))
		case strings.HasSuffix(text, "Z valence"):
			u.valence, _, _ = printed.Number([]byte(text))
		case strings.Contains(text, "Suggested cutoff"):
			if v := printed.Numbers([]byte(text), nil); len(v) == 2 {
				u.wavefunctions, u.density = v[0], v[1]
			}
		case slices.Contains([]string{"NC", "US", "PAW", "SL"}, fields[0]):
			u.kind = fields[0]
		}
	}
}

// functionals by their parts: exchange, correlation, and the gradient
// corrections of both.
var functionals = map[string]string{
	"SLA PZ NOGX NOGC": "PZ", "LDA": "PZ",
	"SLA PW NOGX NOGC": "PW",
	"SLA PW PBX PBC":   "PBE", "SLA PW PBE PBE": "PBE",
	"SLA PW PSX PSC":   "PBESOL",
	"SLA LYP B88 BLYP": "BLYP", "SLA BLYP B88 BLYP": "BLYP", "SLA LYP B88 LYP": "BLYP",
	"SLA PW GGX GGC": "PW91", "SLA PW RPB PBC": "REVPBE", "SLA PW REVX PBC": "REVPBE", "SLA PW RE PBC": "REVPBE",
	"SLA PZ B88 P86": "BP",
}

// functional gives one name to the ways of writing a functional. A header of
// format 1 ends with the short name: "SLA PZ NOGX NOGC PZ".
func functional(s string) string {
	parts := strings.FieldsFunc(strings.ToUpper(s), func(r rune) bool { return r == ' ' || r == '+' || r == '-' || r == '\t' })
	if len(parts) > 4 {
		parts = parts[:4]
	}
	name := strings.Join(parts, " ")
	if short, ok := functionals[name]; ok {
		return short
	}
	return name
}

// libraryFiles returns the UPF files of a library that may be those of an
// element, by name; which are is for the header to say.
func libraryFiles(library fs.FS, element string) []string {
	if library == nil {
		return nil
	}
	entries, err := fs.ReadDir(library, ".")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() && strings.EqualFold(path.Ext(name), ".upf") && len(name) > len(element) &&
			strings.EqualFold(name[:len(element)], element) && !isLetter(name[len(element)]) {
			out = append(out, name)
		}
	}
	return out
}

// candidates reads the headers of the library's files of an element.
func candidates(library fs.FS, element string) []*upf {
	var out []*upf
	for _, name := range libraryFiles(library, element) {
		if u, err := readUPF(library, name); err == nil && u.element == element {
			out = append(out, u)
		}
	}
	return out
}

func names(list []*upf) []string {
	out := make([]string, len(list))
	for i, u := range list {
		out[i] = u.name
	}
	return out
}
