package api

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
)

// query reads the parameters of the handlers that stream, as strictly as those
// of the others are read.
type query struct {
	values url.Values
	known  []string
	checks checks
}

func (q *query) take(name string) string {
	q.known = append(q.known, name)
	return q.values.Get(name)
}

func (q *query) number(name string, low, high, absent int64) int64 {
	text := q.take(name)
	if text == "" {
		return absent
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		q.checks.add(name, fmt.Sprintf("%q is not a whole number", shorten(text)), "")
		return absent
	}
	q.checks.between(name, n, low, high, "")
	return n
}

func (q *query) flag(name string) bool {
	switch text := q.take(name); text {
	case "", "false":
		return false
	case "true":
		return true
	default:
		q.checks.add(name, fmt.Sprintf("%q is neither true nor false", shorten(text)), "")
		return false
	}
}

func (q *query) word(name, absent string, permitted ...string) string {
	text := q.take(name)
	if text == "" {
		return absent
	}
	if !slices.Contains(permitted, text) {
		q.checks.add(name, fmt.Sprintf("%q is not permitted", shorten(text)), nearestFix(text, permitted))
	}
	return text
}

// err is what was wrong with the parameters that were taken, and that there are
// others.
func (q *query) err() error {
	for _, name := range sortedKeys(q.values) {
		if !slices.Contains(q.known, name) {
			q.checks.add(shorten(name), "unknown parameter", nearestFix(name, q.known))
		}
	}
	return job.InvalidInput("the request was refused", q.checks.problems)
}

// checks collects problems.
type checks struct{ problems []job.Problem }

func (c *checks) add(field, message, fix string) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, job.Problem{Field: field, Message: message, Fix: fix})
	}
}

func (c *checks) between(field string, n, low, high int64, fix string) {
	if n < low || n > high {
		c.add(field, fmt.Sprintf("%d is outside %d … %d", n, low, high), fix)
	}
}

// plainText refuses what could not be shown in one line of a terminal (T40).
func (c *checks) plainText(field, s string) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.add(field, "has characters that cannot be printed", "")
	}
}

// Descriptions of parameters and answers of the handlers that stream.

func refParam() *huma.Param {
	return &huma.Param{Name: "ref", In: "path", Required: true, Example: "@last", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "Id, six or more characters of its beginning or end, unique name, or @last."}
}

func intParam(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: description, Schema: &huma.Schema{Type: huma.TypeInteger}}
}

func flagParam(name, description string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: description, Schema: &huma.Schema{Type: huma.TypeBoolean}}
}

func wordParam(name, description string, permitted ...any) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: description, Schema: &huma.Schema{Type: huma.TypeString, Enum: permitted}}
}

func jsonResponse(s *Server, v any, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")},
	}}}
}

func eventResponse(s *Server, page any) map[string]*huma.Response {
	stream := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}, Example: "id: 42\nevent: started\ndata: {\"seq\":42,\"job\":\"0199…\",\"kind\":\"started\"}\n\n"}
	if page == nil {
		return map[string]*huma.Response{"200": {Description: "The stream.", Content: map[string]*huma.MediaType{"text/event-stream": stream}}}
	}
	r := jsonResponse(s, page, "A page, or the stream.")
	r["200"].Content["text/event-stream"] = stream
	return r
}

func textResponse(description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{
		"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
}

func bytesResponse(description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
}
