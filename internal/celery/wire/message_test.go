package wire

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// delayed is what run_dummy_job.delay("job-42") of Celery 5.2.6 stores.
const delayed = `{"body": "W1siam9iLTQyIl0sIHt9LCB7ImNhbGxiYWNrcyI6IG51bGwsICJlcnJiYWNrcyI6IG51bGwsICJjaGFpbiI6IG51bGwsICJjaG9yZCI6IG51bGx9XQ==", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "simapp.run_dummy_job", "id": "59716d71-a660-4162-b298-206ae30d5c9b", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "59716d71-a660-4162-b298-206ae30d5c9b", "parent_id": null, "argsrepr": "('job-42',)", "kwargsrepr": "{}", "origin": "gen27329@vm", "ignore_result": false}, "properties": {"correlation_id": "59716d71-a660-4162-b298-206ae30d5c9b", "reply_to": "90fd199d-b03d-3725-8318-5a596942f6da", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "default"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "87092bb6-21b5-49b1-b5d1-ef26e87b0907"}}`

// sent is a message with these headers, properties and body.
func sent(headers, properties string, body []byte) []byte {
	return fmt.Appendf(nil, `{"body": %q, "content-encoding": "utf-8", "content-type": "application/json", "headers": {%s}, "properties": {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "default"}, "delivery_tag": "tag"%s}}`,
		base64.StdEncoding.EncodeToString(body), headers, properties)
}

func decoded(t *testing.T, raw []byte) Task {
	t.Helper()
	task, fault := Decode(raw)
	if fault != nil {
		t.Fatalf("decode %.300s: %s", raw, fault.Reason)
	}
	return task
}

func TestAMessageOfCeleryIsATask(t *testing.T) {
	t.Parallel()
	want := Task{
		ID: "59716d71-a660-4162-b298-206ae30d5c9b", Name: "simapp.run_dummy_job", Args: []json.RawMessage{json.RawMessage(`"job-42"`)},
		Kwargs: map[string]json.RawMessage{}, RawArgs: json.RawMessage(`["job-42"]`), RawKwargs: json.RawMessage(`{}`),
		ArgsRepr: "('job-42',)", KwargsRepr: "{}", RootID: "59716d71-a660-4162-b298-206ae30d5c9b",
		ReplyTo: "90fd199d-b03d-3725-8318-5a596942f6da", CorrelationID: "59716d71-a660-4162-b298-206ae30d5c9b", RoutingKey: "default",
	}
	if d := cmp.Diff(want, decoded(t, []byte(delayed)), cmp.AllowUnexported(Signature{})); d != "" {
		t.Error(d)
	}
}

func TestCelery9_ArgumentsAreKeptAsTheyWereSent(t *testing.T) {
	t.Parallel()
	const args = `[NaN, -Infinity, 12345678901234567890123, "\u00e9\udc80", 1.10]`
	task := decoded(t, sent(`"task": "t", "id": "i"`, "", []byte(`[`+args+`, {"k": Infinity},  null]`)))
	if string(task.RawArgs) != args || string(task.RawKwargs) != `{"k": Infinity}` {
		t.Errorf("the arguments are %s and %s", task.RawArgs, task.RawKwargs)
	}
	var texts []string
	for _, a := range task.Args {
		texts = append(texts, string(a))
	}
	if d := cmp.Diff([]string{"null", "null", "12345678901234567890123", `"\u00e9\ufffd"`, "1.10"}, texts); d != "" {
		t.Error(d)
	}
	if want := "(nan, -inf, 12345678901234567890123, 'é\ufffd', 1.1)"; task.ArgsRepr != want {
		t.Errorf("printed they are %s, want %s", task.ArgsRepr, want)
	}
}

func TestCelery8_CompressedMessages(t *testing.T) {
	t.Parallel()
	body := []byte(`[["job-42"], {}, null]`)
	pack := func(open func(io.Writer) io.WriteCloser) []byte {
		var b bytes.Buffer
		w := open(&b)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	bz2, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWbMiiBoAAAUbgFAGFAAAChAVggogADFMABNCE9TIeowgRtXwkux9IFRNC/i7kinChIWZFEDQ")
	if err != nil {
		t.Fatal(err)
	}
	for how, packed := range map[string][]byte{
		"application/x-gzip": pack(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }), // what Celery calls so
		"gzip":               pack(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		"application/x-bz2":  bz2,
	} {
		task := decoded(t, sent(`"task": "t", "id": "i", "compression": "`+how+`"`, "", packed))
		if len(task.Args) != 1 || string(task.Args[0]) != `"job-42"` {
			t.Errorf("%s: the arguments are %s", how, task.Args)
		}
	}
}

func TestCelery11And12_OldAndMinimalMessages(t *testing.T) {
	t.Parallel()
	old := decoded(t, sent("", `, "priority": 20`, []byte(`{"task": "t", "id": "i", "args": [NaN], "kwargs": {"a": 1}, "taskset": "g", "retries": 2, "eta": "2026-11-23T07:50:39.388505+00:00", "expires": null, "utc": true, "callbacks": null, "errbacks": null, "timelimit": [3600, 3300.5], "chord": null}`)))
	if old.ID != "i" || old.Name != "t" || old.Group != "g" || old.Retries != 2 || old.Priority != 20 || string(old.RawArgs) != "[NaN]" || string(old.Kwargs["a"]) != "1" ||
		old.HardLimit != 3600 || old.SoftLimit != 3300.5 || !old.ETA.Equal(time.Date(2026, 11, 23, 7, 50, 39, 388505000, time.UTC)) {
		t.Errorf("the old task is %+v", old)
	}
	for _, body := range []string{`[[], {}, null]`, `null`, `[null, null, {}]`} {
		least := decoded(t, sent(`"task": "t", "id": "i"`, "", []byte(body)))
		if least.ID != "i" || least.RootID != "i" || len(least.Args) != 0 || string(least.RawArgs) != "[]" || string(least.RawKwargs) != "{}" {
			t.Errorf("%s: the task is %+v", body, least)
		}
	}
	literal := []byte(`{"body": "[[1], {}, null]", "headers": {"task": "t", "id": "i"}, "properties": {"body_encoding": null, "delivery_tag": "x", "delivery_info": {}}}`)
	if task := decoded(t, literal); string(task.RawArgs) != "[1]" {
		t.Errorf("a body without an encoding has the arguments %s", task.RawArgs)
	}
}

func TestTimesOfCelery(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 11, 23, 7, 50, 39, 0, time.UTC)
	for _, text := range []string{`"2026-11-23T07:50:39+00:00"`, `"2026-11-23T07:50:39Z"`, `"2026-11-23T07:50:39"`, `"2026-11-23T09:50:39+02:00"`, `"2026-11-23 07:50:39"`,
		`{"__type__": "datetime", "__value__": "2026-11-23T07:50:39+00:00"}`} {
		if at, err := moment(json.RawMessage(text)); err != nil || !at.Equal(want) {
			t.Errorf("moment(%s) = %s, %v", text, at, err)
		}
	}
	for _, text := range []string{`"tomorrow"`, `17`, `"2026-13-01T00:00:00"`, `{}`} {
		if at, err := moment(json.RawMessage(text)); err == nil {
			t.Errorf("moment(%s) = %s, want an error", text, at)
		}
	}
}

func TestF29_MalformedMessagesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	good, null := []byte(`[[], {}, null]`), []byte("null")
	ids := `"task": "t", "id": "i"`
	many := `[[], {}, {"callbacks": [` + strings.Repeat(`{"task": "t"},`, maxCalls) + `{"task": "t"}]}]`
	for name, c := range map[string]struct {
		raw       []byte
		id, class string // of the exception that the sender is told
	}{
		"not JSON":           {[]byte("hello"), "", ""},
		"no properties":      {[]byte(`{"body": "", "headers": {"task": "t", "id": "i"}}`), "", ""},
		"too long":           {bytes.Repeat([]byte(" "), maxMessage+1), "", ""},
		"no base64":          {[]byte(strings.Replace(string(sent(ids, "", good)), base64Text(good), "!!", 1)), "i", "DecodeError"},
		"body not JSON":      {sent(ids, "", []byte("{")), "i", "DecodeError"},
		"body of two":        {sent(ids, "", []byte("[[], {}]")), "i", "InvalidTaskError"},
		"args no list":       {sent(ids, "", []byte("[1, {}, null]")), "i", "InvalidTaskError"},
		"kwargs no object":   {sent(ids, "", []byte("[[], [], null]")), "i", "InvalidTaskError"},
		"eta no time":        {sent(ids+`, "eta": "soon"`, "", good), "i", "InvalidTaskError"},
		"expires no time":    {sent(ids+`, "expires": "soon"`, "", good), "i", "InvalidTaskError"},
		"no id":              {sent(`"task": "t"`, "", good), "", ""},
		"id with blanks":     {sent(`"task": "t", "id": "a b"`, "", good), "", ""},
		"id too long":        {sent(`"task": "t", "id": "`+strings.Repeat("x", 256)+`"`, "", good), "", ""},
		"id with controls":   {sent(`"task": "t", "id": "a\u0000b"`, "", good), "", ""},
		"name too long":      {sent(`"id": "i", "task": "`+strings.Repeat("x", 256)+`"`, "", good), "i", "InvalidTaskError"},
		"no task":            {sent(`"id": "i"`, "", null), "i", ""},
		"too deep":           {sent(ids, "", []byte("["+strings.Repeat("[", 70)+strings.Repeat("]", 70)+", {}, null]")), "i", "DecodeError"},
		"pickle":             {[]byte(strings.Replace(string(sent(ids, "", good)), "application/json", "application/x-python-serialize", 1)), "i", "ContentDisallowed"},
		"too many callbacks": {sent(ids, "", []byte(many)), "i", "InvalidTaskError"},
		"no compression":     {sent(ids+`, "compression": "application/zstd"`, "", good), "i", "DecodeError"},
		"bomb":               {sent(ids+`, "compression": "application/x-gzip"`, "", bomb(t)), "i", "DecodeError"},
	} {
		task, fault := Decode(c.raw)
		if fault == nil || fault.Reason == "" || task.ID != c.id {
			t.Errorf("%s: the task %q, the fault %+v; want the id %q", name, task.ID, fault, c.id)
			continue
		}
		if class := fault.Exception; (class == nil) != (c.class == "") || class != nil && class.Type != c.class {
			t.Errorf("%s: the sender is told %+v, want %q", name, class, c.class)
		}
		if len(fault.Reason) > 1000 {
			t.Errorf("%s: the reason has %d bytes", name, len(fault.Reason))
		}
	}
}

// bomb unpacks to more than a message may have.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(bytes.Repeat([]byte("["), 3*maxMessage)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSignaturesArePassedOnByteForByte(t *testing.T) {
	t.Parallel()
	const link = `{"task": "simapp.add", "args": [12345678901234567890123], "kwargs": {}, "options": {"task_id": "x", "stamped_headers": ["a"], "a": 1}, "subtask_type": null, "immutable": false, "chord_size": null}`
	task := decoded(t, sent(`"task": "t", "id": "i"`, "", []byte(`[[], {}, {"callbacks": null, "errbacks": null, "chain": [`+link+`], "chord": null}]`)))
	raw, err := appendJSON(nil, task.Embed.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(link)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(compact.String(), string(raw)); d != "" {
		t.Error(d)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(delayed))
	f.Add(sent(`"task": "t", "id": "i", "eta": "x"`, `, "priority": 1e300`, []byte(`[[NaN], {"a": {"__type__": "uuid", "__value__": 1}}, {"chain": [{"options": {"link": {}}}]}]`)))
	f.Add(sent("", "", []byte(`{"task": "t", "id": "i", "args": [], "kwargs": {}}`)))
	f.Add([]byte(`{"body": "[[],{},{}]", "headers": {"id": "i", "task": "t"}, "properties": {}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		task, fault := Decode(raw)
		if task.ID != "" && !goodID(task.ID) {
			t.Fatalf("the id is %q", task.ID)
		}
		if fault != nil {
			return
		}
		if !goodID(task.ID) || task.Name == "" || task.RawArgs == nil || task.RawKwargs == nil {
			t.Fatalf("the task is %+v", task)
		}
		for _, arg := range task.Args {
			if !json.Valid(arg) {
				t.Fatalf("the argument %q is no JSON", arg)
			}
		}
		c := &Client{opt: Options{}}
		c.opt.complete()
		for _, s := range [][]Signature{task.Embed.Callbacks, task.Embed.Chain} {
			for i, one := range s {
				if _, err := c.message(call{Signature: one, id: one.id(task.ID, "x", i), parent: &task}); err != nil {
					t.Fatalf("a call that follows cannot be written: %v", err)
				}
			}
		}
		if _, again := Decode(redelivered(raw)); again != nil {
			t.Fatalf("marked as given before it is no task: %s", again.Reason)
		}
	})
}
