package job

// State is a job's place in its life. See CanMove for the permitted moves.
type State string

const (
	Pending   State = "PENDING" // not eligible yet; Reason says why
	Queued    State = "QUEUED"  // may be claimed now
	Running   State = "RUNNING" // held by one worker under one fence
	Completed State = "COMPLETED"
	Failed    State = "FAILED"
	Cancelled State = "CANCELLED"
)

// States lists every state in the order of a job's life.
var States = []State{Pending, Queued, Running, Completed, Failed, Cancelled}

// Terminal reports whether a job in s has ended.
func (s State) Terminal() bool { return s == Completed || s == Failed || s == Cancelled }

// moves is the whole life of a job: from each state, the states it may go to.
// FAILED and CANCELLED are left only when a person retries the job.
var moves = map[State][]State{
	Pending:   {Queued, Cancelled, Failed},
	Queued:    {Running, Pending, Cancelled},
	Running:   {Completed, Failed, Cancelled, Pending, Queued},
	Completed: {},
	Failed:    {Queued},
	Cancelled: {Queued},
}

// CanMove reports whether a job may go from one state to another. Staying in a
// state that is not terminal is always allowed.
func CanMove(from, to State) bool {
	if from == to {
		return !from.Terminal()
	}
	for _, s := range moves[from] {
		if s == to {
			return true
		}
	}
	return false
}

// Reason says in one word why a PENDING job is not eligible.
type Reason string

const (
	ReasonBeginTime   Reason = "begin_time"
	ReasonRetry       Reason = "retry"
	ReasonHeld        Reason = "held"        // by a person
	ReasonQuarantined Reason = "quarantined" // held by the system, with the evidence in Failure
	ReasonDependency  Reason = "dependency"
)

// Held reports whether only a person can set the job free.
func (r Reason) Held() bool { return r == ReasonHeld || r == ReasonQuarantined }

// Verdict says whether the science worked, apart from how the program ended.
type Verdict string

const (
	Converged     Verdict = "converged"
	NotConverged  Verdict = "not_converged"
	Unstable      Verdict = "unstable"
	NotApplicable Verdict = "n/a"
)
