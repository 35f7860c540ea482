package bridge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

func TestTheLifeOfAJobShowsInItsRow(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		id := w.pending()
		w.submit(b, id)
		w.wait(id, "status", "QUEUED")
		if got := w.column(id, "celery_task_id"); got != "task-"+string(id) {
			t.Errorf("celery_task_id is %q", got)
		}
		l := w.claim()
		w.wait(id, "status", "RUNNING")
		w.wait(id, "progress", "0.1")
		w.wait(id, "current_step", "Starting mock")
		w.progress(l, job.Progress{Fraction: 0.5, Stage: "SCF iteration 7, which is a step of very many words"})
		w.wait(id, "progress", "0.5")
		if got := w.column(id, "current_step"); !strings.HasPrefix(got, "SCF iteration 7") || w.later && len([]rune(got)) != 40 {
			t.Errorf("current_step is %q", got)
		}
		w.progress(l, job.Progress{Fraction: 1, Stage: "Finalizing"})
		w.wait(id, "progress", "0.9")
		w.finish(l, succeeded(id))
		w.wait(id, "status", "COMPLETED")
		want := map[string]string{"progress": "1", "current_step": "Completed", "error_message": "", "retry_count": "0", "worker_id": "node7-abc123",
			"started_at <= finished_at AND finished_at <= updated_at + interval '10s' AND finished_at > now() AT TIME ZONE 'UTC' - interval '1h'": "true"}
		if !w.later {
			want["worker_hostname"] = "node7.cluster"
		} else {
			want["billing_code"] = "none"
		}
		for column, value := range want {
			if got := w.column(id, column); got != value {
				t.Errorf("%s is %q, want %q", column, got, value)
			}
		}
		checkResult(t, w, id)
	})
}

func checkResult(t *testing.T, w *world, id job.ID) {
	t.Helper()
	want := map[string]string{
		"convergence_reached": "true", "quality_score": "1", "artifacts_path": "jobs/" + string(id) + "/1",
		"summary->>'energy_eV'": "-215.5", "summary->>'energy'": "-215.5", "summary->>'band_gap'": "1.1", "summary->>'natoms'": "2", "summary->>'status'": "completed",
		"artifacts->1->>'name'": "a b.log", "artifacts->1->>'path'": "jobs/" + string(id) + "/1/a~20b.log", "artifacts->1->>'size'": "7",
		"detailed_results->>'outcome'": "success", "detailed_results->'series'->0->>'title'": "null \uFFFD and \\u0000",
	}
	if w.later {
		want["owner_id"], want["extra_metadata->>'source'"] = owner, "nanoos"
	} else {
		want["metadata->>'engine'"] = "mock"
	}
	for expression, value := range want {
		if got := w.result(id, expression); got != value {
			t.Errorf("%s is %q, want %q", expression, got, value)
		}
	}
	if got := w.sql("SELECT count(*) FROM simulation_results"); got != "1" {
		t.Errorf("there are %s results", got)
	}
}

func TestAJobThatIsTriedAgainStaysRunningForThePlatform(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		w.q = queue.New(w.st, queue.Options{Rand: func() float64 { return 0 }}) // the shortest pause
		b := w.open()
		w.run(b)
		id := w.pending()
		w.submit(b, id)
		crash := job.Outcome{Exit: &job.Exit{Observed: true, Code: 1}, Failure: &job.Failure{Class: job.ClassProgram, Code: "exit_code", Message: "it crashed", Fix: "look at stderr"}}
		w.finish(w.claim(), crash)
		w.wait(id, "retry_count", "1")
		w.wait(id, "status", "RUNNING")
		if got := w.column(id, "current_step"); !strings.HasPrefix(got, "Waiting: retry 1 of 3: it crashed") {
			t.Errorf("current_step is %q", got)
		}
		if _, err := w.q.Retry(t.Context(), job.DefaultTenant, id, queue.Actor{}); err != nil {
			t.Fatal(err)
		}
		crash.Failure.Class = job.ClassInput
		w.finish(w.claim(), crash)
		w.wait(id, "status", "FAILED")
		if got := w.column(id, "error_message"); got != "it crashed (exit_code)\nlook at stderr" {
			t.Errorf("error_message is %q", got)
		}
		if got := w.sql("SELECT count(*) FROM simulation_results"); got != "0" {
			t.Errorf("there are %s results", got)
		}
	})
}

func TestAJobWhoseTimeIsOverSaysSoWhereThePlatformHasAWordForIt(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		id := w.pending()
		w.submit(b, id)
		w.finish(w.claim(), job.Outcome{Exit: &job.Exit{Observed: true, Signal: "SIGKILL", Cause: job.CauseWalltime},
			Failure: &job.Failure{Class: job.ClassResources, Code: "walltime", Message: "it took longer than 1h"}})
		want := "FAILED"
		if w.later {
			want = "TIMEOUT"
		}
		w.wait(id, "status", want)
		if got := w.column(id, "error_message"); !strings.Contains(got, "longer than 1h") {
			t.Errorf("error_message is %q", got)
		}
	})
}

func TestAJobThatThePlatformCancelsStopsWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		running, waiting := w.pending(), w.pending()
		w.submit(b, running)
		w.claim()
		w.submit(b, waiting)
		w.wait(running, "status", "RUNNING")
		w.wait(waiting, "status", "QUEUED")
		w.sql("UPDATE simulation_jobs SET status = 'CANCELLED'")
		began := time.Now()
		eventually(t, func() bool { return w.job(running).Cancel != nil && w.job(waiting).State == job.Cancelled },
			func() string { return fmt.Sprintf("%+v\n%+v", w.job(running), w.job(waiting)) })
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if by := w.job(running).Cancel.By; by != "platform" {
			t.Errorf("it was cancelled by %q", by)
		}
	})
}

func TestARowThatThePlatformEndedIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		id, other := w.pending(), w.pending()
		w.submit(b, id)
		l := w.claim()
		w.wait(id, "status", "RUNNING")
		w.sql("UPDATE simulation_jobs SET status = 'FAILED', error_message = 'too old' WHERE id = '" + string(id) + "'")
		before := w.column(id, "row_to_json(simulation_jobs)::text")
		w.finish(l, succeeded(id))
		// What comes later in the history is told later.
		w.submit(b, other)
		w.finish(w.claim(), succeeded(other))
		w.wait(other, "status", "COMPLETED")
		if d := cmp.Diff(before, w.column(id, "row_to_json(simulation_jobs)::text")); d != "" {
			t.Error(d)
		}
		if got := w.result(id, "id"); got != "" {
			t.Error("the failed row got a result")
		}
	})
}

func TestARowThatThePlatformSetBackIsWrittenAgain(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		id := w.pending()
		w.submit(b, id)
		w.finish(w.claim(), succeeded(id))
		w.wait(id, "status", "COMPLETED")
		// The platform publishes the task first, and commits QUEUED when it is done.
		w.byHand("UPDATE simulation_jobs SET status = 'QUEUED', celery_task_id = 'late'")
		w.wait(id, "status", "COMPLETED")
		checkResult(t, w, id)
	})
}

func TestAMirrorThatWasAwayCatchesUp(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		stop := w.run(b)
		first := w.pending()
		w.submit(b, first)
		l := w.claim()
		w.wait(first, "status", "RUNNING")
		stop()
		w.finish(l, succeeded(first))
		var ids []job.ID
		for range 20 {
			id := w.pending()
			w.submit(b, id)
			w.finish(w.claim(), succeeded(id))
			ids = append(ids, id)
		}
		// The lease of the one that stopped runs out by itself.
		c := w.open()
		w.run(c)
		for _, id := range append(ids, first) {
			w.wait(id, "status", "COMPLETED")
		}
		if got := w.sql("SELECT count(*) FROM simulation_results"); got != "21" {
			t.Errorf("there are %s results", got)
		}
	})
}

func TestTwoServersWriteOneResult(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		a, b := w.open(), w.open()
		w.run(a)
		w.run(b)
		var ids []job.ID
		for range 30 {
			id := w.pending()
			w.submit(a, id)
			w.finish(w.claim(), succeeded(id))
			ids = append(ids, id)
		}
		// A third that believes it leads does no harm either.
		m := w.open().newMirror()
		for _, id := range ids {
			m.owed[id] = 0
		}
		m.until = time.Now().Add(time.Hour)
		seen, err := m.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.tell(t.Context(), seen.pictures); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			w.wait(id, "status", "COMPLETED")
		}
		if got := w.sql("SELECT count(*), count(DISTINCT simulation_job_id) FROM simulation_results"); got != "30|30" {
			t.Errorf("results: %s", got)
		}
	})
}

func TestF27_ThePlatformsDatabaseBeingKilledHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{Durable: true}), "first")
	b := w.open()
	w.run(b)
	before, during := w.pending(), w.pending()
	w.submit(b, before)
	w.submit(b, during)
	l := w.claim()
	w.wait(before, "status", "RUNNING")
	if err := b.Health(); err != nil {
		t.Errorf("in health: %v", err)
	}
	if err := w.platform.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.cluster.Kill(t)
	w.progress(l, job.Progress{Fraction: 0.7, Stage: "far"})
	w.finish(l, succeeded(before))
	w.claim() // the job goes on being run
	eventually(t, func() bool { return b.Health() != nil }, func() string { return "the health says nothing" })
	if code := job.CodeOf(b.Health()); code != job.Unavailable {
		t.Errorf("health: %v", b.Health())
	}
	if _, err := b.Import(t.Context(), before); job.CodeOf(err) != job.Unavailable {
		t.Errorf("Import: %v", err)
	}
	w.cluster.Restart(t)
	w.wait(before, "status", "COMPLETED")
	w.wait(during, "status", "RUNNING")
	if got := w.sql("SELECT count(*) FROM simulation_results"); got != "1" {
		t.Errorf("there are %s results", got)
	}
	eventually(t, func() bool { return b.Health() == nil }, func() string { return b.Health().Error() })
}

func TestABadRowKeepsNobodyElses(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		bad := w.pending()
		w.sql(`CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no results here'; END $$;
			CREATE TRIGGER bad BEFORE INSERT ON simulation_results FOR EACH ROW WHEN (NEW.simulation_job_id = '` + string(bad) + `') EXECUTE FUNCTION bad()`)
		ids := []job.ID{w.pending(), bad, w.pending()}
		for _, id := range ids {
			w.submit(b, id)
			w.finish(w.claim(), succeeded(id))
		}
		w.run(b)
		w.wait(ids[0], "status", "COMPLETED")
		w.wait(ids[2], "status", "COMPLETED")
		eventually(t, func() bool { return strings.Contains(w.column(bad, "error_message"), "no results here") }, func() string { return "the row does not say why" })
		after := w.pending()
		w.submit(b, after)
		w.wait(after, "current_step", "Waiting for a worker")
	})
}

func TestARowThatIsHeldIsWrittenLaterThanTheOthers(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		busy, free := w.pending(), w.pending()
		w.submit(b, busy)
		w.submit(b, free)
		w.wait(busy, "current_step", "Waiting for a worker")
		w.wait(free, "current_step", "Waiting for a worker")
		release := w.hold(busy)
		w.claim()
		w.claim()
		w.wait(free, "status", "RUNNING")
		if got := w.column(busy, "status"); got != "QUEUED" {
			t.Errorf("the row that is held is %s", got)
		}
		release()
		w.wait(busy, "status", "RUNNING")
	})
}

func TestColumnsAreFoundByLookingWhileTheMirrorRuns(t *testing.T) {
	t.Parallel()
	generations(t, func(t *testing.T, w *world) {
		b := w.open()
		w.run(b)
		id, next := w.pending(), w.pending()
		w.submit(b, id)
		w.wait(id, "current_step", "Waiting for a worker")
		w.sql("ALTER TABLE simulation_jobs DROP COLUMN current_step, DROP COLUMN retry_count; ALTER TABLE simulation_results DROP COLUMN quality_score")
		w.submit(b, next)
		w.finish(w.claim(), succeeded(id))
		w.wait(id, "status", "COMPLETED")
	})
}

func TestADummyUnderThePlatformsIDIsMirrored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t), "first")
	w.run(w.open())
	id := w.pending()
	if _, err := w.q.SubmitAs(t.Context(), job.DefaultTenant, id, job.Spec{Engine: "mock", Labels: map[string]string{"dummy_job": string(id)}}); err != nil {
		t.Fatal(err)
	}
	l := w.claim()
	w.wait(id, "status", "RUNNING")
	w.progress(l, job.Progress{Fraction: 0.25, Stage: "Initializing"})
	w.wait(id, "progress", "0.25")
	w.finish(l, succeeded(id))
	w.wait(id, "status", "COMPLETED")
}

func TestOtherJobsAreNoneOfThePlatforms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shared.Get(t), "first")
	b := w.open()
	w.run(b)
	stranger := w.pending()
	if _, err := w.q.SubmitAs(t.Context(), job.DefaultTenant, stranger, job.Spec{Engine: "mock"}); err != nil {
		t.Fatal(err)
	}
	w.finish(w.claim(), succeeded(stranger))
	ours := w.pending()
	w.submit(b, ours)
	w.finish(w.claim(), succeeded(ours))
	w.wait(ours, "status", "COMPLETED")
	if got := w.column(stranger, "status"); got != "PENDING" {
		t.Errorf("the row of another job is %s", got)
	}
}

func TestAPictureIsStorableWhateverARunPrinted(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":"b"}`:            `{"a":"b"}`,
		`{"a":"\u0000"}`:       `{"a":"\ufffd"}`,
		`{"a":"\\u0000"}`:      `{"a":"\\u0000"}`,
		`{"a":"\\\u0000\\\\"}`: `{"a":"\\\ufffd\\\\"}`,
	} {
		if got := storable([]byte(in)); got != want || !json.Valid([]byte(got)) {
			t.Errorf("storable(%s) = %s, want %s", in, got, want)
		}
	}
}
