package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/worker"
)

func TestTheConfigurationNamesProgramsAndLibraries(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := `
data: /scratch
require_token: true
programs: {pw.x: /opt/qe/bin/pw.x}
libraries: {qe: [/data/pseudo]}
mpi_launcher: /opt/mpi/bin/mpirun
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadConfig(func(name string) string { return map[string]string{"NANOOS_CONFIG": file}[name] })
	if err != nil {
		t.Fatal(err)
	}
	want := config{Data: "/scratch", Listen: defaultListen, RequireToken: true, Settings: worker.Settings{
		Programs:  map[string]string{"pw.x": "/opt/qe/bin/pw.x"},
		Libraries: map[string][]string{"qe": {"/data/pseudo"}},
		Launcher:  "/opt/mpi/bin/mpirun",
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
