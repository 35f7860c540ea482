package crystal

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Format is a kind of structure file.
type Format string

// Formats are those that Read and Write know, in the order of messages.
var Formats = [...]Format{POSCAR, POSCAR4, CIF, XYZ, LAMMPSData, XSF, PWInput, JSON, Pymatgen, ASE}

// The formats; the last three are written as JSON.
const (
	POSCAR     Format = "poscar"
	POSCAR4    Format = "poscar4" // as VASP 4 writes it; read as POSCAR
	CIF        Format = "cif"
	XYZ        Format = "xyz" // plain and extended
	LAMMPSData Format = "lammps-data"
	JSON       Format = "json" // of a Structure
	XSF        Format = "xsf"
	PWInput    Format = "pw-in" // input of pw.x
	Pymatgen   Format = "pymatgen"
	ASE        Format = "ase"
)

// ParseFormat reads the name of a format as people write it; "" is no format.
func ParseFormat(s string) (Format, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "":
		return "", nil
	case "poscar", "contcar", "vasp":
		return POSCAR, nil
	case "poscar4", "vasp4":
		return POSCAR4, nil
	case "cif":
		return CIF, nil
	case "xyz", "extxyz":
		return XYZ, nil
	case "lammps-data", "lammps", "lmp":
		return LAMMPSData, nil
	case "json", "internal":
		return JSON, nil
	case "xsf":
		return XSF, nil
	case "pw-in", "pw.in", "espresso-in", "pwscf":
		return PWInput, nil
	case "pymatgen", "pymatgen-json":
		return Pymatgen, nil
	case "ase", "ase-json":
		return ASE, nil
	}
	return "", fmt.Errorf("structure format %s is not known: use %s", quote(s), formatNames())
}

// formatNames lists the formats for a message.
func formatNames() string {
	var b strings.Builder
	for i, f := range Formats {
		switch i {
		case 0:
		case len(Formats) - 1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(f))
	}
	return b.String()
}

// Read reads a structure file. An empty format is recognised by the name of
// the file, else by its content; the name is also that of the errors.
func Read(name string, data []byte, format string) (s *Structure, warnings []string, err error) {
	s, warnings, err = read(name, data, format)
	if e, ok := errors.AsType[*ParseError](err); ok {
		e.File = name
	}
	return s, warnings, err
}

func read(name string, data []byte, format string) (s *Structure, warnings []string, err error) {
	f, err := ParseFormat(format)
	if err != nil {
		return nil, nil, &ParseError{Problems: []Problem{{Message: err.Error()}}}
	}
	if f == "" {
		f = FormatOfName(name)
	}
	if f == "" {
		f = formatOfContent(data)
	}
	switch f {
	case POSCAR, POSCAR4:
		return ReadPOSCAR(data)
	case CIF:
		return ReadCIF(data)
	case XYZ:
		return ReadXYZ(data)
	case LAMMPSData:
		s, err = ReadLAMMPSData(data, nil)
		return s, nil, err
	case XSF:
		return ReadXSF(data)
	case PWInput:
		return ReadPWInput(data)
	case JSON:
		return ReadJSON(data)
	case Pymatgen:
		return ReadPymatgen(data)
	case ASE:
		return ReadASE(data)
	}
	return nil, nil, failFix(0, 0, "name the format: "+formatNames(), "the format of the file is not recognised by its name or its content")
}

// FormatOfName goes by what programs and people call their files; "" when the
// name does not say.
func FormatOfName(name string) Format {
	base := strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	switch path.Ext(base) {
	case ".cif":
		return CIF
	case ".xyz", ".extxyz":
		return XYZ
	case ".vasp", ".poscar", ".contcar":
		return POSCAR
	case ".lmp", ".lammps", ".lammps-data":
		return LAMMPSData
	case ".json":
		return JSON
	case ".xsf", ".axsf":
		return XSF
	case ".pwi":
		return PWInput
	}
	if base == "pw.in" || strings.HasSuffix(base, ".pw.in") {
		return PWInput
	}
	if strings.HasPrefix(base, "poscar") || strings.HasPrefix(base, "contcar") {
		return POSCAR
	}
	return ""
}

// sniffLength is enough for the comments on top of a CIF.
const sniffLength = 64 << 10

// lammpsBox is the line that every LAMMPS data file has.
var lammpsBox = regexp.MustCompile(`(?m)^[ \t]*\S+[ \t]+\S+[ \t]+xlo[ \t]+xhi\b`)

// cifBlockStart is the line that every CIF has, maybe after others.
var cifBlockStart = regexp.MustCompile(`(?mi)^[ \t]*data_`)

// pwSystem is the line that every input of pw.x has.
var pwSystem = regexp.MustCompile(`(?mi)^[ \t]*&system\b`)

// xsfKeyword is the line that XSF has and no other format.
var xsfKeyword = regexp.MustCompile(`(?mi)^[ \t]*(PRIMVEC|PRIMCOORD|ATOMS|ANIMSTEPS[ \t]+\d+)\b`)

// formatOfContent goes by the lines that only one format has.
func formatOfContent(data []byte) Format {
	text := strings.TrimPrefix(string(data[:min(len(data), sniffLength)]), "\ufeff")
	l := lines{rest: text}
	var top [5]string
	for i := range top {
		top[i], _ = l.next()
	}
	numbers := func(line string) int {
		n := 0
		for _, w := range words(line, make([]word, 0, 4)) {
			if _, ok := parseNumber(w.text); !ok {
				break
			}
			n++
		}
		return n
	}
	switch {
	case strings.HasPrefix(strings.TrimSpace(text), "{"):
		return JSON
	case lammpsBox.MatchString(text):
		return LAMMPSData
	case pwSystem.MatchString(text):
		return PWInput
	case cifBlockStart.MatchString(text):
		return CIF
	case numbers(top[0]) == 1 && len(strings.Fields(top[0])) == 1 && !isPOSCARTop(top, numbers):
		return XYZ
	case isPOSCARTop(top, numbers):
		return POSCAR
	case xsfKeyword.MatchString(text):
		return XSF
	}
	return ""
}

// isPOSCARTop reports whether lines 2 to 5 are a scale factor and a cell.
func isPOSCARTop(top [5]string, numbers func(string) int) bool {
	return numbers(top[1]) >= 1 && numbers(top[2]) >= 3 && numbers(top[3]) >= 3 && numbers(top[4]) >= 3
}
