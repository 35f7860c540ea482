package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// Machine is what is installed here: programs, the MPI launcher, libraries of
// pseudopotentials and potentials.
type Machine struct {
	HostName string
	StateDir string
	// Self is our own binary, the program of the mock engine.
	Self string
	// Programs maps a program's name to its path; absent ones are not installed.
	Programs map[string]string
	// Launcher is the MPI launcher's path, "" if there is none.
	Launcher string
	// Libraries maps an engine to its library directories, in order.
	Libraries map[string][]string

	probes sync.Map // engine → *probe
	hashes sync.Map // program path and its state → engine.HashedFile
}

// Settings are a person's own places; they come before what is found.
type Settings struct {
	Programs  map[string]string   `json:"programs,omitempty"`  // "pw.x": "/opt/qe/bin/pw.x"
	Libraries map[string][]string `json:"libraries,omitempty"` // "qe": ["/data/pseudo"]
	Launcher  string              `json:"mpi_launcher,omitempty"`
}

// standardLibraries are where distributions and users' habits put them, by the
// environment variable that each code reads and then by directory.
var standardLibraries = map[string]struct {
	variable string
	dirs     []string
}{
	"qe":     {"ESPRESSO_PSEUDO", []string{"/usr/share/espresso/pseudo", "/usr/local/share/espresso/pseudo"}},
	"vasp":   {"VASP_PP_PATH", nil}, // licensed: in no usual place
	"lammps": {"LAMMPS_POTENTIALS", []string{"/usr/share/lammps/potentials", "/usr/local/share/lammps/potentials"}},
}

// FindMachine looks for the engines' programs on the PATH and for libraries in
// their usual places, after what the settings name.
func FindMachine(engines []engine.Engine, s Settings, stateDir string) (*Machine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own binary: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find the host's name: %w", err)
	}
	m := &Machine{
		HostName: host, StateDir: stateDir, Self: self,
		Programs: map[string]string{engine.MockProgram: self}, Libraries: map[string][]string{},
	}
	for _, e := range engines {
		for _, p := range e.Programs() {
			// A setting may name another program even for the mock engine.
			if p != engine.MockProgram || s.Programs[p] != "" {
				m.addProgram(p, s.Programs[p])
			}
		}
		m.addLibraries(e.Name(), s.Libraries[e.Name()])
	}
	m.Launcher = s.Launcher
	for _, name := range []string{"mpirun", "mpiexec"} {
		if m.Launcher == "" {
			m.Launcher, _ = exec.LookPath(name)
		}
	}
	return m, nil
}

func (m *Machine) addProgram(name, set string) {
	if set == "" {
		set = name
	}
	if p, err := exec.LookPath(set); err == nil {
		if abs, err := filepath.Abs(p); err == nil {
			m.Programs[name] = abs
		}
	}
}

func (m *Machine) addLibraries(eng string, set []string) {
	std := standardLibraries[eng]
	dirs := slices.Concat(set, []string{os.Getenv(std.variable)}, std.dirs)
	for _, d := range dirs {
		if info, err := os.Stat(d); d != "" && err == nil && info.IsDir() && !slices.Contains(m.Libraries[eng], d) {
			m.Libraries[eng] = append(m.Libraries[eng], d)
		}
	}
}

// Available returns the names of the engines whose first program is installed.
func (m *Machine) Available(engines []engine.Engine) []string {
	var names []string
	for _, e := range engines {
		if _, ok := m.Programs[e.Programs()[0]]; ok {
			names = append(names, e.Name())
		}
	}
	return names
}

// Inputs is what an engine may read of this machine when it plans; the caller
// adds the job's own files.
func (m *Machine) Inputs(eng string) engine.Inputs {
	in := engine.Inputs{LibraryDirs: m.Libraries[eng]}
	if p, probed := m.probes.Load(eng); probed {
		in.Styles = p.(*probe).wait()
	}
	if len(in.LibraryDirs) > 0 {
		in.Library = libraryFS(in.LibraryDirs)
	}
	return in
}

// probe is what a program was found to support, once it has been asked.
type probe struct {
	done   chan struct{}
	styles map[string]bool // after done; nil means that it did not say
}

// probeWait bounds the wait for a program that is being asked; lmp takes a
// quarter of a second, and a plan without the answer is only less strict.
const probeWait = 5 * time.Second

func (p *probe) wait() map[string]bool {
	t := time.NewTimer(probeWait)
	defer t.Stop()
	select {
	case <-p.done:
		return p.styles
	case <-t.C:
		return nil
	}
}

// Probe announces that an engine's program is being asked what it supports;
// plans wait for the answer, which answer gives, once.
func (m *Machine) Probe(eng string) (answer func(styles map[string]bool)) {
	p := &probe{done: make(chan struct{})}
	m.probes.Store(eng, p)
	return func(styles map[string]bool) {
		p.styles = styles
		close(p.done)
	}
}

// Commands resolves the steps of a plan to argument vectors.
func (m *Machine) Commands(steps []engine.Step) ([]executor.Command, error) {
	commands := make([]executor.Command, 0, len(steps))
	for _, s := range steps {
		p, ok := m.Programs[s.Program]
		if !ok {
			return nil, &job.Error{Code: job.Unavailable, Message: s.Program + " is not installed here",
				Why: "it is not on the PATH and no setting names it", Fix: "see: nanoos doctor"}
		}
		argv := append([]string{p}, s.Args...)
		if s.Ranks > 0 {
			if m.Launcher == "" {
				return nil, &job.Error{Code: job.Unavailable, Message: "no MPI launcher is installed here",
					Why: fmt.Sprintf("%s is to run with %d ranks", s.Program, s.Ranks), Fix: "install openmpi-bin, or ask for 1 CPU"}
			}
			argv = append([]string{m.Launcher, "-np", strconv.Itoa(s.Ranks)}, argv...)
		}
		commands = append(commands, executor.Command{Argv: argv, Copy: s.Copy})
	}
	return commands, nil
}

// libraryFS is several directories as one flat library; the first that has a
// file wins.
type libraryFS []string

func (l libraryFS) Open(name string) (fs.File, error) {
	for _, dir := range l {
		f, err := os.DirFS(dir).Open(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir lists the files of all directories, each name once.
func (l libraryFS) ReadDir(name string) ([]fs.DirEntry, error) {
	seen := map[string]fs.DirEntry{}
	var names []string
	for _, dir := range l {
		entries, err := fs.ReadDir(os.DirFS(dir), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if seen[e.Name()] == nil {
				seen[e.Name()] = e
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	out := make([]fs.DirEntry, len(names))
	for i, n := range names {
		out[i] = seen[n]
	}
	return out, nil
}

// hash returns the hash of a program, computed once per state of its file.
func (m *Machine) hash(path string) (engine.HashedFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return engine.HashedFile{}, err
	}
	type state struct {
		path string
		size int64
		at   time.Time
	}
	key := state{path, info.Size(), info.ModTime()}
	if h, ok := m.hashes.Load(key); ok {
		return h.(engine.HashedFile), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return engine.HashedFile{}, err
	}
	defer f.Close()
	h, err := hashOf(f)
	if err == nil {
		h.Path = path
		m.hashes.Store(key, h)
	}
	return h, err
}

func hashOf(r io.Reader) (engine.HashedFile, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	return engine.HashedFile{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n}, err
}
