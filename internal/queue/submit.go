package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Submitted is one accepted job; Existing when its key had been used before
// with the same spec (G2).
type Submitted struct {
	Job      job.Job
	Existing bool
	Warnings []job.Warning // of the check of a new job
}

// maxBatch bounds one call, because its jobs share one transaction.
const maxBatch = 10_000

// Submit stores the specs, all or none. The same key with another body is
// job.Conflict; a tenant above its limit is job.Exhausted.
func (s *Service) Submit(ctx context.Context, t job.Tenant, specs ...job.Spec) ([]Submitted, error) {
	if err := bounded(t, len(specs)); err != nil {
		return nil, err
	}
	batch := make([]submission, len(specs))
	for i, spec := range specs {
		batch[i].asked = spec
	}
	return s.accept(ctx, t, batch)
}

// bounded refuses a call for nobody, or of more jobs than share a transaction.
func bounded(t job.Tenant, n int) error {
	if t != "" && n <= maxBatch {
		return nil
	}
	return &job.Error{Code: job.Invalid, Message: "nothing was submitted",
		Why: fmt.Sprintf("tenant %q, %d jobs in one call, at most %d", t, n, maxBatch)}
}

// accept completes, checks and stores a batch.
func (s *Service) accept(ctx context.Context, t job.Tenant, batch []submission) ([]Submitted, error) {
	if err := digestAll(batch); err != nil {
		return nil, err
	}
	known, err := s.known(ctx, t, batch)
	if err != nil {
		return nil, err
	}
	if err := s.completeAll(batch, known); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		out, err := s.insert(ctx, t, batch)
		// Another server may have used a key since we looked: the next look finds it.
		if try > 1 || !errors.Is(err, errKeyTaken) {
			return out, err
		}
	}
}

// Check completes and validates a spec as Submit does, and stores nothing.
func (s *Service) Check(ctx context.Context, spec job.Spec) (job.Spec, error) {
	batch := []submission{{asked: spec}}
	known, err := s.known(ctx, "", batch)
	if err != nil {
		return spec, err
	}
	err = s.completeAll(batch, known)
	return batch[0].spec, err
}

// submission is one spec on its way in.
type submission struct {
	asked  job.Spec // as it came
	id     job.ID   // given by another system; empty: a new one
	spec   job.Spec // complete and valid
	digest string   // of what was asked; empty without a key
	exists bool     // its key was used before with the same spec
	// warnings are what the check had to say of it.
	warnings []job.Warning
}

var errKeyTaken = errors.New("the idempotency key was taken meanwhile")

// digestAll fills the digests of specs with a key.
func digestAll(batch []submission) error {
	var problems []job.Problem
	for i := range batch {
		if batch[i].asked.Key == "" {
			continue
		}
		var err error
		if batch[i].digest, err = digest(batch[i].asked); err != nil {
			problems = append(problems, job.Problem{Field: fieldIn(len(batch), i, ""), Message: err.Error()})
		}
	}
	return job.InvalidInput(refusal(batch), problems)
}

// digest is equal for specs that ask for the same: it is taken of the canonical
// JSON, in which neither the order of keys nor white space nor the zone of a
// time counts. The key itself is not part of it.
func digest(spec job.Spec) (string, error) {
	spec.Key = ""
	spec.RunAt = spec.RunAt.UTC()
	raw, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("the job is not JSON: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return "", fmt.Errorf("the job is not JSON: %w", err)
	}
	// Maps are written with sorted keys.
	if raw, err = json.Marshal(tree); err != nil {
		return "", fmt.Errorf("the job is not JSON: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// known reads the queues, and marks the specs that were submitted before: they
// need no check, which might refuse today what it took yesterday.
func (s *Service) known(ctx context.Context, t job.Tenant, batch []submission) ([]store.Queue, error) {
	if err := s.prepareOnce(ctx); err != nil {
		return nil, err
	}
	queues := s.recent.forAll(batch)
	if queues != nil {
		return queues, nil
	}
	err := s.st.Read(ctx, func(tx store.ReadTx) (err error) {
		if queues, err = tx.Queues(ctx); err != nil {
			return fmt.Errorf("read queues: %w", err)
		}
		for i := range batch {
			if batch[i].digest == "" {
				continue
			}
			_, batch[i].exists, err = byKey(ctx, tx, t, batch[i])
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.recent.keep(queues)
	}
	return queues, err
}

// byKey finds the job that was submitted under the same key.
func byKey(ctx context.Context, tx store.ReadTx, t job.Tenant, sub submission) (job.Job, bool, error) {
	j, digest, err := tx.ByKey(ctx, t, sub.asked.Key)
	switch {
	case job.CodeOf(err) == job.NotFound:
		return job.Job{}, false, nil
	case err != nil:
		return job.Job{}, false, fmt.Errorf("look up a key: %w", err)
	case digest != sub.digest || sub.id != "" && sub.id != j.ID:
		return job.Job{}, false, otherBody(sub.asked, fmt.Sprintf("job %s was submitted under", j.ID))
	}
	return j, true, nil
}

func otherBody(spec job.Spec, who string) error {
	return &job.Error{Code: job.Conflict,
		Message: fmt.Sprintf("%s was not submitted: its key is in use", nameOf(spec)),
		Why:     fmt.Sprintf("%s key %q with other contents", who, spec.Key),
		Fix:     "give every different job a key of its own"}
}

// insert stores the batch in one transaction, in which keys and limits are
// looked at again.
func (s *Service) insert(ctx context.Context, t job.Tenant, batch []submission) ([]Submitted, error) {
	var out []Submitted
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		if err := s.moving(ctx, tx); err != nil {
			return 0, err
		}
		out = make([]Submitted, len(batch))
		inBatch := make(map[string]int)
		var fresh []int
		for i, sub := range batch {
			old, exists, err := earlier(ctx, tx, t, batch, i, inBatch, out)
			if err != nil {
				return 0, err
			}
			if exists {
				out[i] = Submitted{Job: old, Existing: true}
				continue
			}
			if sub.digest != "" {
				inBatch[sub.asked.Key] = i
			}
			out[i].Job.ID = cmp.Or(sub.id, job.NewID())
			fresh = append(fresh, i)
		}
		if len(fresh) == 0 {
			return 0, nil
		}
		if err := s.admit(ctx, tx, t, int64(len(fresh))); err != nil {
			return 0, err
		}
		return insertNew(ctx, tx, t, batch, fresh, out)
	})
	return out, err
}

// earlier finds the job that has the key of the i-th spec already, in the store
// or in the same batch.
func earlier(ctx context.Context, tx store.ReadTx, t job.Tenant, batch []submission, i int, inBatch map[string]int, out []Submitted) (job.Job, bool, error) {
	sub := batch[i]
	if sub.digest == "" {
		return job.Job{}, false, nil
	}
	first, twice := inBatch[sub.asked.Key]
	if !twice {
		return byKey(ctx, tx, t, sub)
	}
	if batch[first].digest != sub.digest {
		return job.Job{}, false, otherBody(sub.asked, fmt.Sprintf("jobs[%d] and jobs[%d] use", first, i))
	}
	return out[first].Job, true, nil
}

// insertNew adds those of the batch that are new, with their history.
func insertNew(ctx context.Context, tx store.Tx, t job.Tenant, batch []submission, fresh []int, out []Submitted) (wakes, error) {
	jobs, digests := make([]job.Job, len(fresh)), make([]string, len(fresh))
	var events []job.Event
	w := wakeChanged
	for n, i := range fresh {
		c := submit(t, out[i].Job.ID, batch[i].spec, tx.Now())
		jobs[n], digests[n] = c.job, batch[i].digest
		events = append(events, c.events...)
		w |= wakesOf(c.job)
	}
	if err := tx.InsertJobs(ctx, jobs, digests); err != nil {
		if job.CodeOf(err) == job.Conflict {
			return 0, fmt.Errorf("%w: %w", errKeyTaken, err)
		}
		return 0, fmt.Errorf("insert %d jobs: %w", len(jobs), err)
	}
	if err := tx.AppendEvents(ctx, events); err != nil {
		return 0, fmt.Errorf("append %d events: %w", len(events), err)
	}
	for n, i := range fresh {
		out[i] = Submitted{Job: jobs[n], Warnings: batch[i].warnings}
	}
	return w, nil
}

// admit refuses n more jobs when too many of the tenant wait already (G15).
func (s *Service) admit(ctx context.Context, tx store.ReadTx, t job.Tenant, n int64) error {
	if s.allowed.take(t, n) {
		return nil
	}
	counts, err := tx.Counts(ctx, t)
	if err != nil {
		return fmt.Errorf("count the jobs of %s: %w", t, err)
	}
	var waiting int64
	for _, c := range counts {
		if c.State == job.Pending || c.State == job.Queued {
			waiting += c.Jobs
		}
	}
	if room := s.opt.MaxQueued - waiting - n; room >= 0 {
		s.allowed.set(t, min(room, s.opt.MaxQueued/allowance))
		return nil
	}
	return &job.Error{Code: job.Exhausted, Message: fmt.Sprintf("%s not submitted: too many jobs wait", plural(n, "job was", "jobs were")),
		Why: fmt.Sprintf("%d of at most %d jobs of tenant %s wait, and %d more were asked for", waiting, s.opt.MaxQueued, t, n),
		Fix: "submit again when some have started, or cancel some: nanoos ls --state QUEUED"}
}

// allowance is the part of a tenant's limit that one process admits without
// counting again: to count is a round trip of its own, inside the transaction
// that all writers of the process share. So much may servers together exceed
// the limit each.
const allowance = 1000

// allowances are how many more jobs of a tenant are admitted without a count.
type allowances struct {
	mu   sync.Mutex
	left map[job.Tenant]int64 // guarded by mu
}

func (a *allowances) take(t job.Tenant, n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left[t] < n {
		return false
	}
	a.left[t] -= n
	return true
}

func (a *allowances) set(t job.Tenant, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == nil {
		a.left = make(map[job.Tenant]int64)
	}
	a.left[t] = n
}

// completeAll completes and checks the specs that are new, and reports every
// problem of all of them.
func (s *Service) completeAll(batch []submission, queues []store.Queue) error {
	var problems []job.Problem
	for i := range batch {
		sub := &batch[i]
		if sub.exists {
			continue
		}
		found, err := s.complete(sub, queues)
		if err != nil {
			return err
		}
		for _, p := range found {
			if p.File == "" {
				p.Field = fieldIn(len(batch), i, p.Field)
			}
			problems = append(problems, p)
		}
	}
	return job.InvalidInput(refusal(batch), problems)
}

// complete completes the spec of a submission and returns what is wrong with
// it; the error is a fault of ours.
func (s *Service) complete(sub *submission, queues []store.Queue) ([]job.Problem, error) {
	spec := sub.asked
	if spec.Queue == "" {
		spec.Queue = job.DefaultQueue
	}
	q, problems := findQueue(spec.Queue, queues)
	sub.spec = Complete(spec, q)
	problems = append(problems, validate(sub.spec)...)
	if s.opt.Check == nil {
		return problems, nil
	}
	checked, warnings, err := s.opt.Check(sub.spec)
	if e, ok := errors.AsType[*job.Error](err); ok && e.Code == job.Invalid {
		if len(e.Problems) == 0 {
			return append(problems, job.Problem{Message: e.Message, Why: e.Why, Fix: e.Fix}), nil
		}
		return append(problems, e.Problems...), nil
	}
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", nameOf(spec), err)
	}
	checked.Demand = checked.Demand.Rounded()
	sub.spec, sub.warnings = checked, warnings
	return problems, nil
}

// fieldIn is the path of a field of the i-th of n jobs.
func fieldIn(n, i int, field string) string {
	if n == 1 {
		return field
	}
	if field == "" {
		return fmt.Sprintf("jobs[%d]", i)
	}
	return fmt.Sprintf("jobs[%d].%s", i, field)
}

func refusal(batch []submission) string {
	if len(batch) == 1 {
		return nameOf(batch[0].asked) + " was not submitted"
	}
	return fmt.Sprintf("none of %d jobs was submitted", len(batch))
}

func nameOf(spec job.Spec) string {
	if spec.Name != "" && !slices.ContainsFunc([]rune(spec.Name), unprintable) && len(spec.Name) <= job.MaxNameLength {
		return spec.Name
	}
	return "the job"
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
