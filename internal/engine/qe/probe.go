package qe

import (
	"regexp"

	"github.com/nano-os/nanoos/internal/engine"
)

var _ engine.Prober = (*QE)(nil)

// ProbeArgs make pw.x print its banner and end: it has no option for that, but
// an empty input does it.
func (*QE) ProbeArgs() []string { return []string{"-in", "/dev/null"} }

var probedVersion = regexp.MustCompile(`(?m)^\s+Program PWSCF v\.(\S+) starts on`)

// ReadProbe implements engine.Prober.
func (*QE) ReadProbe(output []byte) (version string, styles map[string]bool) {
	if m := probedVersion.FindSubmatch(output); m != nil {
		version = string(m[1])
	}
	return version, nil
}
