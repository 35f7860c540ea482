package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

// config is what a person may set about a node. Flags come before environment,
// environment before the file, the file before the defaults.
type config struct {
	Data   string `json:"data,omitempty"`
	Listen string `json:"listen,omitempty"`
	// RequireToken asks even clients of this machine for the token, for
	// machines with several users.
	RequireToken bool `json:"require_token,omitempty"`
	// CPUs, Memory and GPUs are what jobs may use; zero means all there is,
	// and 90 % of the memory.
	CPUs   int      `json:"cpus,omitempty"`
	Memory string   `json:"memory,omitempty"`
	GPUs   int      `json:"gpus,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Queues []string `json:"queues,omitempty"`

	worker.Settings `yaml:",inline"`
}

const defaultListen = "127.0.0.1:8080"

// maxConfig bounds the configuration file.
const maxConfig = 1 << 20

// loadConfig reads the file (NANOOS_CONFIG, else the user's own, which may be
// absent) and the environment.
func loadConfig(env func(string) string) (config, error) {
	c := config{Listen: defaultListen}
	path, named := env("NANOOS_CONFIG"), true
	if path == "" {
		named = false
		if dir, err := os.UserConfigDir(); err == nil {
			path = filepath.Join(dir, "nanoos", "config.yaml")
		}
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named, path == "":
	case err != nil:
		return c, &job.Error{Code: job.Invalid, Message: "cannot read the configuration", Why: err.Error(), Fix: "unset NANOOS_CONFIG, or name a file that can be read"}
	case len(raw) > maxConfig:
		return c, job.Errorf(job.Invalid, "configuration %s is larger than 1 MiB", path)
	default:
		if err := yaml.UnmarshalWithOptions(raw, &c, yaml.Strict()); err != nil {
			return c, &job.Error{Code: job.Invalid, Message: "the configuration " + path + " is wrong", Why: strings.TrimSpace(yaml.FormatError(err, false, true))}
		}
	}
	for name, field := range map[string]*string{"NANOOS_DATA": &c.Data, "NANOOS_LISTEN": &c.Listen, "NANOOS_MEMORY": &c.Memory, "NANOOS_MPI_LAUNCHER": &c.Launcher} {
		if v := env(name); v != "" {
			*field = v
		}
	}
	if c.Data == "" {
		if c.Data, err = defaultData(env); err != nil {
			return c, err
		}
	}
	return c, nil
}

// defaultData is the data directory of a person's own node.
func defaultData(env func(string) string) (string, error) {
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nanoos"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory for the data: %w", err)
	}
	return filepath.Join(home, ".local", "state", "nanoos"), nil
}
