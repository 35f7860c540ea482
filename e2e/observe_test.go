package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// readHistory reads everything that a quiet installation knows: every job, and
// of each its attempts, events, result, files and steps. The stored bytes are read
// and hashed for about so many jobs as files says, and for those that must be
// among them.
func readHistory(ctx context.Context, s *server, files int, among []job.ID) (*history, error) {
	h := &history{
		Retries: map[job.ID]int{}, Jobs: map[job.ID]finalJob{}, Attempts: map[job.ID][]job.Attempt{},
		Steps: map[try][]int{}, Listed: map[job.ID]bool{}, Results: map[job.ID]int{},
	}
	var ids []job.ID
	for j, err := range s.client.List(ctx, api.ListQuery{All: true, Limit: 500}) {
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		h.Jobs[j.ID] = finalJob{Key: j.Key, State: j.State, Reason: j.Reason, Attempt: j.Attempt, Failures: j.Failures, Losses: j.Losses, Retry: j.Retry}
		ids = append(ids, j.ID)
	}
	r := jobReader{s: s, c: s.client, h: h}
	if err := r.all(ctx, ids, files, among); err != nil {
		return nil, err
	}
	slices.SortFunc(h.Events, func(a, b event) int { return cmp.Compare(a.Seq, b.Seq) })
	return h, nil
}

// jobReader reads many jobs at a time into one history.
type jobReader struct {
	s  *server
	c  *api.Client
	mu sync.Mutex
	h  *history // guarded by mu
}

func (r *jobReader) all(ctx context.Context, ids []job.ID, files int, among []job.ID) error {
	type order struct {
		id    job.ID
		files bool
	}
	work := make(chan order)
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			var first error
			for o := range work {
				if err := r.one(ctx, o.id, o.files); err != nil && first == nil {
					first = fmt.Errorf("job %s: %w", o.id, err)
				}
			}
			errs <- first
		})
	}
	for i, id := range ids {
		// Spread over the whole: the newest and the oldest differ.
		work <- order{id, files >= len(ids) || i%(len(ids)/max(files, 1)+1) == 0 || slices.Contains(among, id)}
	}
	close(work)
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func (r *jobReader) one(ctx context.Context, id job.ID, files bool) error {
	attempts, err := r.c.Attempts(ctx, string(id))
	if err != nil {
		return fmt.Errorf("attempts: %w", err)
	}
	var events []event
	for after := int64(0); ; {
		page, err := r.c.History(ctx, string(id), after)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		for _, e := range page.Items {
			ev, err := newEvent(e.Event)
			if err != nil {
				return err
			}
			events = append(events, ev)
		}
		if page.Next == "" {
			break
		}
		if after, err = strconv.ParseInt(page.Next, 10, 64); err != nil {
			return fmt.Errorf("cursor of events: %w", err)
		}
	}
	result, err := r.c.Result(ctx, string(id))
	if err != nil && job.CodeOf(err) != job.NotFound {
		return fmt.Errorf("result: %w", err)
	}
	r.mu.Lock()
	r.h.Attempts[id] = attempts
	r.h.Events = append(r.h.Events, events...)
	if err == nil {
		r.h.Results[id] = result.Provenance.Attempt
	}
	r.mu.Unlock()
	if files {
		return r.files(ctx, id)
	}
	return nil
}

// files reads and hashes the stored files of a job.
func (r *jobReader) files(ctx context.Context, id job.ID) error {
	list, err := r.c.Files(ctx, string(id))
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	r.mu.Lock()
	r.h.Listed[id] = true
	r.mu.Unlock()
	for _, f := range list {
		raw, err := r.read(ctx, f)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Name, err)
		}
		sum := sha256.Sum256(raw)
		t := try{id, f.Attempt}
		r.mu.Lock()
		r.h.Files = append(r.h.Files, storedFile{try: t, Name: f.Name, SHA256: f.SHA256, Actual: hex.EncodeToString(sum[:])})
		if f.Name == engine.StdoutName {
			r.h.Steps[t] = stepsIn(raw)
		}
		r.mu.Unlock()
	}
	return nil
}

func (r *jobReader) read(ctx context.Context, f api.File) ([]byte, error) {
	body, err := r.s.open(ctx, f.URL)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

var stepLine = regexp.MustCompile(`(?m)^step (\d+)/\d+ `)

// stepsIn returns the numbers of the steps that the mock program printed.
func stepsIn(output []byte) []int {
	var steps []int
	for _, m := range stepLine.FindAllSubmatch(output, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return append(steps, -1)
		}
		steps = append(steps, n)
	}
	return steps
}

// readStarts reads a start journal; an absent one is empty.
func readStarts(path string) ([]start, error) {
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var starts []start
	for line := range bytes.Lines(raw) {
		var s start
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("line %d of %s: %w", len(starts)+1, path, err)
		}
		starts = append(starts, s)
	}
	return starts, nil
}

// liveProcesses lists the processes of jobs whose work is below dir: those whose
// environment names the job, alive and not zombies.
func liveProcesses(dir string) ([]process, error) {
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var alive []process
	for _, proc := range found {
		env, err := os.ReadFile(filepath.Join(proc, "environ"))
		if err != nil || !bytes.Contains(env, []byte("HOME="+dir)) {
			continue
		}
		p := process{}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			name, value, _ := strings.Cut(string(v), "=")
			switch name {
			case "NANOOS_JOB":
				p.Job = job.ID(value)
			case "NANOOS_TRY":
				p.Attempt, _ = strconv.Atoi(value)
			}
		}
		p.PID, _ = strconv.Atoi(filepath.Base(proc))
		if p.Job != "" {
			alive = append(alive, p)
		}
	}
	return alive, nil
}

// follower reads the event stream of one server for the whole test, through
// whatever happens to it.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	seqs   []int64 // guarded by mu
}

func follow(c *api.Client) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		for ctx.Err() == nil {
			for e, err := range c.Events(ctx, f.last()) {
				if err != nil {
					break
				}
				if e.Seq > 0 {
					f.mu.Lock()
					f.seqs = append(f.seqs, e.Seq)
					f.mu.Unlock()
				}
			}
			wait(ctx, 100*time.Millisecond)
		}
	}()
	return f
}

func (f *follower) last() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seqs) == 0 {
		return 0
	}
	return f.seqs[len(f.seqs)-1]
}

// stop ends the follower once it has come to an event, or after a while, and
// returns what it received.
func (f *follower) stop(to int64) []int64 {
	deadline := time.Now().Add(20 * time.Second)
	for f.last() < to && time.Now().Before(deadline) {
		wait(context.Background(), 20*time.Millisecond)
	}
	f.cancel()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seqs
}
