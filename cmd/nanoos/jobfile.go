package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// draft is a job that has been read but not submitted, and where it came from.
type draft struct {
	name    string // of the job file or deck, for messages
	text    string
	root    *value // of the YAML document; nil for a raw deck
	request api.JobRequest
	uploads []upload
}

// upload is a local file that goes with the job.
type upload struct {
	name string // in the work directory
	path string
	size int64
	text []byte // instead of path
}

// Bounds of what is sent along with one job.
const (
	maxStructureFile = 8 << 20
	maxUploads       = 200
	maxUploadBytes   = 1 << 30
)

// readJobFile reads the documents of a job file. dir is where its relative
// paths begin; set are KEY=VALUE changes from the command line.
func readJobFile(name, dir string, text []byte, set []string) ([]*draft, error) {
	roots, problems := parseYAML(name, text)
	r := jobReader{file: name, dir: dir, problems: problems}
	var drafts []*draft
	for _, root := range roots {
		if len(r.problems) > 0 {
			break
		}
		for _, s := range set {
			r.set(root, s)
		}
		drafts = append(drafts, r.draft(root, string(text)))
	}
	if len(r.problems) == 0 && len(drafts) == 0 {
		r.fault(place{}, "has no job in it", "", "write at least: engine: mock")
	}
	slices.SortStableFunc(r.problems, func(a, b job.Problem) int { return a.Line - b.Line })
	if err := job.InvalidInput(name+" was not submitted", r.problems); err != nil {
		return nil, &located{asError(err), map[string]string{name: string(text)}}
	}
	return drafts, nil
}

// jobReader collects every problem of a job file.
type jobReader struct {
	file, dir string
	problems  []job.Problem
}

func (r *jobReader) fault(at place, message, why, fix string) {
	r.problems = append(r.problems, job.Problem{File: r.file, Line: at.line, Column: at.column, Message: message, Why: why, Fix: fix})
}

func (r *jobReader) draft(root *value, text string) *draft {
	d := &draft{name: r.file, text: text, root: root}
	if root.kind != mapping {
		r.fault(root.place, "is not a job file", "it is not made of keys and values", "a deck of an engine can be submitted as it is: nanoos submit pw.in")
		return d
	}
	rest := &value{place: root.place, kind: mapping}
	for _, e := range root.fields {
		switch {
		case e.key == "structure" && e.value.kind == scalar:
			d.request.Structure = r.structure(e.value)
		case e.key == "files" && e.value.kind == sequence:
			r.files(d, e.value)
		default:
			rest.fields = append(rest.fields, e)
		}
	}
	r.decode(rest, reflect.ValueOf(&d.request).Elem(), "")
	return d
}

// structure reads the file that "structure: Si.cif" names.
func (r *jobReader) structure(v *value) *api.StructureInput {
	if v.text == "" {
		return nil
	}
	text, err := readBounded(r.path(v.text), maxStructureFile)
	if err != nil {
		r.fault(v.place, fmt.Sprintf("structure file %s cannot be read", v.text), plainError(err), r.missingFix(v.text))
		return nil
	}
	return &api.StructureInput{Name: filepath.Base(v.text), Text: string(text)}
}

// files reads "files: [in.lammps, data.al]" and "files: [{name: a, path: b}]".
func (r *jobReader) files(d *draft, list *value) {
	for _, item := range list.items {
		name, path, text := "", "", (*value)(nil)
		if item.kind == scalar {
			path = item.text
			name = nameInJob(path)
		} else {
			if item.kind != mapping {
				r.fault(item.place, "must be a path, or name with path or text", "", "")
				continue
			}
			for _, e := range item.fields {
				switch e.key {
				case "name":
					name = e.value.text
				case "path":
					path = e.value.text
				case "text":
					text = e.value
				case "sha256":
					d.request.Files = append(d.request.Files, api.FileInput{SHA256: e.value.text})
				default:
					r.unknown(e, []string{"name", "path", "text", "sha256"})
				}
			}
			if hash := item.field("sha256"); hash != nil {
				d.request.Files[len(d.request.Files)-1].Name = name
				continue
			}
			if name == "" {
				name = nameInJob(path)
			}
		}
		switch {
		case text != nil:
			d.uploads = append(d.uploads, upload{name: name, text: []byte(text.text), size: int64(len(text.text))})
		case path == "":
			r.fault(item.place, "names no file", "", "give a path beside this file")
		default:
			r.upload(d, item.place, name, path)
		}
	}
}

func (r *jobReader) upload(d *draft, at place, name, path string) {
	if engine.Licensed(name) || engine.Licensed(filepath.ToSlash(path)) {
		r.fault(at, fmt.Sprintf("file %s is licensed, and is not sent", path), "", "leave it out: the worker takes it from its own library, VASP_PP_PATH")
		return
	}
	info, err := os.Stat(r.path(path))
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		r.fault(at, fmt.Sprintf("file %s cannot be read", path), plainError(err), r.missingFix(path))
		return
	}
	if len(d.uploads) == maxUploads {
		r.fault(at, fmt.Sprintf("a job may bring %d files", maxUploads), "", "")
		return
	}
	d.uploads = append(d.uploads, upload{name: name, path: r.path(path), size: info.Size()})
}

func (r *jobReader) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(r.dir, p)
}

// missingFix names the file beside the job file whose name is nearest.
func (r *jobReader) missingFix(p string) string {
	entries, err := os.ReadDir(filepath.Dir(r.path(p)))
	if err != nil {
		return "paths begin beside the job file, in " + r.dir
	}
	near := job.Nearest(filepath.Base(p), func(yield func(string) bool) {
		for _, e := range entries[:min(len(entries), 1000)] {
			if !yield(e.Name()) {
				return
			}
		}
	})
	if near == "" {
		return "paths begin beside the job file, in " + r.dir
	}
	return fmt.Sprintf("did you mean %q?", filepath.Join(filepath.Dir(p), near))
}

// nameInJob is where a file of the job is staged: as the job file names it when
// that stays below the work directory, else under its bare name.
func nameInJob(path string) string {
	clean := filepath.ToSlash(filepath.Clean(path))
	if fs.ValidPath(clean) && clean != "." {
		return clean
	}
	return filepath.Base(path)
}

// set applies KEY=VALUE. A key that begins with a word of the job file is a
// path in it; any other is one of the parameters.
func (r *jobReader) set(root *value, change string) {
	key, text, _ := strings.Cut(change, "=")
	key = strings.TrimSpace(key)
	docs, problems := parseYAML("--set "+key, []byte(text))
	if len(problems) > 0 || len(docs) > 1 {
		r.problems = append(r.problems, job.Problem{Message: fmt.Sprintf("--set %s: the value cannot be read", key), Fix: "put quotes around a text: --set 'title=\"a: b\"'"})
		return
	}
	steps := strings.Split(key, ".")
	if _, known := jobFileKeys()[steps[0]]; !known {
		steps = append([]string{"parameters"}, steps...)
	}
	v := root
	for i, step := range steps {
		next := v.field(step)
		if next == nil || i == len(steps)-1 {
			next = &value{kind: mapping}
			if i == len(steps)-1 {
				next = &value{json: json.RawMessage("null")}
				if len(docs) == 1 {
					next = docs[0]
					next.forgetPlaces()
				}
			}
			v.fields = slices.DeleteFunc(v.fields, func(e entry) bool { return e.key == step })
			v.fields = append(v.fields, entry{key: step, value: next})
		}
		if i < len(steps)-1 && next.kind != mapping {
			r.problems = append(r.problems, job.Problem{Message: fmt.Sprintf("--set %s: %s has no keys", change, step)})
			return
		}
		v = next
	}
}

// forgetPlaces marks values that are not written in the job file.
func (v *value) forgetPlaces() {
	v.place = place{}
	for i := range v.fields {
		v.fields[i].place = place{}
		v.fields[i].value.forgetPlaces()
	}
	for _, item := range v.items {
		item.forgetPlaces()
	}
}

func jobFileKeys() map[string]reflect.StructField {
	return jsonFields(reflect.TypeFor[api.JobRequest]())
}

// decode writes a value into a field of the request, naming every fault.
func (r *jobReader) decode(v *value, dst reflect.Value, path string) {
	if v.kind == scalar && string(v.json) == "null" {
		return
	}
	switch {
	case dst.Type() == reflect.TypeFor[json.RawMessage]():
		r.raw(v, dst)
	case dst.Kind() == reflect.Pointer:
		if dst.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
		}
		r.decode(v, dst.Elem(), path)
	case dst.Addr().Type().Implements(reflect.TypeFor[json.Unmarshaler]()):
		r.leaf(v, dst, path)
	case dst.Kind() == reflect.Struct:
		r.object(v, dst, path)
	case dst.Kind() == reflect.Map:
		r.texts(v, dst, path)
	case dst.Kind() == reflect.Slice, dst.Kind() == reflect.Array:
		r.list(v, dst, path)
	case dst.Kind() == reflect.String && v.kind == scalar:
		dst.SetString(v.text)
	default:
		r.leaf(v, dst, path)
	}
}

func (r *jobReader) raw(v *value, dst reflect.Value) {
	b, err := v.appendJSON(nil)
	if err != nil {
		r.fault(v.place, err.Error(), "", "")
	}
	dst.SetBytes(b)
}

func (r *jobReader) leaf(v *value, dst reflect.Value, path string) {
	b, err := v.appendJSON(nil)
	if err == nil {
		err = json.Unmarshal(b, dst.Addr().Interface())
	}
	if err == nil {
		return
	}
	at := v.place
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		r.fault(at, fmt.Sprintf("%s must be %s", path, describe(dst.Type())), "got "+v.what(), "")
		return
	}
	r.fault(at, path+": "+err.Error(), "", "")
}

func (r *jobReader) object(v *value, dst reflect.Value, path string) {
	if v.kind != mapping {
		r.fault(v.place, path+" must be keys and values", "got "+v.what(), "")
		return
	}
	fields := jsonFields(dst.Type())
	for _, e := range v.fields {
		f, known := fields[e.key]
		if !known {
			r.unknown(e, keysOf(fields))
			continue
		}
		r.decode(e.value, dst.FieldByIndex(f.Index), strings.TrimPrefix(path+"."+e.key, "."))
	}
}

func (r *jobReader) unknown(e entry, known []string) {
	fix := didYouMean(e.key, slices.Values(known))
	if fix == "" {
		fix = "permitted here: " + strings.Join(known, ", ")
	}
	r.fault(e.place, fmt.Sprintf("unknown key %q", e.key), "", fix)
}

// texts reads labels: any scalar is a text there.
func (r *jobReader) texts(v *value, dst reflect.Value, path string) {
	if v.kind != mapping {
		r.fault(v.place, path+" must be keys and values", "got "+v.what(), "")
		return
	}
	out := make(map[string]string, len(v.fields))
	for _, e := range v.fields {
		if e.value.kind != scalar {
			r.fault(e.value.place, fmt.Sprintf("%s.%s must be a text", path, e.key), "got "+e.value.what(), "")
		}
		out[e.key] = e.value.text
	}
	dst.Set(reflect.ValueOf(out))
}

func (r *jobReader) list(v *value, dst reflect.Value, path string) {
	if v.kind != sequence {
		r.fault(v.place, path+" must be "+describe(dst.Type()), "got "+v.what(), "")
		return
	}
	if dst.Kind() == reflect.Array && len(v.items) != dst.Len() {
		r.fault(v.place, path+" must be "+describe(dst.Type()), fmt.Sprintf("got %d values", len(v.items)), "")
		return
	}
	if dst.Kind() == reflect.Slice {
		dst.Set(reflect.MakeSlice(dst.Type(), len(v.items), len(v.items)))
	}
	for i, item := range v.items {
		r.decode(item, dst.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (v *value) what() string {
	switch {
	case v.kind == mapping:
		return "keys and values"
	case v.kind == sequence:
		return "a list"
	case len(v.text) > 40:
		return fmt.Sprintf("%.40q…", v.text)
	}
	return fmt.Sprintf("%q", v.text)
}

// describe names a type for people.
func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	case reflect.Array:
		return fmt.Sprintf("a list of %d values", t.Len())
	}
	if t == reflect.TypeFor[time.Time]() {
		return "a time such as 2026-01-31T18:00:00Z"
	}
	return "keys and values"
}

// jsonFields maps the JSON names of a struct to its fields.
func jsonFields(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" && !f.Anonymous {
			out[name] = f
		}
	}
	return out
}

func keysOf(fields map[string]reflect.StructField) []string {
	out := make([]string, 0, len(fields))
	for name := range fields {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// locate gives the problems that a server found in a draft their lines.
func (d *draft) locate(err error) error {
	e, ok := errors.AsType[*job.Error](err)
	if !ok || len(e.Problems) == 0 || d.root == nil {
		return err
	}
	placed := *e
	placed.Problems = slices.Clone(e.Problems)
	for i, p := range placed.Problems {
		if p.File != "" || p.Field == "" {
			continue
		}
		at := d.root.find(p.Field)
		if at.line > 0 {
			placed.Problems[i].File, placed.Problems[i].Line, placed.Problems[i].Column = d.name, at.line, at.column
		}
	}
	return &located{&placed, map[string]string{d.name: d.text}}
}

// plainError is an error of the file system without the path, which the
// message already has.
func plainError(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
