package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

// config is what a person may set about a process. Flags come before
// environment, environment before the file, the file before the defaults.
type config struct {
	Data string `json:"data,omitempty"`

	// What serves.
	Listen string `json:"listen,omitempty"`
	// Database is the URL of PostgreSQL; empty means a file in the data directory.
	Database string `json:"database,omitempty"`
	// Artifacts is where files are kept, a directory that all servers share;
	// empty means one in the data directory.
	Artifacts string `json:"artifacts,omitempty"`
	// RequireToken asks even clients of this machine for the token, for
	// machines with several users.
	RequireToken bool `json:"require_token,omitempty"`
	// TokenFile holds the administrator's token; empty means one in the data directory.
	TokenFile    string       `json:"token_file,omitempty"`
	TLSCert      string       `json:"tls_cert,omitempty"`
	TLSKey       string       `json:"tls_key,omitempty"`
	InsecureHTTP bool         `json:"insecure_http,omitempty"`
	Session      job.Duration `json:"session,omitempty"`
	LostAfter    job.Duration `json:"lost_after,omitempty"`
	Sweep        job.Duration `json:"sweep,omitempty"`

	// Celery is the front door for Celery programs.
	Celery celeryConfig `json:"celery,omitzero"`
	// Platform is the URL of a NANO-OS platform's PostgreSQL, whose jobs are run
	// when they are named; empty means the one of DATABASE_URL, if it has them.
	Platform string `json:"platform,omitempty"`

	// What computes.
	Servers []string     `json:"servers,omitempty"`
	Name    string       `json:"name,omitempty"`
	Health  string       `json:"health,omitempty"`
	Beat    job.Duration `json:"beat,omitempty"`
	// CPUs, Memory and GPUs are what jobs may use; zero means all there is,
	// and 90 % of the memory.
	CPUs   int      `json:"cpus,omitempty"`
	Memory string   `json:"memory,omitempty"`
	GPUs   int      `json:"gpus,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Queues []string `json:"queues,omitempty"`

	worker.Settings `yaml:",inline"`
}

func (c config) sqliteFile() string { return filepath.Join(c.Data, "nanoos.db") }
func (c config) artifacts() string  { return orDefault(c.Artifacts, filepath.Join(c.Data, "artifacts")) }
func (c config) tokenPath() string  { return orDefault(c.TokenFile, filepath.Join(c.Data, "token")) }

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
	if err := c.readEnvironment(env); err != nil {
		return c, err
	}
	if c.Data == "" {
		if c.Data, err = defaultData(env); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *config) readEnvironment(env func(string) string) error {
	for _, v := range []struct {
		name  string
		field *string
	}{
		{"NANOOS_DATA", &c.Data}, {"NANOOS_LISTEN", &c.Listen}, {"NANOOS_ARTIFACTS", &c.Artifacts}, {"NANOOS_NAME", &c.Name},
		{"NANOOS_MEMORY", &c.Memory}, {"NANOOS_MPI_LAUNCHER", &c.Launcher},
		// The second is the name that NANO-OS used; ours wins.
		{"DATABASE_URL", &c.Database}, {"NANOOS_DATABASE", &c.Database},
	} {
		if value := env(v.name); value != "" {
			*v.field = value
		}
	}
	if servers := listOf(env("NANOOS_URL")); len(servers) > 0 {
		c.Servers = servers
	}
	if platform := cmp.Or(env("NANOOS_PLATFORM"), env("DATABASE_URL")); platform != "" && c.Platform == "" {
		c.Platform = platform
	}
	return c.Celery.readEnvironment(env)
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

// configured is the configuration with what was given as flags in front.
func (a *app) configured(cmd *cobra.Command, flags config) (config, error) {
	cfg, err := loadConfig(a.getenv)
	if err != nil {
		return cfg, err
	}
	for name, take := range map[string]func(){
		"data":          func() { cfg.Data = flags.Data },
		"listen":        func() { cfg.Listen = flags.Listen },
		"database":      func() { cfg.Database = flags.Database },
		"artifacts":     func() { cfg.Artifacts = flags.Artifacts },
		"require-token": func() { cfg.RequireToken = flags.RequireToken },
		"token-file":    func() { cfg.TokenFile = flags.TokenFile },
		"tls-cert":      func() { cfg.TLSCert = flags.TLSCert },
		"tls-key":       func() { cfg.TLSKey = flags.TLSKey },
		"insecure-http": func() { cfg.InsecureHTTP = flags.InsecureHTTP },
		"session":       func() { cfg.Session = flags.Session },
		"lost-after":    func() { cfg.LostAfter = flags.LostAfter },
		"sweep":         func() { cfg.Sweep = flags.Sweep },
		"server":        func() { cfg.Servers = flags.Servers },
		"name":          func() { cfg.Name = flags.Name },
		"health":        func() { cfg.Health = flags.Health },
		"beat":          func() { cfg.Beat = flags.Beat },
		"cpus":          func() { cfg.CPUs = flags.CPUs },
		"memory":        func() { cfg.Memory = flags.Memory },
		"gpus":          func() { cfg.GPUs = flags.GPUs },
		"tag":           func() { cfg.Tags = flags.Tags },
		"queue":         func() { cfg.Queues = flags.Queues },
	} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			take()
		}
	}
	return cfg, nil
}

func (c *config) dataFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Data, "data", "", "directory of everything that is kept here (default: in your state directory)")
}

// databaseFlags say where the state of a server is.
func (c *config) databaseFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Database, "database", "", "`URL` of PostgreSQL (NANOOS_DATABASE, DATABASE_URL; default: a file in the data directory)")
	f.StringVar(&c.Artifacts, "artifacts", "", "directory of files, the same for all servers (default: in the data directory)")
}

// serverFlags are those of a process that serves.
func (c *config) serverFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Listen, "listen", defaultListen, "address of the server; off this machine a token and TLS are needed")
	f.BoolVar(&c.RequireToken, "require-token", false, "ask clients on this machine for the token, too")
	f.StringVar(&c.TokenFile, "token-file", "", "file of the administrator's token, made if absent (default: token in the data directory)")
	f.StringVar(&c.TLSCert, "tls-cert", "", "certificate for TLS, a PEM file")
	f.StringVar(&c.TLSKey, "tls-key", "", "its private key, a PEM file")
	f.BoolVar(&c.InsecureHTTP, "insecure-http", false, "serve other machines without TLS, behind a proxy or on a network of your own")
	f.Var(&durationFlag{&c.Session}, "session", "how long a worker may be silent before contact counts as lost (default 60s)")
	f.Var(&durationFlag{&c.LostAfter}, "lost-after", "how long a silent worker keeps its jobs (default 15m)")
	f.Var(&durationFlag{&c.Sweep}, "sweep", "period of the leader's duties (default 10s)")
}

// offerFlags are those of a process that runs jobs.
func (c *config) offerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&c.CPUs, "cpus", 0, "CPUs that jobs may use (default: all)")
	f.StringVar(&c.Memory, "memory", "", "memory that jobs may use, as 16GiB (default: 90 % of all)")
	f.IntVar(&c.GPUs, "gpus", 0, "GPUs that jobs may use")
	f.StringSliceVar(&c.Tags, "tag", nil, "something this machine has that jobs may ask for; may be repeated")
	f.StringSliceVar(&c.Queues, "queue", nil, "queues to serve (default: all); may be repeated")
	f.Var(&durationFlag{&c.Beat}, "beat", "period of heartbeats (default 10s)")
}

// durationFlag is a duration as people write it, "90s", "2d", "1-12:00:00".
type durationFlag struct{ d *job.Duration }

func (f *durationFlag) String() string {
	if f.d == nil || *f.d == 0 {
		return ""
	}
	return f.d.String()
}

func (f *durationFlag) Set(text string) (err error) {
	*f.d, err = job.ParseDuration(text)
	return err
}

func (f *durationFlag) Type() string { return "duration" }
