package engine

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Report is what is stored of a finished attempt: the parsed result, the files
// that were kept, and what is needed to believe it.
type Report struct {
	Result
	Files      []KeptFile `json:"files,omitempty"`
	Provenance Provenance `json:"provenance"`
}

// KeptFile is one stored file of a run.
type KeptFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Key    string `json:"key"` // in the artifact store
}

// Provenance says what made a result: inputs, programs, library files, machine.
type Provenance struct {
	Engine    string       `json:"engine"`
	Nanoos    string       `json:"nanoos"` // our version
	Host      string       `json:"host"`
	Worker    string       `json:"worker"`
	Attempt   int          `json:"attempt"`
	StartedAt time.Time    `json:"started_at"`
	EndedAt   time.Time    `json:"ended_at"`
	Commands  [][]string   `json:"commands"`
	Programs  []HashedFile `json:"programs,omitempty"`
	Inputs    []HashedFile `json:"inputs,omitempty"`
	Library   []HashedFile `json:"library,omitempty"` // pseudopotentials, potentials
	Exit      *job.Exit    `json:"exit,omitempty"`
	Fixes     []string     `json:"fixes,omitempty"` // corrections applied by us
	Notes     []string     `json:"notes,omitempty"`
}

// HashedFile is a file and its SHA-256.
type HashedFile struct {
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	Version string `json:"version,omitempty"`
}
