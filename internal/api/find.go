package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// idLength is the length of a whole id.
const idLength = 36

// minAbbreviation is the shortest part of an id that names a job.
const minAbbreviation = 6

// maxCandidates is how many jobs an ambiguous reference lists.
const maxCandidates = 8

// find returns the job that a reference means: a whole id, the beginning or end
// of one, a unique name, "@last", or "@last-3" for the third before it.
func find(ctx context.Context, tx store.ReadTx, t job.Tenant, ref string) (job.Job, error) {
	if back, ok := lastRef(ref); ok {
		return findLast(ctx, tx, t, ref, back)
	}
	if len(ref) == idLength {
		j, err := tx.Job(ctx, t, job.ID(strings.ToLower(ref)))
		if job.CodeOf(err) != job.NotFound {
			return j, err
		}
	}
	ids, err := tx.Resolve(ctx, t, ref, maxCandidates+1)
	if err != nil {
		return job.Job{}, err
	}
	var found []job.Job
	for _, id := range ids {
		j, err := tx.Job(ctx, t, id)
		if err != nil {
			return job.Job{}, err
		}
		if len(ref) >= minAbbreviation || j.Spec.Name == ref {
			found = append(found, j)
		}
	}
	switch len(found) {
	case 0:
		return job.Job{}, noJob(ref)
	case 1:
		return found[0], nil
	}
	return job.Job{}, ambiguous(ref, found)
}

func lastRef(ref string) (back int, ok bool) {
	rest, ok := strings.CutPrefix(ref, "@last")
	if !ok || rest == "" {
		return 0, ok
	}
	n, err := strconv.Atoi(strings.TrimPrefix(rest, "-"))
	return n, err == nil && rest[0] == '-' && n >= 0 && n < 500
}

func findLast(ctx context.Context, tx store.ReadTx, t job.Tenant, ref string, back int) (job.Job, error) {
	page, _, err := tx.Jobs(ctx, store.JobQuery{Tenant: t, Limit: back + 1})
	if err != nil {
		return job.Job{}, err
	}
	if len(page) <= back {
		e := noJob(ref)
		e.Why = fmt.Sprintf("there are %d jobs", len(page))
		return job.Job{}, e
	}
	return page[back], nil
}

// noJob is the same for a job that does not exist and for one of others (G17).
func noJob(ref string) *job.Error {
	e := job.Errorf(job.NotFound, "there is no job %q", shorten(ref))
	e.Fix = "list them with: nanoos ls --all"
	if len(ref) < minAbbreviation {
		e.Why = fmt.Sprintf("no job has this name, and a part of an id needs %d characters", minAbbreviation)
	}
	return e
}

func ambiguous(ref string, found []job.Job) error {
	e := job.Errorf(job.Ambiguous, "%q fits several jobs", shorten(ref))
	more := ""
	if len(found) > maxCandidates {
		found, more = found[:maxCandidates], " …"
	}
	var lines []string
	for _, j := range found {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", j.ID, j.State, shorten(j.Spec.Name))))
	}
	e.Why = strings.Join(lines, ", ") + more
	e.Fix = "give the whole id; the newest is " + string(found[0].ID)
	return e
}
