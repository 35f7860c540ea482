package bridge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
)

// Labels of imported jobs. The first marks the jobs whose life is mirrored.
const (
	labelPlatform = "platform"
	ofNanoOS      = "nano-os"
	// labelIgnored names what a mock job carries that means nothing to it.
	labelIgnored = "platform.ignored"
)

// Import makes a spec of the platform's row, its structure and its workflow
// template. It is deterministic: the same rows give the same spec. An unknown
// job is job.NotFound, one that has ended job.Conflict. A row that no job can be
// made of is job.Invalid with all the problems, and the row itself fails with
// them, so that nobody waits for it.
func (b *Bridge) Import(ctx context.Context, id job.ID) (job.Spec, error) {
	var d document
	err := b.use(ctx, id, func(ctx context.Context, s *session) (err error) {
		d, err = s.read(ctx, id)
		return err
	})
	if err != nil {
		return job.Spec{}, err
	}
	if status := strings.ToUpper(d.job.text("status")); ended(status) {
		return job.Spec{}, &job.Error{Code: job.Conflict, Message: fmt.Sprintf("Job %s is already %s", id, status)}
	}
	spec, problems := d.spec(id)
	_, err = b.opt.Queue.Check(ctx, spec)
	if e, ok := errors.AsType[*job.Error](err); ok && e.Code == job.Invalid {
		problems = merge(problems, e)
	} else if err != nil {
		return job.Spec{}, fmt.Errorf("check job %s of the platform: %w", id, err)
	}
	if err := job.InvalidInput(fmt.Sprintf("Job %s cannot be run", id), problems); err != nil {
		if told := b.refuse(ctx, id, err); told != nil {
			b.opt.Log.WarnContext(ctx, "the platform was not told that its job cannot be run", "job", id, "error", told)
		}
		return job.Spec{}, err
	}
	return spec, nil
}

// refuse fails a row that no job can be made of.
func (b *Bridge) refuse(ctx context.Context, id job.ID, why error) error {
	return b.change(ctx, id, func(row held) (string, []field, error) {
		if ended(row.status) {
			return "", nil, nil
		}
		return statusFailed, []field{say("error_message", why.Error()), say("current_step", "Failed"), now("finished_at")}, nil
	})
}

// merge adds the problems of fields that none is known of yet.
func merge(problems []job.Problem, e *job.Error) []job.Problem {
	more := e.Problems
	if len(more) == 0 {
		more = []job.Problem{{Message: e.Message, Why: e.Why, Fix: e.Fix}}
	}
	// What a part is missing because it could not be read is told already.
	told := func(p job.Problem) bool {
		return slices.ContainsFunc(problems, func(o job.Problem) bool {
			return o.Field == p.Field || o.Field == "structure" && strings.HasPrefix(p.Field, "structure")
		})
	}
	for _, p := range more {
		if !told(p) {
			problems = append(problems, p)
		}
	}
	return problems
}

// document is a row of the jobs with what it refers to, nil for what it does not.
type document struct {
	job, structure, template row
}

// row is a row of whatever columns there are, as JSON.
type row map[string]json.RawMessage

// read reads the row of a job, and then those that it refers to.
func (s *session) read(ctx context.Context, id job.ID) (d document, err error) {
	if d.job, err = s.row(ctx, jobsTable, string(id)); err != nil {
		return d, err
	}
	if d.job == nil {
		return d, noJob(id)
	}
	if ref := d.job.text("structure_id"); ref != "" && s.schema[structuresTable].has("id") {
		if d.structure, err = s.row(ctx, structuresTable, ref); err != nil {
			return d, err
		}
	}
	if ref := d.job.text("workflow_template_id"); ref != "" && s.schema[templatesTable].has("id") {
		d.template, err = s.row(ctx, templatesTable, ref)
	}
	return d, err
}

func (s *session) row(ctx context.Context, name, id string) (row, error) {
	st := statement{table: s.schema[name]}
	var text string
	err := s.pg.QueryRow(ctx, fmt.Sprintf(`SELECT row_to_json(t)::text FROM public.%q t WHERE "id" = %s`, name, st.value("id", &id)), st.args...).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := row{}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("read a row of %s: %w", name, err)
	}
	return r, nil
}

// text is the text of a column; "" for NULL, none, and what is no text.
func (r row) text(name string) string {
	var s string
	if json.Unmarshal(r[name], &s) != nil {
		return ""
	}
	return strings.TrimSpace(s)
}

// given reports whether a column holds something.
func (r row) given(name string) bool {
	raw := bytes.TrimSpace(r[name])
	return len(raw) > 0 && !slices.Contains([]string{"null", "{}", "[]", `""`}, string(raw))
}

// object reads a column of free form: an object, or a text that holds one.
func (r row) object(name, field string, f *findings) map[string]any {
	raw := r[name]
	if !r.given(name) {
		return nil
	}
	if inner := r.text(name); inner != "" {
		raw = json.RawMessage(inner)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil {
		f.add(field, "is no JSON object", err.Error(), "")
	}
	return o
}

// spec makes a spec of what was read.
func (d document) spec(id job.ID) (job.Spec, []job.Problem) {
	var f findings
	spec := job.Spec{
		Name: name(cmp.Or(d.job.text("name"), string(id))), Key: "platform:" + string(id), Priority: d.priority(&f),
		Labels: map[string]string{labelPlatform: ofNanoOS},
	}
	spoken, engine := d.engine(&f)
	spec.Engine = engine
	d.resources(&spec, &f)
	var ignored []string
	spec.Params, ignored = d.parameters(spoken, &f)
	var own findings
	spec.Structure = d.lattice(&own)
	if spoken == &mockDialect && len(own) > 0 { // it has no use for one
		spec.Structure, own, ignored = nil, nil, append(ignored, "structure")
	}
	if len(ignored) > 0 {
		spec.Labels[labelIgnored] = shorten(strings.Join(ignored, " "), maxLabel)
	}
	return spec, append(f, own...)
}

// maxLabel bounds the value of a label, in bytes.
const maxLabel = 250

// name makes the name of a job printable and short enough.
func name(text string) string {
	return shorten(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r == '\uFFFD' {
			return ' '
		}
		return r
	}, text), job.MaxNameLength)
}

// shorten cuts a text to a number of bytes, between two characters.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := most - len("…")
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}

// defaultPriority is the platform's.
const defaultPriority = 5

func (d document) priority(f *findings) job.Priority {
	if !d.job.given("priority") {
		return defaultPriority
	}
	n, ok := number(plain(d.job["priority"]))
	if !ok {
		f.add("priority", "is not a number", string(d.job["priority"]), "")
	}
	return job.Priority(min(max(n, 0), 20))
}

// plain decodes a value; numbers keep their digits.
func plain(raw json.RawMessage) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	_ = d.Decode(&v) // it came from JSON
	return v
}

// engine finds the engine, and how its parameters are spelled. An engine that
// nanoos does not have is for the queue to refuse.
func (d document) engine(f *findings) (*dialect, string) {
	asked := cmp.Or(d.job.text("engine"), d.template.text("engine"))
	switch strings.NewReplacer("-", "_", " ", "_", ".", "_").Replace(strings.ToLower(asked)) {
	case "qe", "quantum_espresso", "quantumespresso", "espresso", "pwscf", "pw", "pw_x":
		return &espressoDialect, "qe"
	case "lammps":
		return &lammpsDialect, "lammps"
	case "mock", "dummy":
		return &mockDialect, "mock"
	case "":
		f.add("engine", "is missing", "neither the job nor its template names one", "set it to QE, LAMMPS or MOCK")
	}
	return nil, strings.ToLower(asked)
}

// parameters are those of the template with those of the job above them, in the
// engine's own spelling. What the mock engine has no use for is returned.
func (d document) parameters(spoken *dialect, f *findings) (json.RawMessage, []string) {
	base := d.template.object("default_parameters", "template.default_parameters", f)
	own := d.job.object("parameters", "parameters", f)
	if spoken == nil {
		return nil, nil
	}
	t := spoken.translate(base)
	j := spoken.translate(own)
	for i := range t.problems {
		t.problems[i].Field = strings.Replace(t.problems[i].Field, "parameters", "template.default_parameters", 1)
	}
	*f = append(append(*f, t.problems...), j.problems...)
	out := t.out
	for key, v := range j.out {
		inner, deep := v.(map[string]any)
		if old, both := out[key].(map[string]any); both && deep && key == "namelists" {
			v = mergeLists(old, inner)
		}
		out[key] = v
	}
	if kind := d.job.text("kind"); kind != "" && j.out[spoken.calculation] == nil {
		spoken.kind(out, kind, f)
	}
	if spoken.finish != nil {
		spoken.finish(out)
	}
	ignored := slices.Sorted(maps.Keys(union(t.ignored, j.ignored)))
	if len(out) == 0 {
		return nil, ignored
	}
	raw, err := json.Marshal(out)
	if err != nil {
		f.add("parameters", "cannot be written as JSON", err.Error(), "")
	}
	return raw, ignored
}

// mergeLists merges namelists, variable by variable.
func mergeLists(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	for name, v := range over {
		list, ok := v.(map[string]any)
		old, both := out[name].(map[string]any)
		if ok && both {
			merged := maps.Clone(old)
			maps.Copy(merged, list)
			v = merged
		}
		out[name] = v
	}
	return out
}

func union(a, b map[string]bool) map[string]bool {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// findings collects problems.
type findings []job.Problem

func (f *findings) add(field, message, why, fix string) {
	*f = append(*f, job.Problem{Field: field, Message: message, Why: why, Fix: fix})
}
