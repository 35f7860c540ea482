package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// maxInput bounds an uploaded file.
const maxInput = 256 << 20

func (s *Server) fileRoutes() {
	route(s, huma.Operation{OperationID: "list-files", Method: http.MethodGet, Path: "/api/v1/jobs/{ref}/files", Tags: []string{"results"},
		Summary: "List the files of a job", Description: "What its attempts left, the last one first, and its inputs."}, s.listFiles)
	s.plain(huma.Operation{
		OperationID: "read-file", Method: http.MethodGet, Path: "/api/v1/jobs/{ref}/files/{path...}", Tags: []string{"results"},
		Summary: "Read one file of a job", Description: "Ranges are served. Without `attempt` it is the file of the last attempt that has it, or else the input of that name.",
		Parameters: []*huma.Param{refParam(),
			{Name: "path", In: "path", Required: true, Description: "Name of the file; it may have slashes.", Schema: &huma.Schema{Type: huma.TypeString}},
			intParam("attempt", "Of this attempt; 0 means the input."),
		},
		Responses: bytesResponse("The file."),
	}, s.readFile)
	s.plain(huma.Operation{
		OperationID: "upload-input", Method: http.MethodPut, Path: "/api/v1/inputs", Tags: []string{"jobs"},
		Summary: "Upload an input file", Description: "Up to 256 MiB. Its hash then names it among the files of a job. The same bytes may be sent again.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
		Responses: jsonResponse(s, Upload{}, "It is stored."),
	}, s.upload)
}

type filesOutput struct{ Body FileList }

func (s *Server) listFiles(ctx context.Context, in *refInput) (*filesOutput, error) {
	j, fences, err := s.jobAndFences(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	kept, err := s.keptFiles(ctx, j.ID, fences)
	if err != nil {
		return nil, err
	}
	out := &filesOutput{Body: FileList{APIVersion: Version, Kind: "FileList", Items: []File{}}}
	for _, f := range kept {
		out.Body.Items = append(out.Body.Items, File{Name: f.name, Size: f.info.Size, SHA256: f.info.SHA256, At: f.info.At,
			Attempt: f.attempt, URL: fileURL(j.ID, f.name, f.attempt)})
	}
	for _, f := range j.Spec.Files {
		out.Body.Items = append(out.Body.Items, File{Name: f.Name, Size: f.Size, SHA256: f.SHA256, URL: fileURL(j.ID, f.Name, 0)})
	}
	return out, nil
}

func fileURL(id job.ID, name string, attempt int) string {
	u := url.URL{Path: jobPath(string(id), "files", name), RawQuery: "attempt=" + strconv.Itoa(attempt)}
	return u.String()
}

func (s *Server) jobAndFences(ctx context.Context, ref string) (j job.Job, fences map[int][]job.Fence, err error) {
	err = s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		if j, err = find(ctx, tx, t, ref); err == nil {
			fences, err = attemptFences(ctx, tx, t, j.ID)
		}
		if err != nil {
			return err
		}
		attempts, err := tx.Attempts(ctx, t, j.ID)
		for _, a := range attempts {
			// What an attempt had stored when it was given up is nobody's result (G6).
			if a.Outcome == outcomeLost {
				delete(fences, a.Number)
			}
		}
		return err
	})
	return j, fences, err
}

func (s *Server) readFile(w http.ResponseWriter, r *http.Request) error {
	q := query{values: r.URL.Query()}
	attempt := q.number("attempt", 0, 1<<30, -1)
	if err := q.err(); err != nil {
		return err
	}
	j, fences, err := s.jobAndFences(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	name := r.PathValue("path")
	info, err := s.findFile(r.Context(), j, fences, name, int(attempt))
	if err != nil {
		return err
	}
	// Whatever a program wrote is downloaded, never shown by a browser (T23).
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	h.Set("ETag", `"`+info.SHA256+`"`)
	content := &object{ctx: r.Context(), st: s.Artifacts, info: info}
	defer content.Close()
	s.serveContent(w, r, content)
	return nil
}

// findFile finds a file by its name among those of the attempts, the last one
// first, and the inputs. Attempt -1 means any, 0 the inputs.
func (s *Server) findFile(ctx context.Context, j job.Job, fences map[int][]job.Fence, name string, attempt int) (artifact.Info, error) {
	none := job.Errorf(job.NotFound, "job %s has no file %q", j.ID, shorten(name))
	none.Fix = "list them at " + jobPath(string(j.ID), "files")
	if attempt != 0 {
		kept, err := s.keptFiles(ctx, j.ID, fences)
		if err != nil {
			return artifact.Info{}, err
		}
		for _, f := range kept {
			if f.name == name && (attempt < 0 || f.attempt == attempt) {
				return f.info, nil
			}
		}
	}
	i := slices.IndexFunc(j.Spec.Files, func(f job.File) bool { return f.Name == name })
	if i < 0 || attempt > 0 {
		return artifact.Info{}, none
	}
	info, err := s.Artifacts.Stat(ctx, artifact.InputKey(j.Spec.Files[i].SHA256))
	if job.CodeOf(err) == job.NotFound {
		return info, none
	}
	return info, err
}

// upload stores the body under its hash. The bytes wait in a temporary file,
// because the hash, and so the place, is known only at the end.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	leave, err := s.streams.enter(r.RemoteAddr)
	if err != nil {
		return err
	}
	defer leave()
	spool, err := os.CreateTemp("", "nanoos-input-")
	if err != nil {
		return fmt.Errorf("make temporary file: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()

	control := http.NewResponseController(w)
	setDeadline(control.SetWriteDeadline, 0) // set again for the answer
	sum := sha256.New()
	body := http.MaxBytesReader(w, r.Body, maxInput)
	n, err := io.Copy(io.MultiWriter(spool, sum), patientReader{body, control})
	if err != nil {
		return uploadError(r, err)
	}
	setDeadline(control.SetReadDeadline, 0)
	setDeadline(control.SetWriteDeadline, answerTimeout)
	up := Upload{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: n}
	if _, err := s.Artifacts.Stat(r.Context(), artifact.InputKey(up.SHA256)); err == nil {
		return writeJSON(w, http.StatusOK, up)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read temporary file: %w", err)
	}
	if _, err := s.Artifacts.Put(r.Context(), artifact.InputKey(up.SHA256), spool, n); err != nil {
		return fmt.Errorf("store input: %w", err)
	}
	return writeJSON(w, http.StatusOK, up)
}

func uploadError(r *http.Request, err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p := problemOf(r.Context(), &job.Error{Code: job.Invalid, Message: "the file was not stored",
			Why: fmt.Sprintf("it has more than %d bytes", tooLarge.Limit), Fix: "put large files on the machine and name them in the deck"})
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
		return p
	}
	if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) && strings.Contains(pathErr.Path, "nanoos-input-") {
		return fmt.Errorf("write temporary file: %w", err)
	}
	return &job.Error{Code: job.Invalid, Message: "the file was not stored", Why: "the body was cut or came too slowly", Fix: "send it again", Err: err}
}

// patientReader gives every part of a long body its own time.
type patientReader struct {
	r       io.Reader
	control *http.ResponseController
}

func (p patientReader) Read(b []byte) (int, error) {
	setDeadline(p.control.SetReadDeadline, bodyTimeout)
	return p.r.Read(b)
}
