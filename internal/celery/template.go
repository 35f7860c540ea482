package celery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// Template is a job in its JSON form with places for what a message brings. A
// text that is nothing but a place becomes the argument as it is, a number for
// instance; inside a longer text it becomes the argument's text.
type Template json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (t *Template) UnmarshalJSON(raw []byte) error {
	*t = bytes.Clone(raw)
	return nil
}

var place = regexp.MustCompile(`\{(task_id|args\.[0-9]{1,3}|kwargs\.[A-Za-z_][A-Za-z0-9_]*)\}`)

// fill returns the job that a task asks for.
func (t Template) fill(task wire.Task) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(t))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("the template of %s is not JSON: %w", task.Name, err)
	}
	tree, err := fillIn(tree, task)
	if err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

func fillIn(v any, task wire.Task) (any, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if v[key], err = fillIn(child, task); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, child := range v {
			if v[i], err = fillIn(child, task); err != nil {
				return nil, err
			}
		}
	case string:
		return fillText(v, task)
	}
	return v, nil
}

func fillText(text string, task wire.Task) (any, error) {
	if m := place.FindStringSubmatchIndex(text); m != nil && m[0] == 0 && m[1] == len(text) {
		return argument(text[m[2]:m[3]], task)
	}
	var missing error
	filled := place.ReplaceAllStringFunc(text, func(p string) string {
		raw, err := argument(p[1:len(p)-1], task)
		if err != nil {
			missing = err
			return ""
		}
		return textOf(raw)
	})
	return filled, missing
}

// argument is the value that a place stands for.
func argument(name string, task wire.Task) (json.RawMessage, error) {
	kind, which, _ := strings.Cut(name, ".")
	switch kind {
	case "task_id":
		return json.Marshal(task.ID)
	case "args":
		if i, err := strconv.Atoi(which); err == nil && i < len(task.Args) {
			return task.Args[i], nil
		}
		return nil, typeError("%s() missing required positional argument %s", task.Name, which)
	}
	if raw, given := task.Kwargs[which]; given {
		return raw, nil
	}
	return nil, typeError("%s() missing required keyword argument: '%s'", task.Name, which)
}

// textOf is a value inside a text: a string without its quotes.
func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
