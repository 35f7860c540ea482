package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Headers that say where a log begins: the attempt, and the position in the
// text of that attempt and those after it.
const (
	headerAttempt = "Nanoos-Attempt"
	headerFrom    = "Nanoos-From"
)

func (s *Server) logRoutes() {
	s.plain(huma.Operation{
		OperationID: "read-log", Method: http.MethodGet, Path: "/api/v1/jobs/{ref}/logs", Tags: []string{"results"},
		Summary: "Read or follow a log",
		Description: "What the programs of an attempt printed, byte for byte; ranges are served. With `follow=true` it waits for a job that " +
			"has not started, reads on as the log grows and into the next attempts, each begun by a line that says so, and ends when the job " +
			"ends. The headers `" + headerAttempt + "` and `" + headerFrom + "` say where it begins; a reader that was cut off goes on with that attempt and " +
			"`from` set to that number plus the bytes it has read.",
		Parameters: []*huma.Param{
			refParam(),
			wordParam("stream", "The default is stdout.", engine.StdoutName, engine.StderrName),
			intParam("attempt", "The default is the last one."),
			intParam("tail", "Only the last so many lines."),
			flagParam("follow", "Go on until the job ends."),
			intParam("from", "With follow: begin at this byte."),
		},
		Responses: textResponse("The log."),
	}, s.logs)
}

// maxTail bounds the lines of a tail.
const maxTail = 1_000_000

// logRequest is which log of which job.
type logRequest struct {
	id      job.ID
	tenant  job.Tenant
	stream  string
	attempt int // 0: the last
	tail    int64
	follow  bool
	from    int64 // -1: not given
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	q := query{values: r.URL.Query()}
	l := logRequest{
		tenant:  principal(r.Context()).tenant,
		stream:  q.word("stream", engine.StdoutName, engine.StdoutName, engine.StderrName),
		attempt: int(q.number("attempt", 1, 1<<30, 0)), tail: q.number("tail", 0, maxTail, 0),
		follow: q.flag("follow"), from: q.number("from", 0, 1<<62, -1),
	}
	if l.from >= 0 && (!l.follow || l.tail > 0) {
		q.checks.add("from", "goes with follow and without tail", "a part of a log is read with the header Range")
	}
	if err := q.err(); err != nil {
		return err
	}
	var j job.Job
	err := s.read(r.Context(), func(tx store.ReadTx, t job.Tenant) (err error) {
		j, err = find(r.Context(), tx, t, r.PathValue("ref"))
		return err
	})
	if err != nil {
		return err
	}
	l.id = j.ID
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if l.follow {
		return s.followLog(w, r, l, j)
	}
	return s.serveLog(w, r, l, j)
}

// serveLog serves what there is of one attempt.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, l logRequest, j job.Job) error {
	if l.attempt == 0 {
		l.attempt = j.Attempt
	}
	if l.attempt == 0 || l.attempt > j.Attempt {
		return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("job %s has no log yet", j.ID),
			Why: fmt.Sprintf("it is %s and has had %d attempts", j.State, j.Attempt), Fix: fmt.Sprintf("nanoos logs -f %s", j.ID)}
	}
	log, err := s.openLog(r.Context(), l)
	if err != nil {
		return err
	}
	if log == nil {
		return noLog(j, l)
	}
	defer log.Close()
	w.Header().Set(headerAttempt, strconv.Itoa(l.attempt))
	if l.tail > 0 {
		from, err := tailStart(log, l.tail)
		if err != nil {
			return err
		}
		w.Header().Set(headerFrom, strconv.FormatInt(from, 10))
		if _, err := log.Seek(from, io.SeekStart); err != nil {
			return err
		}
		return s.copyOut(w, log)
	}
	w.Header().Set(headerFrom, "0")
	s.serveContent(w, r, log)
	return nil
}

func noLog(j job.Job, l logRequest) error {
	e := job.Errorf(job.NotFound, "there is no %s of attempt %d of job %s", l.stream, l.attempt, j.ID)
	switch {
	case j.State == job.Running && l.attempt == j.Attempt:
		e.Why, e.Fix = fmt.Sprintf("it runs on %s, and its log is not here before it ends", j.Worker), fmt.Sprintf("nanoos logs -f %s", j.ID)
	default:
		e.Why = "nothing of it was stored"
	}
	return e
}

// openLog opens the growing output of an attempt that runs here, or the stored
// one, or what a worker elsewhere has sent so far; nil when there is neither.
func (s *Server) openLog(ctx context.Context, l logRequest) (io.ReadSeekCloser, error) {
	if f := s.openLive(l); f != nil {
		return f, nil
	}
	stored, err := s.openStored(ctx, l)
	if stored != nil || err != nil {
		return stored, err
	}
	if f := s.live.open(l.id, l.attempt, l.stream); f != nil {
		return f, nil
	}
	return nil, nil
}

func (s *Server) openLive(l logRequest) io.ReadSeekCloser {
	if s.Live == nil {
		return nil
	}
	path, ok := s.Live.Log(l.id, l.attempt, l.stream)
	if !ok {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // removed in between: it is stored by now
	}
	return f
}

func (s *Server) openStored(ctx context.Context, l logRequest) (io.ReadSeekCloser, error) {
	var fences map[int][]job.Fence
	err := s.Store.Read(ctx, func(tx store.ReadTx) (err error) {
		fences, err = attemptFences(ctx, tx, l.tenant, l.id)
		return err
	})
	if err != nil {
		return nil, err
	}
	info, err := s.findKept(ctx, l.id, fences[l.attempt], l.stream)
	if job.CodeOf(err) == job.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &object{ctx: ctx, st: s.Artifacts, info: info}, nil
}

// serveContent serves ranges of something that can be sought. How long it takes
// is the reader's matter, as long as it reads.
func (s *Server) serveContent(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) {
	http.ServeContent(&patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: s.patience},
		r, "", time.Time{}, content)
}

func (s *Server) copyOut(w http.ResponseWriter, from io.Reader) error {
	_, err := io.Copy(&patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: s.patience}, from)
	if err != nil {
		panic(http.ErrAbortHandler) // the answer is cut and must look like it
	}
	return nil
}

// patientWriter gives every part of a long answer its own time.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

func (p *patientWriter) Write(b []byte) (int, error) {
	setDeadline(p.control.SetWriteDeadline, p.patience)
	return p.ResponseWriter.Write(b)
}

// tailBlock is how much is read at a time on the way back from the end.
const tailBlock = 64 << 10

// tailStart is where the last n lines begin.
func tailStart(r io.ReadSeeker, n int64) (int64, error) {
	at, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	end, block := at, make([]byte, tailBlock)
	for at > 0 {
		size := min(at, tailBlock)
		at -= size
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(r, block[:size]); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			// A newline at the very end closes the last line and begins none.
			if block[i] != '\n' || at+i == end-1 {
				continue
			}
			if n--; n == 0 {
				return at + i + 1, nil
			}
		}
	}
	return 0, nil
}

// followLog follows the log of a job to its end.
func (s *Server) followLog(w http.ResponseWriter, r *http.Request, l logRequest, j job.Job) error {
	leave, err := s.streams.enter(r.RemoteAddr)
	if err != nil {
		return err
	}
	defer leave()
	if l.attempt == 0 {
		l.attempt = max(1, j.Attempt)
	}
	f := follower{s: s, ctx: r.Context(), logRequest: l, out: s.newStreamWriter(w), skip: max(0, l.from)}
	defer f.close()
	if l.tail > 0 {
		if err := f.skipToTail(); err != nil {
			return err
		}
	}
	w.Header().Set(headerAttempt, strconv.Itoa(l.attempt))
	w.Header().Set(headerFrom, strconv.FormatInt(f.skip, 10))
	w.WriteHeader(http.StatusOK)
	if f.out.control.Flush() != nil {
		return nil
	}
	if err := f.run(); err != nil {
		if r.Context().Err() == nil && !errors.Is(err, errStreamCut) {
			infoOf(r.Context()).fail = err
		}
		// Only the end of the job is an end; anything else must look like a cut,
		// so that the reader comes back.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// errStreamCut ends a stream that the reader should take up again.
var errStreamCut = errors.New("the stream is cut")

// follower writes the logs of an attempt and of those after it, one text:
// each later attempt begins with a line that says so.
type follower struct {
	s   *Server
	ctx context.Context
	logRequest
	out  *streamWriter
	skip int64 // bytes of the text that the reader has
	at   int64 // position in the log of the attempt
	live io.ReadSeekCloser
	// remote says that the output grows on another machine.
	remote bool
}

// livePace is how often growing output is looked at, restPace how often the
// store is when nothing wakes us.
const (
	livePace = 250 * time.Millisecond
	restPace = time.Second
)

func (f *follower) run() error {
	for {
		changed := f.s.Queue.Changed()
		// The job is looked at before the log, so a log that is read after the
		// end is complete: it is stored before the end is reported.
		j, over, err := f.look()
		if err != nil {
			return err
		}
		if err := f.drain(over); err != nil {
			return err
		}
		switch {
		case j.Attempt > f.attempt:
			f.next()
			continue
		case j.State.Terminal():
			return f.flush()
		}
		if err := f.flush(); err != nil {
			return err
		}
		if err := f.wait(changed); err != nil {
			return err
		}
	}
}

// look returns the job and whether the followed attempt is over.
func (f *follower) look() (j job.Job, over bool, err error) {
	err = f.s.Store.Read(f.ctx, func(tx store.ReadTx) error {
		if j, err = tx.Job(f.ctx, f.tenant, f.id); err != nil {
			return err
		}
		attempts, err := tx.Attempts(f.ctx, f.tenant, f.id)
		over = j.Attempt > f.attempt || j.State.Terminal()
		if f.attempt <= len(attempts) && f.attempt == j.Attempt {
			over = over || !attempts[f.attempt-1].EndedAt.IsZero()
		}
		return err
	})
	return j, over, err
}

// drain writes what has been added to the log of the attempt.
func (f *follower) drain(over bool) error {
	if f.live == nil {
		f.live = f.s.openLive(f.logRequest)
	}
	if f.live != nil {
		if err := f.copy(f.live); err != nil {
			return err
		}
	}
	if err := f.drainShared(); err != nil || !over {
		return err
	}
	stored, err := f.s.openStored(f.ctx, f.logRequest)
	if stored == nil || err != nil {
		return err
	}
	defer stored.Close()
	return f.copy(stored)
}

// drainShared writes what a worker elsewhere has sent. It is opened anew every
// time: the attempt may have a new owner by now, who sends it again.
func (f *follower) drainShared() error {
	if f.live != nil {
		return nil
	}
	shared := f.s.live.open(f.id, f.attempt, f.stream)
	f.remote = shared != nil
	if shared == nil {
		return nil
	}
	defer shared.Close()
	return f.copy(shared)
}

// copy writes the log from position at on, without what the reader has.
func (f *follower) copy(log io.ReadSeeker) error {
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	known := min(f.skip, max(0, size-f.at))
	f.skip, f.at = f.skip-known, f.at+known
	if f.at >= size {
		return nil
	}
	if _, err := log.Seek(f.at, io.SeekStart); err != nil {
		return err
	}
	for {
		n, err := io.CopyN(&f.out.buf, log, 32<<10)
		f.at += n
		if n > 0 {
			if err := f.flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next goes on to the next attempt.
func (f *follower) next() {
	f.close()
	f.attempt++
	f.at = 0
	marker := fmt.Appendf(nil, "\n==> attempt %d <==\n", f.attempt)
	known := min(f.skip, int64(len(marker)))
	f.skip -= known
	f.out.buf.Write(bytes.Clone(marker[known:]))
}

// skipToTail lets the text begin with the last lines of what there is.
func (f *follower) skipToTail() error {
	log, err := f.s.openLog(f.ctx, f.logRequest)
	if log == nil || err != nil {
		return err
	}
	defer log.Close()
	f.skip, err = tailStart(log, f.tail)
	return err
}

func (f *follower) flush() error {
	if !f.out.flush() {
		return errStreamCut
	}
	return nil
}

func (f *follower) wait(changed <-chan struct{}) error {
	pace := restPace
	if f.live != nil || f.remote {
		pace = livePace
	}
	t := time.NewTimer(pace)
	defer t.Stop()
	select {
	case <-f.ctx.Done():
		return errStreamCut
	case <-f.s.closing.Done():
		return errStreamCut
	case <-changed:
		pause(f.ctx, eventPace)
	case <-t.C:
	}
	return nil
}

func (f *follower) close() {
	if f.live != nil {
		f.live.Close()
		f.live = nil
	}
}
