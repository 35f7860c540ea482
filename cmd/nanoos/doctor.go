package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// finding is one thing that the doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warn, fail
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

type diagnosis struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "Diagnosis"
	Items      []finding `json:"items"`
}

func newDoctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look for what is missing on this machine, and say how to get it.", Args: noArgs,
		Long: `Exit code 0 when nothing stands in the way, 1 when something does. It changes nothing.`,
		Example: `nanoos doctor
nanoos doctor -o json | jq '.items[] | select(.state != "ok")'
nanoos doctor --url http://cluster:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	items := []finding{}
	items = append(items, checkEngines(machineEngines(ctx))...)
	cfg, err := loadConfig(a.getenv)
	if err != nil {
		e := asError(err)
		items = append(items, finding{"configuration", "fail", e.Error(), e.Fix})
	} else {
		items = append(items, checkLauncher(cfg.Launcher), checkData(cfg.Data))
		items = append(items, checkLimits(cfg.Data)...)
	}
	items = append(items, a.checkServer(ctx))
	doc := diagnosis{api.Version, "Diagnosis", items}
	if a.data() {
		err = show(a, listing[finding]{doc: doc, rows: items, columns: findingColumns(), id: func(f *finding) string { return f.Check }})
	} else {
		err = a.showFindings(items)
	}
	if err != nil {
		return err
	}
	for _, f := range items {
		if f.State == "fail" {
			return quietExit(exitUnexpected)
		}
	}
	return nil
}

func findingColumns() []column[finding] {
	return []column[finding]{
		{name: "state", cell: func(_ *cells, f *finding) string { return f.State }},
		{name: "check", cell: func(_ *cells, f *finding) string { return f.Check }},
		{name: "detail", cell: func(_ *cells, f *finding) string { return f.Detail }},
		{name: "fix", cell: func(_ *cells, f *finding) string { return f.Fix }},
	}
}

func (a *app) showFindings(items []finding) error {
	s := a.outScreen()
	longest := 0
	for _, f := range items {
		longest = max(longest, width(f.Check))
	}
	tones := map[string]tone{"ok": green, "warn": yellow, "fail": red}
	var b strings.Builder
	for _, f := range items {
		fmt.Fprintf(&b, "%s  %s  %s\n", s.paint(tones[f.State], pad(f.State, 4)), pad(f.Check, longest), oneLine(f.Detail))
		if f.Fix != "" {
			fmt.Fprintf(&b, "%s  %s  %s\n", strings.Repeat(" ", 4), strings.Repeat(" ", longest), s.paint(dim, "fix: ")+oneLine(f.Fix))
		}
	}
	_, err := fmt.Fprint(a.io.out, b.String())
	return err
}

func checkEngines(infos []api.EngineInfo) []finding {
	var out []finding
	for _, e := range infos {
		if e.Name == "mock" {
			out = append(out, finding{"mock", "ok", "always here, for trying things out", ""})
			continue
		}
		f := finding{Check: e.Name, State: "ok", Detail: e.Title}
		if !e.Available {
			f.State, f.Detail, f.Fix = "warn", e.Title+" was not found: "+e.Problem, e.Fix
			out = append(out, f)
			continue
		}
		if e.Version != "" {
			f.Detail += " " + e.Version
		}
		var paths []string
		for _, p := range sortedKeys(e.Programs) {
			paths = append(paths, e.Programs[p])
		}
		f.Detail += ": " + strings.Join(paths, ", ")
		out = append(out, f, checkLibrary(e))
	}
	return out
}

// libraryHints are where the files come from that an engine reads.
var libraryHints = map[string]string{
	"qe":     "sudo apt-get install quantum-espresso-data, or set ESPRESSO_PSEUDO to your pseudopotentials",
	"lammps": "sudo apt-get install lammps-data, or set LAMMPS_POTENTIALS to your potentials",
	"vasp":   "set VASP_PP_PATH to your licensed potentials, as in Si/POTCAR",
}

func checkLibrary(e api.EngineInfo) finding {
	what := "potentials"
	if e.Name == "qe" {
		what = "pseudopotentials"
	}
	f := finding{Check: e.Name + " library", State: "ok"}
	total := 0
	for _, dir := range e.Library {
		if entries, err := os.ReadDir(dir); err == nil {
			total += len(entries)
		}
	}
	if total == 0 {
		f.State, f.Detail, f.Fix = "warn", "no directory of "+what+" was found; jobs must bring theirs", libraryHints[e.Name]
		return f
	}
	f.Detail = fmt.Sprintf("%d %s in %s", total, what, strings.Join(e.Library, ", "))
	return f
}

func checkLauncher(set string) finding {
	names := []string{"mpirun", "mpiexec", "srun"}
	if set != "" {
		names = []string{set}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return finding{"mpi", "ok", path, ""}
		}
	}
	return finding{"mpi", "warn", "no MPI launcher; jobs run on one process", "sudo apt-get install openmpi-bin"}
}

// checkData tries what a server does first: make its directory and write there.
func checkData(dir string) finding {
	f := finding{Check: "data", State: "ok", Detail: dir}
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	probe, err := os.CreateTemp(existing, ".nanoos-doctor-*")
	if err != nil {
		f.State, f.Detail, f.Fix = "fail", dir+" cannot be written: "+plainError(err), "choose another directory: nanoos up --data DIR, or NANOOS_DATA"
		return f
	}
	probe.Close()
	os.Remove(probe.Name())
	kind, local := fileSystem(existing)
	if !local {
		f.State, f.Detail = "warn", fmt.Sprintf("%s is on a network file system (%s), where SQLite's locks cannot be trusted", dir, kind)
		f.Fix = "choose a local disk: nanoos up --data DIR, or NANOOS_DATA"
		return f
	}
	if kind != "" {
		f.Detail += " (" + kind + ")"
	}
	if existing != dir {
		f.Detail += ", will be made"
	}
	return f
}

// checkLimits says what the machine can enforce on runs.
func checkLimits(dir string) []finding {
	if runtime.GOOS != "linux" {
		return []finding{{"limits", "warn", "runs have no cgroup on " + runtime.GOOS + ": memory limits are not enforced", "run the worker on Linux"}}
	}
	// The executor looks at the machine when it is made; a directory of its own
	// keeps the doctor from touching the data.
	tmp, err := os.MkdirTemp("", "nanoos-doctor-")
	if err != nil {
		return []finding{{"limits", "warn", "cannot be found out: " + plainError(err), ""}}
	}
	defer os.RemoveAll(tmp)
	local, err := executor.NewLocal(executor.LocalOptions{StateDir: tmp})
	if err != nil {
		return []finding{{"limits", "fail", "local runs cannot be prepared: " + err.Error(), ""}}
	}
	caps := local.Capabilities()
	f := finding{Check: "limits", State: "ok", Detail: "cgroup " + caps.Cgroup}
	var can, cannot []string
	for _, c := range []struct {
		name string
		ok   bool
	}{{"memory", caps.Memory}, {"processes", caps.Pids}, {"cpu", caps.CPU}, {"kill as one", caps.Kill}} {
		if c.ok {
			can = append(can, c.name)
		} else {
			cannot = append(cannot, c.name)
		}
	}
	if len(can) > 0 {
		f.Detail += ", enforces " + strings.Join(can, ", ")
	}
	if len(cannot) > 0 {
		f.State = "warn"
		f.Detail += "; not " + strings.Join(cannot, ", ")
		f.Fix = strings.Join(caps.Notes, "; ")
	}
	if caps.Landlock > 0 {
		f.Detail += fmt.Sprintf(", landlock %d", caps.Landlock)
	}
	return []finding{f}
}

func (a *app) checkServer(ctx context.Context) finding {
	c, err := a.client()
	if err == nil {
		var v api.VersionInfo
		if v, err = c.Version(ctx); err == nil {
			f := finding{Check: "server", State: "ok", Detail: fmt.Sprintf("%s answers, version %s", c.URL(), v.Version)}
			if v.Version != version {
				f.State, f.Detail = "warn", f.Detail+", this command is "+version
				f.Fix = "use the same version on both sides"
			}
			return f
		}
	}
	e := asError(err)
	state := "fail"
	// No server is no fault: run starts one for itself.
	if job.CodeOf(err) == job.Unavailable && a.opt.url == "" && a.getenv("NANOOS_URL") == "" {
		state = "warn"
	}
	return finding{"server", state, strings.TrimSuffix(e.Message+": "+e.Why, ": "), orDefault(e.Fix, "nanoos up")}
}
