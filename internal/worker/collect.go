package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// maxKept bounds the files kept of one attempt.
const maxKept = 10_000

// collect parses what the run left, stores the files worth keeping and reports.
// Nothing of the run is alive any more, so no name changes under it (T8).
func (r *run) collect(ctx context.Context) error {
	if r.sent != nil {
		r.sent.finish(ctx)
	}
	out, err := r.read(ctx)
	switch {
	case r.dropped():
		r.log.Info("the job has another owner; publishing nothing")
		return r.discard(ctx)
	case err != nil:
		return err
	}
	r.finish(ctx, out)
	return nil
}

// read makes an outcome of what is on the disk, when it is its turn.
func (r *run) read(ctx context.Context) (job.Outcome, error) {
	if err := r.enterReading(ctx); err != nil {
		return job.Outcome{}, err
	}
	defer r.leaveReading()
	root, err := os.OpenRoot(r.proc.Dir())
	if err != nil {
		return job.Outcome{}, fmt.Errorf("open work directory: %w", err)
	}
	defer root.Close()
	files := attemptFS{work: root.FS(), stdout: r.proc.Stdout(), stderr: r.proc.Stderr()}

	res := r.parse(files)
	kept, err := r.keep(ctx, files)
	if err != nil {
		return job.Outcome{}, err
	}
	raw, err := json.Marshal(engine.Report{Result: *res, Files: kept, Provenance: r.provenance()})
	if err != nil {
		return job.Outcome{}, fmt.Errorf("encode result: %w", err)
	}
	return job.Outcome{
		Verdict: res.Verdict, Result: raw, Exit: r.exit, Failure: r.accepted(res),
		Marked: !r.exit.Observed && res.Outcome.Succeeded(),
	}, nil
}

// enterReading waits until few enough runs are parsed and stored.
func (r *run) enterReading(ctx context.Context) error {
	select {
	case r.w.reading <- struct{}{}:
		return nil
	case <-r.fencedOff:
	case <-ctx.Done():
	}
	return errAbandoned
}

func (r *run) leaveReading() { <-r.w.reading }

// accepted is the failure of a result, unless the job accepts it.
func (r *run) accepted(res *engine.Result) *job.Failure {
	switch res.Outcome {
	case engine.SCFNotConverged, engine.IonicNotConverged, engine.MinNotConverged:
		if r.lease.Job.Spec.AcceptNotConverged && r.exit.Observed && r.exit.Signal == "" {
			return nil
		}
	}
	return res.Failure
}

// parse reads the result. A parser that fails or panics is an outcome of this
// attempt, and hurts nobody else (T43).
func (r *run) parse(files fs.FS) (res *engine.Result) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("the parser panicked", "panic", p, "stack", string(debug.Stack()))
			res = unreadable(r.exit, fmt.Errorf("the parser panicked: %v", p))
		}
	}()
	res, err := r.eng.Parse(engine.Run{Files: files, Spec: &r.lease.Job.Spec, Exit: r.exit})
	if err != nil {
		return unreadable(r.exit, err)
	}
	return res
}

// unreadable is the result of a run whose files say nothing.
func unreadable(exit *job.Exit, err error) *engine.Result {
	res := &engine.Result{Verdict: job.NotApplicable}
	if res.Outcome, res.Failure = engine.ExitFailure(exit); res.Failure != nil {
		return res
	}
	if res.Outcome, res.Failure = engine.UnexplainedExit(exit); res.Failure != nil {
		return res
	}
	res.Outcome = engine.ResultInvalid
	res.Failure = &job.Failure{Class: job.ClassNumerical, Code: "result_invalid",
		Message: "the files that the run left cannot be read: " + err.Error(), Digest: "unreadable\x00" + err.Error()}
	return res
}

// keep stores output, error and whatever the plan names. Only regular files
// with one name are followed: a program may have planted anything (T7).
func (r *run) keep(ctx context.Context, files attemptFS) ([]engine.KeptFile, error) {
	names := []string{engine.StdoutName, engine.StderrName}
	walkErr := fs.WalkDir(files.work, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || len(names) >= maxKept {
			return nil
		}
		if e.IsDir() && name == scratchDir {
			return fs.SkipDir
		}
		if e.Type().IsRegular() && slices.ContainsFunc(r.plan.Keep, func(glob string) bool { ok, _ := path.Match(glob, name); return ok }) {
			names = append(names, name)
		}
		return nil
	})
	if walkErr != nil {
		return nil, walkErr
	}
	var kept []engine.KeptFile
	for _, name := range names {
		k, err := r.insist(ctx, files, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotPlain) {
			r.log.Warn("not keeping a file", "file", name, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, k)
	}
	return kept, nil
}

// insist stores one file, however long it takes: a result is not given up
// because the place for it is full, away, or asks for a lease that has been
// renewed meanwhile (F40). The files that are stored already stay so.
func (r *run) insist(ctx context.Context, files attemptFS, name string) (engine.KeptFile, error) {
	for wait := retryPause; ; wait = min(2*wait, maxReportPause) {
		back := r.w.contact.again()
		k, err := r.keepOne(ctx, files, name)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotPlain):
			return k, err
		case ctx.Err() != nil:
			return k, errAbandoned
		case job.CodeOf(err) == job.Invalid, job.CodeOf(err) == job.Exhausted:
			return k, fmt.Errorf("store %s: %w", name, err)
		}
		r.log.Warn("cannot store a file of the attempt; trying again", "file", name, "error", err)
		// Others may be luckier with theirs.
		r.leaveReading()
		goesOn := r.awaitTurn(ctx, wait, back)
		r.w.reading <- struct{}{}
		if !goesOn {
			return k, errAbandoned
		}
	}
}

var errNotPlain = errors.New("not a plain file with one name of ordinary length")

func (r *run) keepOne(ctx context.Context, files attemptFS, name string) (engine.KeptFile, error) {
	f, err := files.Open(name)
	if err != nil {
		return engine.KeptFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return engine.KeptFile{}, err
	}
	if !info.Mode().IsRegular() || linkCount(info) > 1 {
		return engine.KeptFile{}, errNotPlain
	}
	key := artifact.RunKey(r.lease.Job.ID, r.fence(), name)
	if artifact.CheckKey(key) != nil {
		return engine.KeptFile{}, errNotPlain
	}
	stored, err := r.w.opt.Artifacts.Put(ctx, key, io.LimitReader(f, info.Size()), -1)
	if err != nil {
		return engine.KeptFile{}, err
	}
	return engine.KeptFile{Name: name, Size: stored.Size, SHA256: stored.SHA256, Key: key}, nil
}

// attemptFS shows the work directory with standard output and error in it.
type attemptFS struct {
	work           fs.FS
	stdout, stderr string
}

func (a attemptFS) Open(name string) (fs.File, error) {
	switch name {
	case engine.StdoutName:
		return os.Open(a.stdout)
	case engine.StderrName:
		return os.Open(a.stderr)
	}
	return a.work.Open(name)
}

// ReadDir lists the work directory, and the two outputs at its top.
func (a attemptFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(a.work, name)
	if err != nil || name != "." {
		return entries, err
	}
	for as, p := range map[string]string{engine.StdoutName: a.stdout, engine.StderrName: a.stderr} {
		if info, err := os.Stat(p); err == nil {
			entries = append(entries, namedEntry{fs.FileInfoToDirEntry(info), as})
		}
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return entries, nil
}

type namedEntry struct {
	fs.DirEntry
	name string
}

func (n namedEntry) Name() string { return n.name }
