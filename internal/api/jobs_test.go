package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/job"
)

func TestAJobGoesFromSubmissionToResult(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := t.Context()
	sent := r.submit(JobRequest{Name: "first", Engine: "MOCK", Parameters: json.RawMessage(`{"steps": 2}`),
		Resources: ResourcesInput{CPUs: 2, Memory: 1 << 30, Walltime: job.Duration(600e9)}, Labels: map[string]string{"campaign": "demo"}})
	if sent.State != job.Queued || sent.Engine != "mock" || sent.Priority != 5 || sent.Queue != "simulations" {
		t.Errorf("submitted job is %+v", sent)
	}
	r.attach()
	lease := r.claim()
	kept := r.keep(lease, "stdout", "hello\n")
	r.finish(lease, nil, kept)

	got, err := r.client.Get(ctx, "first")
	if err != nil || got.State != job.Completed || got.Verdict != job.Converged {
		t.Fatalf("job is %+v, error %v", got, err)
	}
	if got.Summary == nil || *got.Summary.EnergyEV != -15.85 || got.Formula != "Si2" {
		t.Errorf("summary is %+v, formula %q", got.Summary, got.Formula)
	}
	res, err := r.client.Result(ctx, string(got.ID))
	if err != nil || res.Job != got.ID || *res.Summary.EnergyEV != -15.85 {
		t.Errorf("result is %+v, error %v", res, err)
	}
	attempts, err := r.client.Attempts(ctx, "@last")
	if err != nil || len(attempts) != 1 || attempts[0].Outcome != "succeeded" {
		t.Errorf("attempts are %+v, error %v", attempts, err)
	}
	history, err := r.client.History(ctx, "@last", 0)
	var kinds []string
	for _, e := range history.Items {
		kinds = append(kinds, string(e.Kind))
	}
	if diff := cmp.Diff([]string{"submitted", "queued", "started", "completed"}, kinds); diff != "" || err != nil {
		t.Errorf("history: %s, error %v", diff, err)
	}
	why, err := r.client.Explain(ctx, "@last")
	if err != nil || !strings.HasPrefix(why.Summary, "it finished after") {
		t.Errorf("explanation is %+v, error %v", why, err)
	}
}

func TestG2_TheSameKeyMakesOneJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	body := `{"engine": "mock", "name": "one"}`
	first, raw := r.do("POST", "/api/v1/jobs", body, "Idempotency-Key", "k1")
	if first.StatusCode != http.StatusCreated || first.Header.Get("Location") == "" {
		t.Fatalf("first answer is %s %s", first.Status, raw)
	}
	again, rawAgain := r.do("POST", "/api/v1/jobs", `{ "name": "one", "engine": "mock" }`, "Idempotency-Key", "k1")
	if again.StatusCode != http.StatusOK || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("second answer is %s %s", again.Status, rawAgain)
	}
	p := r.refused(http.StatusConflict, "POST", "/api/v1/jobs", `{"engine": "mock", "name": "two"}`, "Idempotency-Key", "k1")
	if p.Code != "conflict" || !strings.Contains(p.Why, "k1") {
		t.Errorf("problem is %+v", p)
	}
	r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/jobs", `{"engine": "mock", "key": "k2"}`, "Idempotency-Key", "k3")
}

func TestEveryProblemOfABadJobIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	cases := []struct {
		name, body string
		fields     []string
	}{
		{"unknown keys get the nearest match", `{"engin": "mock", "resources": {"cpu": 2}}`, []string{"engin", "resources.cpu"}},
		{"wrong kinds", `{"engine": 3, "labels": ["a"], "resources": {"cpus": "two", "memory": "lots", "walltime": "soon"}}`,
			[]string{"engine", "labels", "resources.cpus", "resources.memory", "resources.walltime"}},
		{"values out of range", `{"engine": "mock", "priority": 21, "resources": {"cpus": -1}, "retry": {"max": -1}, "queue": "simulation"}`,
			[]string{"priority", "queue", "resources.cpus", "retry.max"}},
		{"parameters of the engine", `{"engine": "mock", "parameters": {"stepz": 3, "steps": 0}}`, []string{"parameters.steps", "parameters.stepz"}},
		{"no such engine and no such accept", `{"engine": "mok", "accept": "anything", "priority": 99}`, []string{"accept", "engine", "priority"}},
		{"a structure that is not one", `{"engine": "mock", "structure": {"species": ["Si", "Xx"], "positions": [[0,0,0]]}}`, []string{"structure"}},
		{"no engine and no deck", `{"files": [{"name": "a.txt", "text": "hello"}]}`, []string{"engine"}},
		{"a file that was never uploaded", `{"engine": "mock", "files": [{"name": "a", "sha256": "` + strings.Repeat("0", 64) + `"}]}`, []string{"files[0].sha256"}},
		{"a licensed potential", `{"engine": "mock", "files": [{"name": "run/POTCAR", "text": "x"}]}`, []string{"files[0]"}},
		{"names that lead outside", `{"engine": "mock", "files": [{"name": "../a", "text": "x"}, {"name": "/etc/passwd", "text": "y"}]}`, []string{"files[0].name", "files[1].name"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.T = t
			p := r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/jobs", c.body)
			var fields []string
			for _, q := range p.Problems {
				field, _, _ := strings.Cut(q.Field, "structure.")
				if strings.HasPrefix(q.Field, "structure") {
					field = "structure"
				}
				fields = append(fields, field)
			}
			slices.Sort(fields)
			if diff := cmp.Diff(c.fields, slices.Compact(fields)); diff != "" {
				t.Errorf("fields (-want +got):\n%s%+v", diff, p.Problems)
			}
		})
	}
	p := r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/jobs", `{"engin": "mock"}`)
	if p.Problems[0].Fix != `did you mean "engine"?` {
		t.Errorf("fix is %q", p.Problems[0].Fix)
	}
}

func TestADryRunShowsThePlanAndStoresNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	shown, err := r.client.DryRun(t.Context(), JobRequest{Files: []FileInput{{Name: "in.deck", Text: "deck of cards"}}})
	if err != nil {
		t.Fatal(err)
	}
	if shown.Engine != "deck" || shown.ID != "" || len(shown.Warnings) != 1 {
		t.Errorf("dry run shows %+v", shown)
	}
	want := &Plan{Files: map[string]string{"extra": "text"}, Commands: []string{"mpirun -n 2 deck.x -in in.deck"}}
	if diff := cmp.Diff(want, shown.Plan); diff != "" {
		t.Error(diff)
	}
	if page, err := r.client.Page(t.Context(), ListQuery{All: true}); err != nil || len(page.Items) != 0 {
		t.Errorf("there are %d jobs, error %v", len(page.Items), err)
	}
	_, err = r.client.DryRun(t.Context(), JobRequest{Files: []FileInput{{Name: "in.deck", Text: "deck, bad"}}})
	var e *job.Error
	if !asError(err, &e) || e.Code != job.Invalid || e.Problems[0].File != "in.deck" || e.Problems[0].Line != 1 {
		t.Errorf("error is %+v", err)
	}
}

func TestAnUploadedDeckIsRecognisedByItsContent(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	up, err := r.client.UploadInput(t.Context(), strings.NewReader("deck\n"))
	if err != nil || up.Size != 5 {
		t.Fatalf("upload is %+v, error %v", up, err)
	}
	if again, err := r.client.UploadInput(t.Context(), strings.NewReader("deck\n")); err != nil || again != up {
		t.Errorf("second upload is %+v, error %v", again, err)
	}
	j := r.submit(JobRequest{Files: []FileInput{{Name: "in.deck", SHA256: up.SHA256}}})
	if j.Engine != "deck" || j.Files[0].Size != 5 || len(j.Warnings) != 1 {
		t.Errorf("job is %+v", j)
	}
}

func TestAStructureComesAsAFileOrInline(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	poscar := "Si\n1.0\n5.43 0 0\n0 5.43 0\n0 0 5.43\nSi\n2\nDirect\n0 0 0\n0.25 0.25 0.25\n"
	a := r.submit(JobRequest{Engine: "mock", Structure: &StructureInput{Name: "POSCAR", Text: poscar}})
	b := r.submit(JobRequest{Engine: "mock", Structure: &StructureInput{Structure: crystal.Structure{
		Lattice: &crystal.Matrix{{5.43, 0, 0}, {0, 5.43, 0}, {0, 0, 5.43}}, Species: []string{"Si", "Si"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.25, 0.25, 0.25}},
	}}})
	if a.Formula != "Si2" || string(a.Structure) != string(b.Structure) {
		t.Errorf("structures differ: %s and %s", a.Structure, b.Structure)
	}
	_, _, err := r.client.Submit(t.Context(), JobRequest{Engine: "mock", Structure: &StructureInput{Name: "POSCAR", Text: strings.Replace(poscar, "0.25 0.25 0.25", "0.25 oops", 1)}})
	var e *job.Error
	if !asError(err, &e) || len(e.Problems) == 0 || e.Problems[0].File != "POSCAR" || e.Problems[0].Line != 10 {
		t.Errorf("error is %+v", err)
	}
}

func TestManyJobsAreSubmittedInOneCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := t.Context()
	mixed := `{"jobs": [{"engine": "mock", "name": "a"}, {"engine": "mok"}, {"engine": "mock", "nam": "c"}, {"engine": "mock", "key": "k"}, {"engine": "mock", "key": "k", "name": "other"}]}`
	resp, raw := r.do("POST", "/api/v1/jobs/bulk", mixed)
	var got BulkResult
	if err := json.Unmarshal([]byte(raw), &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("answer is %s %s", resp.Status, raw)
	}
	if got.Accepted != 2 || got.Refused != 3 || got.Items[1].Problem == nil || got.Items[4].Problem.Code != "conflict" {
		t.Errorf("result is %s", raw)
	}
	p := r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/jobs/bulk", strings.Replace(mixed, "{", `{"atomic": true, `, 1))
	if len(p.Problems) < 2 || !strings.HasPrefix(p.Problems[0].Field, "jobs[") {
		t.Errorf("problems are %+v", p.Problems)
	}
	var many BulkRequest
	for i := range 1000 {
		many.Jobs = append(many.Jobs, JobRequest{Engine: "mock", Name: fmt.Sprintf("many-%03d", i)})
	}
	res, err := r.client.SubmitBulk(ctx, many)
	if err != nil || res.Accepted != 1000 {
		t.Fatalf("accepted %d, error %v", res.Accepted, err)
	}
	n := 0
	for j, err := range r.client.List(ctx, ListQuery{Name: "many", Limit: 300}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("many-%03d", 999-n); j.Name != want {
			t.Fatalf("job %d is %s, want %s", n, j.Name, want)
		}
		n++
	}
	if n != 1000 {
		t.Errorf("listed %d jobs", n)
	}
	r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/jobs/bulk", `{"jobs": []}`)
}

func TestJobsAreNamedByIdPartNameAndPosition(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	a, b := r.submit(JobRequest{Engine: "mock", Name: "alpha"}), r.submit(JobRequest{Engine: "mock", Name: "twin"})
	c := r.submit(JobRequest{Engine: "mock", Name: "twin"})
	end := func(id job.ID, n int) string { return string(id)[len(id)-n:] }
	for ref, want := range map[string]job.ID{
		string(a.ID): a.ID, strings.ToUpper(string(a.ID)): a.ID, end(b.ID, 8): b.ID, "alpha": a.ID,
		"@last": c.ID, "@last-0": c.ID, "@last-2": a.ID,
	} {
		if got, err := r.client.Get(t.Context(), ref); err != nil || got.ID != want {
			t.Errorf("%s means %s, want %s, error %v", ref, got.ID, want, err)
		}
	}
	for _, ref := range []string{"nobody", end(a.ID, 5), "@last-3", "@last-x", "%00", "..", strings.Repeat("a", 200)} {
		if _, err := r.client.Get(t.Context(), ref); job.CodeOf(err) != job.NotFound {
			t.Errorf("%q: error is %v", ref, err)
		}
	}
	p := r.refused(http.StatusConflict, "GET", "/api/v1/jobs/twin", "")
	if p.Code != "ambiguous" || !strings.Contains(p.Why, string(b.ID)) || !strings.Contains(p.Why, string(c.ID)) {
		t.Errorf("problem is %+v", p)
	}
}

func TestG13_ACancelThatComesTooLateIsAConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	ctx := t.Context()
	r.submit(JobRequest{Engine: "mock", Name: "done"})
	r.finish(r.claim(), nil)
	if _, err := r.client.Cancel(ctx, "done", ""); job.CodeOf(err) != job.Conflict {
		t.Errorf("error is %v", err)
	}
	waits := r.submit(JobRequest{Engine: "mock", Name: "waits"})
	got, err := r.client.Cancel(ctx, string(waits.ID), "not needed")
	if err != nil || got.State != job.Cancelled || !strings.Contains(got.Message, "not needed") {
		t.Errorf("job is %+v, error %v", got, err)
	}
	if got, err := r.client.Retry(ctx, "waits", ""); err != nil || got.State != job.Queued {
		t.Errorf("job is %+v, error %v", got, err)
	}
	if got, err := r.client.Hold(ctx, "waits", "lunch"); err != nil || got.Reason != job.ReasonHeld {
		t.Errorf("job is %+v, error %v", got, err)
	}
	if why, err := r.client.Explain(ctx, "waits"); err != nil || why.Waiting[0].Code != "held" || !strings.Contains(why.Summary, "lunch") {
		t.Errorf("explanation is %+v, error %v", why, err)
	}
	if got, err := r.client.Release(ctx, "waits", ""); err != nil || got.State != job.Queued {
		t.Errorf("job is %+v, error %v", got, err)
	}
	if got, err := r.client.SetPriority(ctx, "waits", 20); err != nil || got.Priority != 20 {
		t.Errorf("job is %+v, error %v", got, err)
	}
	if _, err := r.client.SetPriority(ctx, "waits", 21); job.CodeOf(err) != job.Invalid {
		t.Errorf("error is %v", err)
	}
	running := r.claim()
	if got, err := r.client.Cancel(ctx, "waits", ""); err != nil || !got.Cancelling || got.State != job.Running {
		t.Errorf("job %s is %+v, error %v", running.Job.ID, got, err)
	}
	if _, err := r.client.Result(ctx, "waits"); job.CodeOf(err) != job.NotFound {
		t.Errorf("error is %v", err)
	}
}

func TestAListSelectsByEverythingItOffers(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := t.Context()
	r.submit(JobRequest{Engine: "mock", Name: "Alpha-1", Labels: map[string]string{"c": "x", "d": "y"}, Queue: "default"})
	r.submit(JobRequest{Engine: "mock", Name: "beta", Labels: map[string]string{"c": "x"}})
	r.submit(JobRequest{Engine: "mock", Name: "gamma", Hold: true})
	for _, c := range []struct {
		query string
		want  string
	}{
		{"", "gamma beta Alpha-1"}, {"state=PENDING", "gamma"}, {"state=QUEUED&state=PENDING", "gamma beta Alpha-1"}, {"state=queued", "beta Alpha-1"},
		{"queue=default", "Alpha-1"}, {"engine=MOCK", "gamma beta Alpha-1"}, {"label=c%3Dx", "beta Alpha-1"}, {"label=c%3Dx&label=d%3Dy", "Alpha-1"},
		{"name=alpha", "Alpha-1"}, {"since=1h", "gamma beta Alpha-1"}, {"since=2100-01-01", ""}, {"limit=1", "gamma"}, {"all=true&summary=true", "gamma beta Alpha-1"},
	} {
		_, raw := r.do("GET", "/api/v1/jobs?"+c.query, "")
		var l JobList
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			t.Fatalf("%s: %s", c.query, raw)
		}
		var names []string
		for _, j := range l.Items {
			names = append(names, j.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%q lists %q, want %q", c.query, got, c.want)
		}
	}
	if page, err := r.client.Page(ctx, ListQuery{}); err != nil || page.Total == nil || *page.Total != 3 {
		t.Errorf("page is %+v, error %v", page, err)
	}
	for _, query := range []string{"state=DONE", "label=c", "since=soon", "limit=0", "limit=501", "limit=x", "cursor=!!", "nam=x"} {
		p := r.refused(http.StatusUnprocessableEntity, "GET", "/api/v1/jobs?"+query, "")
		if field, _, _ := strings.Cut(query, "="); field != "cursor" && (len(p.Problems) == 0 || p.Problems[0].Field != field) {
			t.Errorf("%s: problems are %+v", query, p.Problems)
		}
	}
}

func TestQueuesWorkersEnginesAndStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	ctx := t.Context()
	st, err := r.client.Status(ctx)
	if err != nil || st.Service != "nano-os-worker" || len(st.Problems) != 1 || st.Problems[0].Code != "no_worker" {
		t.Errorf("status is %+v, error %v", st, err)
	}
	r.attach()
	r.submit(JobRequest{Engine: "mock", Resources: ResourcesInput{CPUs: 3}})
	lease := r.claim()
	workers, err := r.client.Workers(ctx)
	if err != nil || len(workers) != 1 || workers[0].State != "online" || workers[0].Free.CPUs != 5 || !slices.Equal(workers[0].Running, []job.ID{lease.Job.ID}) {
		t.Errorf("workers are %+v, error %v", workers, err)
	}
	if q, err := r.client.PauseQueue(ctx, "simulations", "maintenance"); err != nil || q.Paused == nil || q.Paused.Why != "maintenance" || q.Jobs[job.Running] != 1 {
		t.Errorf("queue is %+v, error %v", q, err)
	}
	if st, err := r.client.Status(ctx); err != nil || len(st.Problems) != 1 || st.Problems[0].Code != "queue_paused" {
		t.Errorf("status is %+v, error %v", st.Problems, err)
	}
	if q, err := r.client.ResumeQueue(ctx, "simulations"); err != nil || q.Paused != nil {
		t.Errorf("queue is %+v, error %v", q, err)
	}
	if _, err := r.client.PauseQueue(ctx, "simulation", ""); job.CodeOf(err) != job.NotFound || !strings.Contains(fmt.Sprint(err.(*job.Error).Fix), "simulations") {
		t.Errorf("error is %v", err)
	}
	if q, err := r.client.MakeQueue(ctx, QueueRequest{Name: "night", Walltime: job.Duration(3600e9)}); err != nil || q.Name != "night" {
		t.Errorf("queue is %+v, error %v", q, err)
	}
	if queues, err := r.client.Queues(ctx); err != nil || len(queues) != 4 {
		t.Errorf("queues are %+v, error %v", queues, err)
	}
	engines, err := r.client.Engines(ctx)
	if err != nil || len(engines) != 2 || !engines[0].Available || engines[0].Schema != nil {
		t.Errorf("engines are %+v, error %v", engines, err)
	}
	if e, err := r.client.Engine(ctx, "dummy"); err != nil || e.Name != "mock" || len(e.Schema) == 0 {
		t.Errorf("engine is %+v, error %v", e, err)
	}
	if _, err := r.client.Engine(ctx, "mok"); job.CodeOf(err) != job.NotFound {
		t.Errorf("error is %v", err)
	}
	if v, err := r.client.Version(ctx); err != nil || v.Version != "1.2.3" {
		t.Errorf("version is %+v, error %v", v, err)
	}
	if err := r.client.Ready(ctx); err != nil {
		t.Error(err)
	}
}

func TestAServerThatIsAwayIsNamed(t *testing.T) {
	t.Parallel()
	c := NewClient("http://127.0.0.1:1", "")
	_, err := c.Version(t.Context())
	var e *job.Error
	if !asError(err, &e) || e.Code != job.Unavailable || !strings.Contains(e.Message, "127.0.0.1:1") || !strings.Contains(e.Fix, "nanoos doctor") {
		t.Errorf("error is %+v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Version(ctx); err != context.Canceled {
		t.Errorf("error is %v", err)
	}
}
