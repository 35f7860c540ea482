package api_test

import (
	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/worker"
)

// A worker on another machine needs nothing but the client.
var (
	_ worker.Queue   = (*api.WorkerClient)(nil)
	_ worker.Outputs = (*api.WorkerClient)(nil)
	_ artifact.Store = (*api.WorkerClient)(nil)
)
