package engine

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine/mock"
	"github.com/nano-os/nanoos/internal/job"
)

// mockRunOf builds the files of a mock run that printed the given lines.
func mockRunOf(t *testing.T, params, stdout string, done *mock.Result, exit *job.Exit) *Result {
	t.Helper()
	files := fstest.MapFS{
		mock.ParamsFile: {Data: []byte(params)},
		StdoutName:      {Data: []byte(stdout)},
	}
	if done != nil {
		raw, err := json.Marshal(done)
		if err != nil {
			t.Fatal(err)
		}
		files[mock.ResultFile] = &fstest.MapFile{Data: raw}
	}
	res, err := Mock{}.Parse(Run{Files: files, Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestMockOutcomes(t *testing.T) {
	t.Parallel()
	steps := mock.StepLine(1, 2, -101) + mock.StepLine(2, 2, -102)
	ok := &job.Exit{Observed: true}
	tests := []struct {
		name    string
		stdout  string
		done    *mock.Result
		exit    *job.Exit
		outcome Outcome
		verdict job.Verdict
		class   job.Class
	}{
		{"finished", steps, &mock.Result{Steps: 2, Converged: true}, ok, Success, job.Converged, ""},
		{"not converged", steps, &mock.Result{Steps: 2, Converged: false}, ok, SCFNotConverged, job.NotConverged, job.ClassNumerical},
		{"status 7 without a reason", steps, nil, &job.Exit{Observed: true, Code: 7}, ProgramError, job.NotApplicable, job.ClassProgram},
		{"told to fail", "error: told to fail at step 1\n", nil, &job.Exit{Observed: true, Code: 1}, ProgramError, job.NotApplicable, job.ClassProgram},
		{"signal", steps, nil, &job.Exit{Observed: true, Signal: "SIGSEGV"}, Killed, job.NotApplicable, job.ClassProgram},
		{"out of memory", steps, nil, &job.Exit{Observed: true, Signal: "SIGKILL", Cause: job.CauseOOM}, OutOfMemory, job.NotApplicable, job.ClassResources},
		{"G11: status 0 without a result", steps, nil, ok, ResultInvalid, job.NotApplicable, job.ClassNumerical},
		{"R8: nobody saw the end, but the marker is there", steps, &mock.Result{Steps: 2, Converged: true}, &job.Exit{}, Success, job.Converged, ""},
		{"R8: nobody saw the end, and no marker", steps, nil, &job.Exit{}, Killed, job.NotApplicable, job.ClassInfrastructure},
		{"stopped cleanly at the soft limit", steps + mock.Stopped + "\n", nil, &job.Exit{Observed: true, Cause: job.CauseSoftLimit}, TimeLimitGraceful, job.NotApplicable, job.ClassResources},
		{"finished just before the soft limit", steps, &mock.Result{Steps: 2, Converged: true}, &job.Exit{Observed: true, Cause: job.CauseSoftLimit}, Success, job.Converged, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res := mockRunOf(t, `{"steps": 2, "converge": true}`, tt.stdout, tt.done, tt.exit)
			if res.Outcome != tt.outcome || res.Verdict != tt.verdict {
				t.Errorf("got %s, %s; want %s, %s", res.Outcome, res.Verdict, tt.outcome, tt.verdict)
			}
			var class job.Class
			if res.Failure != nil {
				class = res.Failure.Class
			}
			if class != tt.class {
				t.Errorf("class %q, want %q", class, tt.class)
			}
		})
	}
}

func TestMockMonitorReadsStepsThatArriveInPieces(t *testing.T) {
	t.Parallel()
	m := Mock{}.Monitor(nil)
	for _, b := range []byte(mock.StepLine(1, 4, -110.5) + "noise\n" + mock.StepLine(2, 4, -111.25)) {
		if _, err := m.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	p := m.Progress()
	if p.Fraction != 0.5 || p.Step != 2 || p.Stage != "Processing" || p.Value == nil || *p.Value != -111.25 {
		t.Errorf("progress %+v", p)
	}
}

func TestMockRefusesAStepThatDoesNotExist(t *testing.T) {
	t.Parallel()
	_, err := Mock{}.Plan(job.Spec{Params: json.RawMessage(`{"steps": 3, "fail_at_step": 4}`)}, Inputs{})
	if job.CodeOf(err) != job.Invalid {
		t.Fatalf("got %v, want an invalid-input error", err)
	}
}

func FuzzMockOutput(f *testing.F) {
	f.Add(mock.StepLine(1, 4, -1), `{"steps": 4}`)
	f.Add("step 9/1 x energy NaN eV\n", `{"steps": -1}`)
	f.Fuzz(func(t *testing.T, stdout, params string) {
		files := fstest.MapFS{StdoutName: {Data: []byte(stdout)}, mock.ParamsFile: {Data: []byte(params)}}
		res, err := Mock{}.Parse(Run{Files: files, Exit: &job.Exit{Observed: true}})
		if err == nil && res.Outcome.Succeeded() {
			t.Error("a run without a result file was called a success")
		}
		m := Mock{}.Monitor(nil)
		fmt.Fprint(m, stdout)
		if p := m.Progress(); p.Fraction < 0 || p.Fraction > 1 {
			t.Errorf("fraction %v", p.Fraction)
		}
	})
}
