package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// serviceName is what NANO-OS's own worker calls itself in its health answer,
// kept for the monitors that look for it.
const serviceName = "nano-os-worker"

func (s *Server) healthRoutes() {
	route(s, huma.Operation{OperationID: "get-status", Method: http.MethodGet, Path: "/api/v1/status",
		Tags: []string{"installation"}, Summary: "The whole installation in one screen"}, s.getStatus)
	route(s, huma.Operation{OperationID: "get-version", Method: http.MethodGet, Path: "/api/v1/version",
		Tags: []string{"installation"}, Summary: "What answers here"}, s.getVersion)
	health := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"installation"}, Summary: summary,
			Responses: jsonResponse(s, Health{}, "It is healthy.")}
	}
	s.plain(health("get-health", "/healthz", "Whether the process lives"), s.healthz)
	s.plain(health("get-readiness", "/readyz", "Whether it can do its work; 503 when not"), s.readyz)
	s.plain(huma.Operation{OperationID: "get-metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{"installation"},
		Summary: "Metrics in the Prometheus format", Responses: textResponse("Metrics.")}, s.metrics.serve)
}

type statusOutput struct{ Body Status }

func (s *Server) getStatus(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	out := &statusOutput{Body: Status{APIVersion: Version, Kind: "Status", Service: serviceName, Version: s.opt.Version, StartedAt: s.opt.StartedAt}}
	frozen := ""
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		out.Body.Time = tx.Now()
		if frozen, err = tx.Meta(ctx, metaFrozen); err != nil {
			return err
		}
		if out.Body.Queues, err = queueInfos(ctx, tx, t); err != nil {
			return err
		}
		out.Body.Workers, err = s.workerInfos(ctx, tx, t)
		return err
	})
	if frozen != "" {
		out.Body.Problems = append(out.Body.Problems, Reason{Code: "frozen", Message: "the installation is frozen: " + frozen,
			Fix: "look at what was restored, then: nanoos server thaw"})
	}
	out.Body.Problems = append(out.Body.Problems, statusProblems(out.Body)...)
	return out, err
}

// statusProblems is what needs somebody's attention.
func statusProblems(st Status) []Reason {
	var problems []Reason
	online, queued := 0, int64(0)
	for _, w := range st.Workers {
		switch w.State {
		case workerOnline:
			online++
		case workerLost:
			problems = append(problems, Reason{Code: "contact_lost", Fix: "look at the machine, or start it again: nanoos worker",
				Message: fmt.Sprintf("worker %s was last heard %s ago and holds %d jobs", w.Name, st.Time.Sub(w.SeenAt).Round(time.Second), len(w.Running))})
		}
	}
	for _, q := range st.Queues {
		queued += q.Jobs[job.Queued]
		if q.Paused != nil {
			problems = append(problems, Reason{Code: "queue_paused", Message: pausedMessage(q), Fix: "nanoos queue resume " + q.Name})
		}
	}
	if online == 0 {
		problems = append(problems, Reason{Code: "no_worker", Message: fmt.Sprintf("no worker is online; %d jobs wait", queued), Fix: "start one with: nanoos worker"})
	}
	return problems
}

func pausedMessage(q QueueInfo) string {
	m := "queue " + q.Name + " is paused"
	if q.Paused.By != "" {
		m += " by " + q.Paused.By
	}
	if q.Paused.Why != "" {
		m += fmt.Sprintf(" because %q", q.Paused.Why)
	}
	return m
}

type versionOutput struct{ Body VersionInfo }

func (s *Server) getVersion(context.Context, *struct{}) (*versionOutput, error) {
	return &versionOutput{VersionInfo{APIVersion: Version, Kind: "Version", Service: serviceName, Version: s.opt.Version,
		StartedAt: s.opt.StartedAt, Time: time.Now().UTC()}}, nil
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, Health{Status: "healthy", Service: serviceName, Version: s.opt.Version})
}

// metaFrozen is the setting of the installation that says why it is frozen. It
// can be read, and people can look at it, so the server is ready (G21).
const metaFrozen = "frozen"

// readyTimeout is how long the store may take to answer before it counts as away.
const readyTimeout = 2 * time.Second

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	why, frozen := "", ""
	err := s.Store.Read(ctx, func(tx store.ReadTx) (err error) {
		frozen, err = tx.Meta(ctx, metaFrozen)
		return err
	})
	switch {
	case err != nil:
		why = "the database does not answer"
	case s.closing.Err() != nil:
		why, err = "it is stopping", context.Cause(s.closing)
	case s.Ready != nil:
		if err = s.Ready(); err != nil {
			why = "a part of it cannot do its work; its log says more"
		}
	}
	if err != nil {
		s.Logger.Warn("the server is not ready", "request", requestID(r.Context()), "error", err)
		return &job.Error{Code: job.Unavailable, Message: "the server is not ready", Why: why, Fix: "nanoos doctor"}
	}
	checks := map[string]string{"store": "ok"}
	if frozen != "" {
		checks["installation"] = "frozen: " + frozen
	}
	if s.Doors != nil {
		for name, fault := range s.Doors() {
			checks[name] = "ok"
			if fault != nil {
				checks[name] = "does not work; the log says why" // anybody may ask
			}
		}
	}
	return writeJSON(w, http.StatusOK, Health{Status: "healthy", Service: serviceName, Version: s.opt.Version, Checks: checks})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here means that the client is gone.
	_, _ = w.Write(append(raw, '\n'))
	return nil
}
