package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

func newQueue(t *testing.T, opt queue.Options) (*queue.Service, *storetest.Model) {
	t.Helper()
	st := storetest.NewModel(time.Now)
	return queue.New(st, opt), st
}

// problemsOf returns where and what an invalid input is.
func problemsOf(t *testing.T, err error) []string {
	t.Helper()
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != job.Invalid {
		t.Fatalf("error %v is not an invalid input", err)
	}
	var all []string
	for _, p := range e.Problems {
		all = append(all, p.Field+": "+p.Message)
	}
	return all
}

func TestASpecIsCompletedWithTheDefaults(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t, queue.Options{})
	ctx := t.Context()
	if err := q.SetQueue(ctx, store.Queue{Name: "long", Walltime: job.Duration(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	got, err := q.Submit(ctx, "t", job.Spec{Engine: "mock"}, job.Spec{Engine: "mock", Queue: "long",
		Demand: job.Demand{CPUs: 2, Memory: 1, Tags: []string{"b", "a", "b"}}, Retry: job.Retry{Max: 0, MaxLosses: 1}})
	if err != nil {
		t.Fatal(err)
	}
	want := []job.Spec{
		{Engine: "mock", Queue: "simulations", Demand: job.Demand{CPUs: 1, Memory: 1 << 30}, Walltime: job.DefaultWalltime,
			Retry: job.DefaultRetry, LogLimit: job.DefaultLogLimit},
		{Engine: "mock", Queue: "long", Demand: job.Demand{CPUs: 2, Memory: job.MemoryQuantum, Tags: []string{"a", "b"}},
			Walltime: job.Duration(48 * time.Hour), Retry: job.Retry{MaxLosses: 1, MaxDelay: job.DefaultRetry.MaxDelay}, LogLimit: job.DefaultLogLimit},
	}
	for i := range want {
		if diff := gocmp.Diff(want[i], got[i].Job.Spec); diff != "" {
			t.Errorf("spec %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestEveryProblemOfEveryJobIsReportedAndNothingIsStored(t *testing.T) {
	t.Parallel()
	q, st := newQueue(t, queue.Options{Check: func(s job.Spec) (job.Spec, []job.Warning, error) {
		if s.Engine == "mock" {
			return s, nil, nil
		}
		return s, nil, job.InvalidInput("no", []job.Problem{{Field: "parameters.ecutwfc", Message: "is missing"}, {File: "pw.in", Line: 3, Message: "is odd"}})
	}})
	_, err := q.Submit(t.Context(), "t",
		job.Spec{Engine: "mock"},
		job.Spec{Engine: "qe", Name: "a\x1b[31m", Priority: -1},
		job.Spec{Engine: "mock", Queue: "simulation", Labels: map[string]string{"bad key": "x", "ok": strings.Repeat("x", 300)}})
	want := []string{
		"jobs[1].name: it has characters that cannot be printed",
		"jobs[1].priority: -1 is outside 0 … 20",
		"jobs[1].parameters.ecutwfc: is missing",
		": is odd",
		`jobs[2].queue: there is no queue "simulation"`,
		`jobs[2].labels: "bad key" is not a label key`,
		"jobs[2].labels.ok: it is too long: 300 bytes, at most 255",
	}
	if diff := gocmp.Diff(want, problemsOf(t, err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if n := stored(t, st); n != 0 {
		t.Errorf("%d jobs were stored", n)
	}
}

func stored(t *testing.T, st store.Store) (n int) {
	t.Helper()
	err := st.Read(t.Context(), func(tx store.ReadTx) error {
		jobs, _, err := tx.Jobs(t.Context(), store.JobQuery{Limit: 500})
		n = len(jobs)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestHostileSpecsAreRefused(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t, queue.Options{})
	long := strings.Repeat("x", 1<<16)
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for name, c := range map[string]struct {
		spec  job.Spec
		field string
	}{
		"no engine":               {job.Spec{}, "engine"},
		"a long name":             {job.Spec{Engine: "m", Name: long}, "name"},
		"a name of bytes":         {job.Spec{Engine: "m", Name: "\xff\xfe"}, "name"},
		"a long key":              {job.Spec{Engine: "m", Key: long}, "key"},
		"too many CPUs":           {job.Spec{Engine: "m", Demand: job.Demand{CPUs: math.MaxInt}}, "resources.cpus"},
		"negative CPUs":           {job.Spec{Engine: "m", Demand: job.Demand{CPUs: -4}}, "resources.cpus"},
		"all the memory there is": {job.Spec{Engine: "m", Demand: job.Demand{Memory: math.MaxInt64}}, "resources.memory"},
		"negative memory":         {job.Spec{Engine: "m", Demand: job.Demand{Memory: math.MinInt64}}, "resources.memory"},
		"negative GPUs":           {job.Spec{Engine: "m", Demand: job.Demand{GPUs: -1}}, "resources.gpus"},
		"a strange tag":           {job.Spec{Engine: "m", Demand: job.Demand{Tags: []string{"a b"}}}, "resources.tags[0]"},
		"many tags":               {job.Spec{Engine: "m", Demand: job.Demand{Tags: slices.Collect(maps.Keys(many))}}, "resources.tags"},
		"many labels":             {job.Spec{Engine: "m", Labels: many}, "labels"},
		"an endless walltime":     {job.Spec{Engine: "m", Walltime: math.MaxInt64}, "resources.walltime"},
		"a negative walltime":     {job.Spec{Engine: "m", Walltime: -1}, "resources.walltime"},
		"a soft limit too late":   {job.Spec{Engine: "m", Walltime: job.Duration(time.Minute), SoftLimit: job.Duration(time.Hour)}, "resources.soft_limit"},
		"endless retries":         {job.Spec{Engine: "m", Retry: job.Retry{Max: math.MaxInt}}, "retry.max"},
		"negative losses":         {job.Spec{Engine: "m", Retry: job.Retry{MaxLosses: -1}}, "retry.max_losses"},
		"a falling delay":         {job.Spec{Engine: "m", Retry: job.Retry{Delay: job.Duration(time.Hour), MaxDelay: 1}}, "retry.max_delay"},
		"a negative log":          {job.Spec{Engine: "m", LogLimit: -1}, "resources.log"},
		"a begin beyond time":     {job.Spec{Engine: "m", RunAt: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, "run_at"},
		"a file outside":          {job.Spec{Engine: "m", Files: []job.File{{Name: "../x", SHA256: strings.Repeat("0", 64)}}}, "files[0].name"},
		"an absolute file":        {job.Spec{Engine: "m", Files: []job.File{{Name: "/etc/passwd", SHA256: strings.Repeat("0", 64)}}}, "files[0].name"},
		"a file without a hash":   {job.Spec{Engine: "m", Files: []job.File{{Name: "x", SHA256: "zz"}}}, "files[0].sha256"},
		"a file twice":            {job.Spec{Engine: "m", Files: []job.File{{Name: "x", SHA256: strings.Repeat("0", 64)}, {Name: "x", SHA256: strings.Repeat("0", 64)}}}, "files[1].name"},
		"half a structure":        {job.Spec{Engine: "m", Structure: json.RawMessage(`{"lattice":`)}, "structure"},
		"a deep structure":        {job.Spec{Engine: "m", Structure: json.RawMessage(strings.Repeat("[", 20000) + strings.Repeat("]", 20000))}, "structure"},
		"a keyed half structure":  {job.Spec{Engine: "m", Key: "k", Structure: json.RawMessage(`{`)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := q.Submit(t.Context(), "t", c.spec)
			problems := problemsOf(t, err)
			if len(problems) != 1 || !strings.HasPrefix(problems[0], c.field+": ") {
				t.Errorf("problems %q, want one at %q", problems, c.field)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestG2_TheSameKeyMakesOneJob(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t, queue.Options{})
	zone := time.FixedZone("east", 3600)
	at := time.Date(2100, 1, 1, 12, 0, 0, 0, time.UTC)
	spec := job.Spec{Engine: "mock", Key: "k", Params: json.RawMessage(`{"a": 1, "b": {"c": 2.50, "d": 3}}`), RunAt: at}
	same := spec
	same.Params, same.RunAt = json.RawMessage("{\"b\":{\"d\":3,\t\"c\":2.50},\n\"a\":1}"), at.In(zone)
	other := spec
	other.Params = json.RawMessage(`{"a": 2, "b": {"c": 2.50, "d": 3}}`)

	first, err := q.Submit(t.Context(), "t", spec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.Submit(t.Context(), "t", same, job.Spec{Engine: "mock", Key: "k2"}, job.Spec{Engine: "mock", Key: "k2"})
	if err != nil {
		t.Fatal(err)
	}
	if !again[0].Existing || again[0].Job.ID != first[0].Job.ID {
		t.Errorf("the same spec again: %+v", again[0])
	}
	if again[1].Existing || !again[2].Existing || again[1].Job.ID != again[2].Job.ID {
		t.Errorf("a key twice in one call made %s and %s", again[1].Job.ID, again[2].Job.ID)
	}
	if _, err := q.Submit(t.Context(), "t", other); job.CodeOf(err) != job.Conflict || !strings.Contains(err.Error(), string(first[0].Job.ID)) {
		t.Errorf("another body: %v, want a conflict that names the job", err)
	}
	if _, err := q.Submit(t.Context(), "t", job.Spec{Engine: "mock", Key: "k3"}, job.Spec{Engine: "mock", Key: "k3", Priority: 1}); job.CodeOf(err) != job.Conflict {
		t.Errorf("two bodies under one key in one call: %v, want a conflict", err)
	}
}

func TestG2_ARepeatIsAnsweredAlthoughTheInputIsNoLongerValid(t *testing.T) {
	t.Parallel()
	var broken bool
	q, _ := newQueue(t, queue.Options{Check: func(s job.Spec) (job.Spec, []job.Warning, error) {
		if broken {
			return s, nil, errors.New("the library is gone")
		}
		return s, nil, nil
	}})
	spec := job.Spec{Engine: "mock", Key: "k"}
	if _, err := q.Submit(t.Context(), "t", spec); err != nil {
		t.Fatal(err)
	}
	broken = true
	got, err := q.Submit(t.Context(), "t", spec)
	if err != nil || !got[0].Existing {
		t.Errorf("the repeat: %+v, %v", got, err)
	}
	if _, err := q.Submit(t.Context(), "t", job.Spec{Engine: "mock"}); job.CodeOf(err) != job.Internal {
		t.Errorf("a fault of ours in the check: %v, want internal", err)
	}
}

func TestG2_ConcurrentSubmissionsUnderOneKeyMakeOneJob(t *testing.T) {
	t.Parallel()
	q, st := newQueue(t, queue.Options{})
	var wg sync.WaitGroup
	ids := make([]job.ID, 20)
	for i := range ids {
		wg.Go(func() {
			got, err := q.Submit(t.Context(), "t", job.Spec{Engine: "mock", Key: "k"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = got[0].Job.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids %s and %s", id, ids[0])
		}
	}
	if n := stored(t, st); n != 1 {
		t.Errorf("%d jobs were stored", n)
	}
}

// raced is a store in which another server takes a key between a look and a write.
type raced struct {
	store.Store
	before func()
}

type racedTx struct {
	store.Tx
	*raced
}

func (r *raced) Write(ctx context.Context, fn func(store.Tx) error) error {
	return r.Store.Write(ctx, func(tx store.Tx) error { return fn(racedTx{tx, r}) })
}

func (tx racedTx) InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error {
	if tx.before != nil {
		return job.Errorf(job.Conflict, "the key is in use")
	}
	return tx.Tx.InsertJobs(ctx, jobs, digests)
}

func TestG2_AKeyThatAnotherServerTookMeanwhileIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	st := storetest.NewModel(time.Now)
	other, r := queue.New(st, queue.Options{}), &raced{Store: st}
	first := make(chan job.ID, 1)
	r.before = func() {}
	spec := job.Spec{Engine: "mock", Key: "k"}
	q := queue.New(writeHook{r, func() {
		// The first write of the batch has failed; the other server's row is there.
		if r.before != nil {
			r.before = nil
			got, err := other.Submit(t.Context(), "t", spec)
			if err != nil {
				t.Error(err)
			}
			first <- got[0].Job.ID
		}
	}}, queue.Options{})
	if err := other.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := q.Submit(t.Context(), "t", spec)
	if err != nil {
		t.Fatal(err)
	}
	if id := <-first; !got[0].Existing || got[0].Job.ID != id {
		t.Errorf("got %+v, want the other server's job %s", got[0], id)
	}
}

// writeHook runs after a write that failed.
type writeHook struct {
	store.Store
	failed func()
}

func (w writeHook) Write(ctx context.Context, fn func(store.Tx) error) error {
	err := w.Store.Write(ctx, fn)
	if err != nil {
		w.failed()
	}
	return err
}

func TestG15_ATenantAtItsLimitIsRefusedAndNobodyElse(t *testing.T) {
	t.Parallel()
	q, _ := newQueue(t, queue.Options{MaxQueued: 3})
	ctx := t.Context()
	mock := job.Spec{Engine: "mock"}
	held := job.Spec{Engine: "mock", Held: true, Key: "k"}
	if _, err := q.Submit(ctx, "a", mock, held); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(ctx, "a", mock, mock); job.CodeOf(err) != job.Exhausted {
		t.Errorf("beyond the limit: %v, want exhausted", err)
	}
	if _, err := q.Submit(ctx, "b", mock, mock, mock); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	got, err := q.Submit(ctx, "a", mock, held)
	if err != nil || !got[1].Existing {
		t.Errorf("up to the limit, with a repeat that counts nothing: %v", err)
	}
	if _, err := q.Submit(ctx, "a", mock); job.CodeOf(err) != job.Exhausted {
		t.Errorf("one more: %v, want exhausted", err)
	}
	if _, err := q.Cancel(ctx, "a", got[0].Job.ID, queue.Actor{}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(ctx, "a", mock); err != nil {
		t.Errorf("after a cancel: %v", err)
	}
}

func TestQueuesAreCheckedAndKeepTheirPause(t *testing.T) {
	t.Parallel()
	q, st := newQueue(t, queue.Options{})
	ctx := t.Context()
	for _, bad := range []store.Queue{{Name: ""}, {Name: "Has Space"}, {Name: "x", LostAfter: 1}, {Name: "x", LostAfter: math.MaxInt64}, {Name: "x", Walltime: -1}} {
		if err := q.SetQueue(ctx, bad); job.CodeOf(err) != job.Invalid {
			t.Errorf("SetQueue(%+v) = %v, want invalid", bad, err)
		}
	}
	if err := q.PauseQueue(ctx, "default", queue.Actor{By: "ada"}); err != nil {
		t.Fatal(err)
	}
	if err := q.PauseQueue(ctx, "default", queue.Actor{By: "bob"}); err != nil {
		t.Fatal(err)
	}
	if err := q.SetQueue(ctx, store.Queue{Name: "default", Walltime: job.Duration(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := st.Read(ctx, func(tx store.ReadTx) error {
		queues, err := tx.Queues(ctx)
		for _, have := range queues {
			if have.Name == "default" && (have.Paused == nil || have.Paused.By != "ada" || have.Walltime != job.Duration(time.Hour)) {
				t.Errorf("default is %+v, want it paused by ada with a walltime", have)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
