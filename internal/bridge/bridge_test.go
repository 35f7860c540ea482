package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

func TestARowWithItsStructureAndTemplateBecomesAJob(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		structure, template := job.NewID(), job.NewID()
		own, extra := "", ""
		if w.later {
			own, extra = ", owner_id", ", '"+owner+"'"
		}
		w.sql(fmt.Sprintf(`INSERT INTO structures (id, name, format, raw_text, lattice, atoms%s) VALUES ('%s', 'Si', 'internal', '',
			'{"a": 3.867, "b": 3.867, "c": 3.867, "alpha": 60, "beta": 60, "gamma": 60}',
			'[{"species": "Si", "position": [0, 0, 0]}, {"species": "Si", "position": [0.25, 0.25, 0.25]}]'%s);
			INSERT INTO workflow_templates VALUES ('%s', 'relax', 'QE', '{"calculation": "relax", "ecutwfc": 80}', '{"cores": 4}')`, own, structure, extra, template))
		id := w.add("name, status, engine, priority, structure_id, workflow_template_id, parameters, resources",
			fmt.Sprintf(`'silicon', 'QUEUED', 'qe', 8, '%s', '%s', '{"ecutwfc": 30}', '{"memory": "2GB", "walltime": "02:00:00"}'`, structure, template))
		spec, err := b.Import(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Engine != "qe" || spec.Name != "silicon" || spec.Priority != 8 || spec.Key != "platform:"+string(id) || spec.Labels["platform"] != "nano-os" ||
			spec.Demand.CPUs != 4 || spec.Demand.Memory != 2<<30 || string(spec.Params) != `{"calculation":"relax","ecutwfc":30}` || !strings.Contains(string(spec.Structure), `"Si"`) {
			t.Errorf("%+v", spec)
		}
		// A message that comes again finds the job of the first time (G2).
		if _, err := w.q.SubmitAs(t.Context(), job.DefaultTenant, id, spec); err != nil {
			t.Fatal(err)
		}
		again, err := b.Import(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := w.q.SubmitAs(t.Context(), job.DefaultTenant, id, again); err != nil || !out.Existing {
			t.Errorf("again: %+v, %v", out, err)
		}
	})
}

func TestARowThatNoJobCanBeMadeOfFailsWithAllItsProblems(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		w.q = queue.New(w.st, queue.Options{Check: func(s job.Spec) (job.Spec, []job.Warning, error) {
			return s, nil, job.InvalidInput("refused", []job.Problem{{Field: "parameters.ecutwfc", Message: "is required and missing"}})
		}})
		b := w.open()
		id := w.add("status, engine, parameters, resources", `'QUEUED', 'QE', '{"cutoff": 40}', '{"memory": "much"}'`)
		_, err := b.Import(t.Context(), id)
		e, ok := errors.AsType[*job.Error](err)
		if !ok || e.Code != job.Invalid || len(e.Problems) != 3 {
			t.Fatalf("Import: %v", err)
		}
		if got := w.column(id, "status"); got != "FAILED" {
			t.Errorf("the row is %s", got)
		}
		message := w.column(id, "error_message")
		for _, field := range []string{"parameters.cutoff", "resources.memory", "parameters.ecutwfc"} {
			if !strings.Contains(message, field) {
				t.Errorf("error_message does not name %s: %s", field, message)
			}
		}
	})
}

func TestOnlyARowThatWaitsIsImported(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		unknown := job.NewID()
		_, err := b.Import(t.Context(), unknown)
		if job.CodeOf(err) != job.NotFound || err.Error() != "Job "+string(unknown)+" not found" {
			t.Errorf("unknown: %v", err)
		}
		id := w.add("status, engine, parameters", `'COMPLETED', 'mock', '{}'`)
		if _, err := b.Import(t.Context(), id); job.CodeOf(err) != job.Conflict {
			t.Errorf("ended: %v", err)
		}
		if status, err := b.Known(t.Context(), id); status != "COMPLETED" || err != nil {
			t.Errorf("Known = %q, %v", status, err)
		}
		if _, err := b.Known(t.Context(), unknown); job.CodeOf(err) != job.NotFound {
			t.Errorf("Known: %v", err)
		}
	})
}

func TestQueuedTellsThePlatformOnce(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		queued := func(id job.ID, task string) {
			t.Helper()
			if err := b.Queued(t.Context(), id, task); err != nil {
				t.Error(err)
			}
		}
		fresh, other, ended := w.pending(), w.pending(), w.add("status, engine, parameters", `'FAILED', 'mock', '{}'`)
		queued(fresh, "task")
		queued(fresh, "another")
		queued(other, "task") // it is another row's: this one is queued without
		queued(ended, "third")
		queued(job.NewID(), "fourth")
		for id, want := range map[job.ID]string{fresh: "QUEUED task", other: "QUEUED -", ended: "FAILED -"} {
			if got := w.column(id, "status || ' ' || coalesce(celery_task_id, '-')"); got != want {
				t.Errorf("the row is %q, want %q", got, want)
			}
		}
		if w.column(fresh, "submitted_at") == "" {
			t.Error("submitted_at is not set")
		}
	})
}

func TestCancelEndsARowThatNobodyRuns(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		id := w.pending()
		for _, want := range []string{"", "CANCELLED"} {
			if was, cancelled, err := b.Cancel(t.Context(), id); was != want || cancelled != (want == "") || err != nil {
				t.Errorf("Cancel = %q, %v, %v; want %q", was, cancelled, err, want)
			}
		}
		if got := w.column(id, "status || ' ' || (finished_at IS NOT NULL)"); got != "CANCELLED true" {
			t.Errorf("the row is %q", got)
		}
		if _, _, err := b.Cancel(t.Context(), job.NewID()); job.CodeOf(err) != job.NotFound {
			t.Errorf("unknown: %v", err)
		}
	})
}

func TestUpdateMovesARowByThePlatformsRules(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		id := w.pending()
		update := func(fields string) error {
			t.Helper()
			var in map[string]json.RawMessage
			if err := json.Unmarshal([]byte(fields), &in); err != nil {
				t.Fatal(err)
			}
			return b.Update(t.Context(), id, in)
		}
		for _, step := range []struct {
			fields string
			code   job.Code
			row    string
		}{
			{`{"status":"RUNNING"}`, job.Conflict, "PENDING 0  0 false false"},
			{`{"status":"QUEUED","progress":null}`, "", "QUEUED 0  0 false false"},
			{`{"job_id":"x","status":"running","progress":0.25,"current_step":"SCF","worker_id":"w","retry_count":"2"}`, "", "RUNNING 0.25 SCF 2 true false"},
			{`{"status":"RUNNING","progress":"0.5"}`, "", "RUNNING 0.5 SCF 2 true false"},
			{`{"status":"PENDING"}`, job.Conflict, "RUNNING 0.5 SCF 2 true false"},
			{`{"status":"DONE","progress":2,"retry_count":1.5,"started_at":"yesterday","name":"x"}`, job.Invalid, "RUNNING 0.5 SCF 2 true false"},
			{`{"status":"COMPLETED","progress":1,"finished_at":"2026-01-02T03:04:05.678901"}`, job.Code(""), "COMPLETED 1 SCF 2 true true"},
			{`{"status":"COMPLETED","progress":0}`, "", "COMPLETED 1 SCF 2 true true"},
			{`{"status":"FAILED"}`, job.Conflict, "COMPLETED 1 SCF 2 true true"},
		} {
			if strings.Contains(step.fields, "COMPLETED") {
				w.byHand("UPDATE simulation_jobs SET worker_id = NULL WHERE status = 'RUNNING'") // the guard asks for results of workers' jobs
			}
			err := update(step.fields)
			if job.CodeOf(err) != step.code {
				t.Errorf("%s: %v", step.fields, err)
			}
			if e, ok := errors.AsType[*job.Error](err); ok && e.Code == job.Invalid && len(e.Problems) != 5 {
				t.Errorf("problems: %v", e.Problems)
			}
			got := w.column(id, "concat_ws(' ', status, coalesce(progress, 0), coalesce(current_step, ''), coalesce(retry_count, 0), started_at IS NOT NULL, finished_at IS NOT NULL)")
			if d := cmp.Diff(strings.NewReplacer("true", "t", "false", "f").Replace(step.row), got); d != "" {
				t.Errorf("%s: %s", step.fields, d)
			}
		}
		if got := w.column(id, "extract(year FROM finished_at)"); got != "2026" {
			t.Errorf("finished in %s", got)
		}
		if err := b.Update(t.Context(), job.NewID(), map[string]json.RawMessage{"status": json.RawMessage(`"FAILED"`)}); job.CodeOf(err) != job.NotFound {
			t.Errorf("unknown: %v", err)
		}
	})
}

func TestOpenSaysWhetherThePlatformIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t), "first")
	opt := Options{Store: w.st, Queue: w.q, Log: slog.New(slog.DiscardHandler)}
	if _, err := Open(t.Context(), "sqlite+aiosqlite:///./app.db", opt); !errors.Is(err, ErrNoPlatform) {
		t.Errorf("another kind of database: %v", err)
	}
	if _, err := Open(t.Context(), "postgresql://user:secret@host:port/x", opt); job.CodeOf(err) != job.Invalid || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken address: %v", err)
	}
	for _, url := range []string{
		strings.Replace(w.url, "postgres://", "postgresql+asyncpg://", 1),
		strings.Replace(strings.Replace(w.url, "postgres://", "postgresql+asyncpg://", 1), "sslmode=disable", "ssl=disable&prepared_statement_cache_size=0", 1),
		strings.Replace(w.url, "postgres://", "postgresql+psycopg2://", 1),
	} {
		b, err := Open(t.Context(), url, opt)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if err := b.Health(); err != nil {
			t.Error(err)
		}
		b.Close()
	}
}

func TestABridgeOpensWhileThePlatformIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t), "first")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), "postgres://u:secret@"+addr+"/x?sslmode=disable", Options{Store: w.st, Queue: w.q, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Health(); job.CodeOf(err) != job.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("health: %v", err)
	}
}

func TestAPlatformThatIsFrozenHoldsUpNobodyForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{}), "first")
	b := w.open()
	id := w.pending()
	w.cluster.Freeze(t)
	defer w.cluster.Thaw(t)
	if _, err := b.Import(t.Context(), id); job.CodeOf(err) != job.Unavailable {
		t.Errorf("Import: %v", err)
	}
}
