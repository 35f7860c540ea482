package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// attemptFences returns the fences that spoke for each attempt of a job, oldest
// first. The files of an attempt are stored under one of them.
func attemptFences(ctx context.Context, tx store.ReadTx, t job.Tenant, id job.ID) (map[int][]job.Fence, error) {
	fences := map[int][]job.Fence{}
	for after := int64(0); ; {
		events, err := tx.EventsAfter(ctx, t, id, after, eventPage)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			after = e.Seq
			if e.Kind != job.EventStarted && e.Kind != job.EventAdopted {
				continue
			}
			var owner struct {
				Attempt int       `json:"attempt"`
				Fence   job.Fence `json:"fence"`
			}
			if err := json.Unmarshal(e.Data, &owner); err != nil {
				return nil, fmt.Errorf("read event %d of job %s: %w", e.Seq, id, err)
			}
			fences[owner.Attempt] = append(fences[owner.Attempt], owner.Fence)
		}
		if len(events) < eventPage {
			return fences, nil
		}
	}
}

// keptFile is a stored file of an attempt.
type keptFile struct {
	name    string
	attempt int
	info    artifact.Info
}

// keptFiles lists what the attempts of a job left, the last attempt first. All
// the files of one attempt are those of its last owner that stored any, so that
// an owner that lost the job on the way is never mixed in (G6).
func (s *Server) keptFiles(ctx context.Context, id job.ID, fences map[int][]job.Fence) ([]keptFile, error) {
	byFence := map[job.Fence][]keptFile{}
	prefix := fmt.Sprintf("jobs/%s/", id)
	for info, err := range s.Artifacts.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list files of job %s: %w", id, err)
		}
		number, safe, ok := strings.Cut(strings.TrimPrefix(info.Key, prefix), "/")
		fence, err := strconv.ParseInt(number, 10, 64)
		if ok && err == nil {
			byFence[job.Fence(fence)] = append(byFence[job.Fence(fence)], keptFile{name: plainName(safe), info: info})
		}
	}
	var kept []keptFile
	for _, attempt := range slices.Backward(slices.Sorted(maps.Keys(fences))) {
		for _, fence := range slices.Backward(fences[attempt]) {
			if files := byFence[fence]; len(files) > 0 {
				for _, f := range files {
					f.attempt = attempt
					kept = append(kept, f)
				}
				break
			}
		}
	}
	return kept, nil
}

// plainName undoes artifact.SafeName.
func plainName(safe string) string {
	var b strings.Builder
	for i := 0; i < len(safe); i++ {
		if safe[i] == '~' && i+2 < len(safe) {
			if c, err := hex.DecodeString(safe[i+1 : i+3]); err == nil {
				b.Write(c)
				i += 2
				continue
			}
		}
		b.WriteByte(safe[i])
	}
	return b.String()
}

// findKept finds one file of one attempt, of its last owner that stored any.
func (s *Server) findKept(ctx context.Context, id job.ID, fences []job.Fence, name string) (artifact.Info, error) {
	for _, fence := range slices.Backward(fences) {
		info, err := s.Artifacts.Stat(ctx, artifact.RunKey(id, fence, name))
		if job.CodeOf(err) != job.NotFound {
			return info, err
		}
	}
	return artifact.Info{}, job.Errorf(job.NotFound, "job %s has no file %s", id, shorten(name))
}

// object reads a stored object from any position. Read from its beginning it is
// checked against its hash.
type object struct {
	ctx  context.Context
	st   artifact.Store
	info artifact.Info
	at   int64
	r    io.ReadCloser // open at position at; nil: not open
}

func (o *object) Read(b []byte) (int, error) {
	if o.r == nil {
		if o.at >= o.info.Size && o.at > 0 {
			return 0, io.EOF
		}
		r, _, err := o.st.Get(o.ctx, o.info.Key, o.at)
		if err != nil {
			return 0, err
		}
		o.r = r
	}
	n, err := o.r.Read(b)
	o.at += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (o *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += o.info.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	if offset != o.at {
		if err := o.Close(); err != nil {
			return 0, err
		}
		o.at = offset
	}
	return offset, nil
}

// Close implements io.Closer.
func (o *object) Close() error {
	if o.r == nil {
		return nil
	}
	r := o.r
	o.r = nil
	return r.Close()
}
