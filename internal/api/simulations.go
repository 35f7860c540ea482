package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/celery/outcome"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// The endpoints of NANO-OS, for programs that were written for it: they speak
// of Celery tasks, and refuse with 400 what the state of a job does not allow.
// They need no Redis; a front door that has one answers their tickets there.

// celeryDoor is the front door to whose tickets these endpoints add theirs.
const celeryDoor = "celery"

// SimulationTask is the task that runs a job.
type SimulationTask struct {
	JobID   job.ID    `json:"job_id"`
	TaskID  string    `json:"celery_task_id"`
	Status  job.State `json:"status" doc:"QUEUED."`
	Message string    `json:"message"`
}

// SimulationCancel is an acknowledged cancel.
type SimulationCancel struct {
	JobID   job.ID `json:"job_id"`
	TaskID  string `json:"cancel_task_id"`
	Message string `json:"message"`
}

// SimulationUpdate is a report that was taken.
type SimulationUpdate struct {
	JobID   job.ID `json:"job_id"`
	TaskID  string `json:"update_task_id"`
	Message string `json:"message"`
}

// SimulationTaskStatus is a job as a Celery client sees its task.
type SimulationTaskStatus struct {
	JobID      job.ID  `json:"job_id"`
	TaskID     *string `json:"celery_task_id" doc:"null: the job was not submitted as a task."`
	State      string  `json:"task_state" doc:"PENDING, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED."`
	Ready      bool    `json:"task_ready"`
	Successful bool    `json:"task_successful"`
	Failed     bool    `json:"task_failed"`
	Result     any     `json:"task_result" doc:"What the task returned; its progress; or what went wrong."`
	Traceback  *string `json:"task_traceback"`
}

type simulationInput struct {
	ID string `path:"job_id" maxLength:"250" doc:"The whole id." example:"59716d71-a660-4162-b298-206ae30d5c9b"`
}

func (s *Server) simulationRoutes() {
	operation := func(id, method, verb, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/simulations/{job_id}/" + verb,
			Tags: []string{"simulations"}, Summary: summary, Description: description}
	}
	simulation(s, operation("submit-simulation", http.MethodPost, "submit", "Let a held job go, as a Celery task",
		"A job that is not held is refused with 400."), s.submitSimulation)
	simulation(s, operation("submit-dummy-simulation", http.MethodPost, "submit-dummy", "Let a held job of the mock engine go, as a Celery task",
		"A job of another engine, or one that is not held, is refused with 400."), s.submitDummy)
	simulation(s, operation("cancel-simulation", http.MethodPost, "cancel", "Cancel a job",
		"A job that has ended is refused with 400."), s.cancelSimulation)
	simulation(s, operation("get-simulation-task", http.MethodGet, "task-status", "Get a job as a Celery task",
		"A job that was not submitted yet is refused with 400."), s.taskStatus)
	simulation(s, operation("update-simulation", http.MethodPost, "update-status", "Report the status of a job",
		"CANCELLED cancels it, and the present status changes nothing. Any other is refused with 400: what becomes of a job is decided by its run."), s.updateSimulation)
}

// simulation adds an operation that says 400 where others tell conflicts and
// invalid input apart.
func simulation[I, O any](s *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	route(s, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err == nil {
			return out, nil
		}
		p := problemOf(ctx, err)
		if p.Status == http.StatusConflict || p.Status == http.StatusUnprocessableEntity {
			p.Status, p.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
		}
		for _, found := range p.Problems { // these programs show the detail and nothing else
			p.Detail += "; " + found.Field + ": " + found.Message
		}
		return nil, p
	})
}

type simulationTaskOutput struct{ Body SimulationTask }

func (s *Server) submitSimulation(ctx context.Context, in *simulationInput) (*simulationTaskOutput, error) {
	return s.submitTask(ctx, in.id(), "")
}

func (s *Server) submitDummy(ctx context.Context, in *simulationInput) (*simulationTaskOutput, error) {
	return s.submitTask(ctx, in.id(), engine.Mock{}.Name())
}

// submitTask releases a job, which must be of that engine if one is given. The
// ticket comes first: if we die between the two, the next try finds it.
func (s *Server) submitTask(ctx context.Context, id job.ID, only string) (*simulationTaskOutput, error) {
	a, err := actorOf(ctx, "submitted")
	if err != nil {
		return nil, err
	}
	var ticket store.Ticket
	err = s.Store.Write(ctx, func(tx store.Tx) (err error) {
		ticket, err = taskOf(ctx, tx, principal(ctx).tenant, id, only)
		return err
	})
	if err == nil {
		_, err = s.Queue.Release(ctx, principal(ctx).tenant, id, a)
	}
	if err != nil {
		return nil, err
	}
	return &simulationTaskOutput{SimulationTask{JobID: id, TaskID: ticket.ID, Status: job.Queued, Message: "the job was submitted"}}, nil
}

// taskOf makes the task of a job that can be submitted, or finds the one that
// was made for it.
func taskOf(ctx context.Context, tx store.Tx, t job.Tenant, id job.ID, only string) (store.Ticket, error) {
	locked, err := tx.LockJobs(ctx, []job.ID{id})
	if err != nil {
		return store.Ticket{}, err
	}
	if len(locked) == 0 || locked[0].Tenant != t {
		return store.Ticket{}, noJob(string(id))
	}
	if err := submittable(locked[0], only); err != nil {
		return store.Ticket{}, err
	}
	tickets, err := tx.TicketsOf(ctx, celeryDoor, []job.ID{id})
	if err != nil {
		return store.Ticket{}, err
	}
	if last := lastTask(tickets); last != nil && last.State == store.TicketOpen {
		return *last, nil
	}
	ticket := store.Ticket{Door: celeryDoor, ID: newTaskID(), State: store.TicketOpen, Job: id}
	return ticket, tx.SaveTickets(ctx, []store.Ticket{ticket})
}

func submittable(j job.Job, only string) error {
	e := &job.Error{Code: job.Conflict, Message: fmt.Sprintf("job %s was not submitted", j.ID)}
	switch {
	case j.State != job.Pending:
		e.Why = fmt.Sprintf("it is %s, not PENDING", j.State)
	case !j.Reason.Held():
		e.Why = "it is not held, and starts by itself"
	case only != "" && j.Spec.Engine != only:
		e.Why = fmt.Sprintf("its engine is %s, and this runs jobs of the engine %s only", j.Spec.Engine, only)
		e.Fix = fmt.Sprintf("POST /api/v1/simulations/%s/submit runs it with %s", j.ID, j.Spec.Engine)
	default:
		return nil
	}
	return e
}

type simulationCancelOutput struct{ Body SimulationCancel }

func (s *Server) cancelSimulation(ctx context.Context, in *simulationInput) (*simulationCancelOutput, error) {
	j, err := s.cancelTask(ctx, in.id(), "")
	if err != nil {
		return nil, err
	}
	out := &simulationCancelOutput{SimulationCancel{JobID: j.ID, TaskID: newTaskID(), Message: "the job was cancelled"}}
	if !j.State.Terminal() {
		out.Body.Message = "the job is being stopped"
	}
	return out, nil
}

func (s *Server) cancelTask(ctx context.Context, id job.ID, why string) (job.Job, error) {
	a, err := actorOf(ctx, why)
	if err != nil {
		return job.Job{}, err
	}
	return s.Queue.Cancel(ctx, principal(ctx).tenant, id, a)
}

type taskStatusOutput struct{ Body SimulationTaskStatus }

func (s *Server) taskStatus(ctx context.Context, in *simulationInput) (*taskStatusOutput, error) {
	var out taskStatusOutput
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		j, err := simulationOf(ctx, tx, t, in.id())
		if err != nil {
			return err
		}
		tickets, err := tx.TicketsOf(ctx, celeryDoor, []job.ID{j.ID})
		if err != nil {
			return err
		}
		last := lastTask(tickets)
		if last == nil && j.State == job.Pending && j.Reason == job.ReasonHeld {
			return &job.Error{Code: job.Conflict, Message: fmt.Sprintf("job %s has no task", j.ID), Why: "it was not submitted yet",
				Fix: fmt.Sprintf("POST /api/v1/simulations/%s/submit", j.ID)}
		}
		var result []byte
		if j.State == job.Completed {
			if result, err = tx.Result(ctx, t, j.ID); err != nil {
				return err
			}
		}
		out.Body = showTask(j, last, result)
		return nil
	})
	return &out, err
}

func showTask(j job.Job, ticket *store.Ticket, result []byte) SimulationTaskStatus {
	state, value, e := outcome.Of(j, result)
	shown := SimulationTaskStatus{JobID: j.ID, State: state, Ready: j.State.Terminal(),
		Successful: state == outcome.Success, Failed: state == outcome.Failed, Result: value}
	if ticket != nil {
		shown.TaskID = &ticket.ID
	}
	if e != nil {
		shown.Result = e.String()
		if e.Traceback != "" {
			shown.Traceback = &e.Traceback
		}
	}
	return shown
}

// lastTask is the newest task of a job that was not revoked; nil: there is none.
func lastTask(tickets []store.Ticket) *store.Ticket {
	for i := len(tickets) - 1; i >= 0; i-- {
		if tickets[i].State != store.TicketRevoked {
			return &tickets[i]
		}
	}
	return nil
}

type updateInput struct {
	ID       string `path:"job_id" maxLength:"250" doc:"The whole id." example:"59716d71-a660-4162-b298-206ae30d5c9b"`
	Status   string `query:"status" maxLength:"40" example:"CANCELLED"`
	Progress string `query:"progress" maxLength:"40" doc:"0 … 1; the run of the job reports its own."`
	Step     string `query:"current_step" maxLength:"1000" doc:"The run of the job reports its own."`
	Error    string `query:"error_message" maxLength:"1000" doc:"Why it is cancelled."`
}

type updateOutput struct{ Body SimulationUpdate }

func (s *Server) updateSimulation(ctx context.Context, in *updateInput) (*updateOutput, error) {
	var j job.Job
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		j, err = simulationOf(ctx, tx, t, simulationInput{in.ID}.id())
		return err
	})
	if err != nil {
		return nil, err
	}
	asked, err := in.status()
	if err != nil {
		return nil, err
	}
	said := fmt.Sprintf("the job is %s already", j.State)
	switch {
	case asked == j.State:
	case asked == job.Cancelled:
		if _, err := s.cancelTask(ctx, j.ID, in.Error); err != nil {
			return nil, err
		}
		said = "the job was cancelled"
	default:
		return nil, &job.Error{Code: job.Conflict, Message: fmt.Sprintf("job %s was not changed to %s", j.ID, asked),
			Why: fmt.Sprintf("it is %s, and what it becomes is decided by its run and its retries", j.State), Fix: "the only status to set is CANCELLED"}
	}
	return &updateOutput{SimulationUpdate{JobID: j.ID, TaskID: newTaskID(), Message: said}}, nil
}

// status is the one that was reported.
func (in *updateInput) status() (job.State, error) {
	var c checks
	asked, ok := stateOf(in.Status)
	if !ok {
		c.add("status", fmt.Sprintf("there is no status %q", shorten(in.Status)), "choose of PENDING, QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED")
	}
	if p, err := strconv.ParseFloat(in.Progress, 64); in.Progress != "" && (err != nil || !(p >= 0 && p <= 1)) {
		c.add("progress", fmt.Sprintf("%q is not a number of 0 … 1", shorten(in.Progress)), "")
	}
	return asked, job.InvalidInput("the job was not changed", c.problems)
}

// id is the id of a job as this system writes it.
func (in simulationInput) id() job.ID { return job.ID(strings.ToLower(in.ID)) }

// simulationOf reads a job by its whole id.
func simulationOf(ctx context.Context, tx store.ReadTx, t job.Tenant, id job.ID) (job.Job, error) {
	j, err := tx.Job(ctx, t, id)
	if job.CodeOf(err) == job.NotFound {
		err = noJob(string(id))
	}
	return j, err
}

// newTaskID is an id as Celery makes them.
func newTaskID() string { return string(job.NewRandomID()) }
