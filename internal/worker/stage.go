package worker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// scratchDir is the work directory's own place for temporary files: MPI session
// directories and shared memory go there and disappear with the job.
const scratchDir = "tmp"

// stage fills the work directory: the user's files, then the plan's, then what
// the plan takes from the library. Every path is rooted (G18).
func (r *run) stage(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open work directory: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(scratchDir, 0o700); err != nil {
		return fmt.Errorf("make scratch directory: %w", err)
	}
	inputs := r.w.opt.Machine.Inputs(r.eng.Name())
	for _, f := range r.lease.Job.Spec.Files {
		if _, replaced := r.plan.Files[path.Clean(f.Name)]; replaced {
			continue
		}
		if err := r.stageInput(ctx, root, f); err != nil {
			return fmt.Errorf("stage %s: %w", f.Name, err)
		}
	}
	for name, content := range r.plan.Files {
		if err := stageFile(root, name, bytes.NewReader(content)); err != nil {
			return fmt.Errorf("stage %s: %w", name, err)
		}
	}
	for name, to := range r.plan.Library {
		if err := stageLibrary(root, inputs.Library, name, to); err != nil {
			return err
		}
	}
	for _, j := range r.plan.Joined {
		if err := stageJoined(root, inputs.Library, j); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) stageInput(ctx context.Context, root *os.Root, f job.File) error {
	in, _, err := r.w.opt.Artifacts.Get(ctx, artifact.InputKey(f.SHA256), 0)
	if err != nil {
		return err
	}
	defer in.Close()
	return stageFile(root, f.Name, in)
}

func stageLibrary(root *os.Root, library fs.FS, name, to string) error {
	if library == nil {
		return noLibrary(name)
	}
	in, err := openLibrary(library, name)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := stageFile(root, to, in); err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	return nil
}

// stageJoined writes library files one after the other.
func stageJoined(root *os.Root, library fs.FS, j engine.Joined) error {
	if library == nil {
		return noLibrary(strings.Join(j.From, ", "))
	}
	var parts []io.Reader
	for _, name := range j.From {
		in, err := openLibrary(library, name)
		if err != nil {
			return err
		}
		defer in.Close()
		parts = append(parts, in)
	}
	if err := stageFile(root, j.To, io.MultiReader(parts...)); err != nil {
		return fmt.Errorf("stage %s: %w", j.To, err)
	}
	return nil
}

func noLibrary(name string) error {
	return &job.Error{Code: job.Unavailable, Message: "no library of pseudopotentials or potentials is known here",
		Why: name + " is needed", Fix: "see: nanoos doctor"}
}

func openLibrary(library fs.FS, name string) (fs.File, error) {
	in, err := library.Open(name)
	if err != nil {
		return nil, &job.Error{Code: job.Unavailable, Message: name + " is not in this machine's library", Err: err, Fix: "see: nanoos doctor"}
	}
	return in, nil
}

func stageFile(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
