package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// simulation makes a request of a NANO-OS program, which must succeed, and
// returns its answer.
func (r *rig) simulation(method string, id job.ID, verb string) map[string]any {
	r.Helper()
	resp, raw := r.do(method, "/api/v1/simulations/"+string(id)+"/"+verb, "")
	var answer map[string]any
	if err := json.Unmarshal([]byte(raw), &answer); err != nil || resp.StatusCode != http.StatusOK {
		r.Fatalf("%s: %s %s", verb, resp.Status, raw)
	}
	delete(answer, "$schema")
	return answer
}

// refusedSimulation makes one that must fail with a detail that says why.
func (r *rig) refusedSimulation(status int, method string, id job.ID, verb, detail string) {
	r.Helper()
	if p := r.refused(status, method, "/api/v1/simulations/"+string(id)+"/"+verb, ""); !strings.Contains(p.Detail, detail) {
		r.Errorf("%s: the detail is %q, want %q in it", verb, p.Detail, detail)
	}
}

func (r *rig) held(engine string) job.ID {
	r.Helper()
	req := JobRequest{Engine: engine, Hold: true}
	if engine == "deck" {
		req.Files = []FileInput{{Name: "in.deck", Text: "deck"}}
	}
	return r.submit(req).ID
}

// tickets returns those of a job.
func (r *rig) tickets(id job.ID) (ts []store.Ticket) {
	r.Helper()
	err := r.server.Store.Read(r.Context(), func(tx store.ReadTx) (err error) {
		ts, err = tx.TicketsOf(r.Context(), celeryDoor, []job.ID{id})
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return ts
}

func TestASimulationIsSubmittedRunAndSeenAsATask(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	id := r.held("mock")
	r.refusedSimulation(http.StatusBadRequest, "GET", id, "task-status", "not submitted yet")
	answer := r.simulation("POST", id, "submit")
	task, _ := answer["celery_task_id"].(string)
	want := map[string]any{"job_id": string(id), "celery_task_id": task, "status": "QUEUED", "message": "the job was submitted"}
	if d := cmp.Diff(want, answer); d != "" || !job.ID(task).Valid() || task[14] != '4' {
		t.Errorf("submit (-want +got):\n%s", d)
	}
	ts := r.tickets(id)
	if len(ts) != 1 || ts[0].ID != task || ts[0].State != store.TicketOpen || ts[0].Job != id || len(ts[0].Body) != 0 || !ts[0].Due.IsZero() {
		t.Errorf("tickets are %+v", ts)
	}
	shape := func(state string, ready, successful, failed bool, result, traceback any) map[string]any {
		return map[string]any{"job_id": string(id), "celery_task_id": task, "task_state": state, "task_ready": ready, "task_successful": successful,
			"task_failed": failed, "task_result": result, "task_traceback": traceback}
	}
	status := func(want map[string]any) {
		t.Helper()
		if d := cmp.Diff(want, r.simulation("GET", id, "task-status")); d != "" {
			t.Errorf("task-status (-want +got):\n%s", d)
		}
	}
	status(shape("PENDING", false, false, false, nil, nil))
	r.refusedSimulation(http.StatusBadRequest, "POST", id, "submit", "it is QUEUED, not PENDING")
	l := r.claim()
	status(shape("STARTED", false, false, false, map[string]any{"hostname": workerName}, nil))
	_, err := r.queue.Beat(t.Context(), workerName, []job.Held{{ID: id, Fence: l.Fence, Progress: &job.Progress{Fraction: 0.25, Stage: "step 1 of 4"}}})
	if err != nil {
		t.Fatal(err)
	}
	status(shape("PROGRESS", false, false, false, map[string]any{"progress": 0.25, "current_step": "step 1 of 4"}, nil))
	r.finish(l, nil)
	status(shape("SUCCESS", true, true, false, map[string]any{"job_id": string(id), "status": "success",
		"summary": map[string]any{"formula": "Si2", "energy_eV": -15.85, "energy": -15.85, "status": "completed", "message": "Simulation completed successfully"}}, nil))
	r.refusedSimulation(http.StatusBadRequest, "POST", id, "submit", "it is COMPLETED")
	r.refusedSimulation(http.StatusBadRequest, "POST", id, "cancel", "it is COMPLETED")
}

func TestAFailedSimulationSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	id := r.held("mock")
	r.simulation("POST", id, "submit-dummy")
	r.finish(r.claim(), &job.Failure{Class: job.ClassInput, Code: "input_error", Message: "ecutwfc is missing", Fix: "give it"})
	got := r.simulation("GET", id, "task-status")
	if got["task_state"] != "FAILURE" || got["task_failed"] != true || got["task_ready"] != true || got["task_successful"] != false || got["task_result"] != "ecutwfc is missing" {
		t.Errorf("task-status is %v", got)
	}
	if want := "Traceback (most recent call last):\nValueError: ecutwfc is missing [input_error]\nFix: give it"; got["task_traceback"] != want {
		t.Errorf("the traceback is %q", got["task_traceback"])
	}
}

func TestADummyIsAJobOfTheMockEngine(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	deck, mock := r.held("deck"), r.held("mock")
	r.refusedSimulation(http.StatusBadRequest, "POST", deck, "submit-dummy", "its engine is deck")
	if ts := r.tickets(deck); len(ts) != 0 {
		t.Errorf("a refused one has tickets: %+v", ts)
	}
	if got := r.simulation("POST", mock, "submit-dummy"); got["status"] != "QUEUED" {
		t.Errorf("submit-dummy: %v", got)
	}
	if got := r.simulation("POST", deck, "submit"); got["status"] != "QUEUED" {
		t.Errorf("submit: %v", got)
	}
}

func TestG2_ASubmissionThatWasCutOffGoesOnUnderItsTask(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	id := r.held("mock")
	before := store.Ticket{Door: celeryDoor, ID: newTaskID(), State: store.TicketOpen, Job: id}
	if err := r.server.Store.Write(t.Context(), func(tx store.Tx) error { return tx.SaveTickets(t.Context(), []store.Ticket{before}) }); err != nil {
		t.Fatal(err)
	}
	if got := r.simulation("POST", id, "submit"); got["celery_task_id"] != before.ID {
		t.Errorf("submit: %v, want the task %s", got, before.ID)
	}
}

func TestAnUnknownSimulationIsNotFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	id := r.held("mock")
	for _, unknown := range []job.ID{job.NewRandomID(), "@last", id[:8], "job-42"} {
		for _, verb := range []string{"submit", "submit-dummy", "cancel", "update-status?status=CANCELLED"} {
			r.refusedSimulation(http.StatusNotFound, "POST", unknown, verb, "no job")
		}
		r.refusedSimulation(http.StatusNotFound, "GET", unknown, "task-status", "no job")
	}
	if got := r.simulation("POST", job.ID(strings.ToUpper(string(id))), "submit"); got["job_id"] != string(id) {
		t.Errorf("an id in capitals: %v", got)
	}
}

func TestASimulationIsCancelled(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	waiting, running := r.held("mock"), r.held("mock")
	got := r.simulation("POST", waiting, "cancel")
	cancel, _ := got["cancel_task_id"].(string)
	if d := cmp.Diff(map[string]any{"job_id": string(waiting), "cancel_task_id": cancel, "message": "the job was cancelled"}, got); d != "" || !job.ID(cancel).Valid() {
		t.Errorf("cancel (-want +got):\n%s", d)
	}
	r.refusedSimulation(http.StatusBadRequest, "POST", waiting, "cancel", "it is CANCELLED")
	got = r.simulation("GET", waiting, "task-status")
	if got["celery_task_id"] != nil || got["task_state"] != "REVOKED" || got["task_result"] != "revoked" || got["task_failed"] != false {
		t.Errorf("task-status: %v", got)
	}
	r.simulation("POST", running, "submit")
	l := r.claim()
	if got := r.simulation("POST", running, "cancel"); got["message"] != "the job is being stopped" {
		t.Errorf("cancel: %v", got)
	}
	r.finish(l, &job.Failure{Class: job.ClassProgram, Code: "cancelled", Message: "stopped"})
	if got := r.simulation("GET", running, "task-status"); got["task_result"] != "terminated" || got["task_traceback"] != nil {
		t.Errorf("task-status: %v", got)
	}
}

func TestAReportedStatusIsTakenOnlyIfItDecidesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	id := r.held("mock")
	r.simulation("POST", id, "submit")
	r.claim()
	got := r.simulation("POST", id, "update-status?status=running&progress=0.5&current_step=half&error_message=")
	task, _ := got["update_task_id"].(string)
	if d := cmp.Diff(map[string]any{"job_id": string(id), "update_task_id": task, "message": "the job is RUNNING already"}, got); d != "" || !job.ID(task).Valid() {
		t.Errorf("update-status (-want +got):\n%s", d)
	}
	for verb, detail := range map[string]string{
		"update-status?status=COMPLETED":            "it is RUNNING",
		"update-status?status=QUEUED":               "decided by its run",
		"update-status?status=TIMEOUT":              `there is no status "TIMEOUT"`,
		"update-status":                             `there is no status ""`,
		"update-status?status=RUNNING&progress=1.5": `"1.5" is not a number of 0 … 1`,
		"update-status?status=RUNNING&progress=NaN": `"NaN" is not a number of 0 … 1`,
	} {
		r.refusedSimulation(http.StatusBadRequest, "POST", id, verb, detail)
	}
	got = r.simulation("POST", id, "update-status?status=CANCELLED&error_message=wrong+cell")
	if j, err := r.client.Get(t.Context(), string(id)); err != nil || !j.Cancelling || got["message"] != "the job was cancelled" || !strings.Contains(j.Message, "wrong cell") {
		t.Errorf("the job is %+v (%v), the answer %v", j, err, got)
	}
}

func TestG17_ASimulationOfAnotherTenantIsNotFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	theirs, err := r.queue.Submit(t.Context(), "physics", job.Spec{Engine: "mock", Held: true})
	if err != nil {
		t.Fatal(err)
	}
	id := theirs[0].Job.ID
	for _, verb := range []string{"submit", "submit-dummy", "cancel", "update-status?status=CANCELLED"} {
		r.refusedSimulation(http.StatusNotFound, "POST", id, verb, "no job")
	}
	r.refusedSimulation(http.StatusNotFound, "GET", id, "task-status", "no job")
	if ts := r.tickets(id); len(ts) != 0 {
		t.Errorf("there are tickets: %+v", ts)
	}
}
