package wire

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

// python is a program with the real Celery.
type python struct {
	t    *testing.T
	in   io.WriteCloser
	out  *bufio.Reader
	errs *strings.Builder
}

// startPython starts testdata/client.py with a version of Celery; scripts/python.sh
// installs them.
func startPython(t *testing.T, version, url string) *python {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "build", "python", version, "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		const missing = "the Python clients are not installed: run scripts/python.sh"
		if os.Getenv("CI") == "" {
			t.Skip("SKIPPED: " + missing)
		}
		t.Fatal(missing)
	}
	cmd := exec.CommandContext(t.Context(), path, filepath.Join("testdata", "client.py"), url)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "TZ=UTC")
	p := &python{t: t, errs: new(strings.Builder)}
	cmd.Stderr = p.errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	cmd.WaitDelay = 10 * time.Second
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = cmd.Wait() // killed with the test's context, or ended by its input
	})
	return p
}

// do calls a function of the program.
func (p *python) do(call ...any) any {
	p.t.Helper()
	line, err := json.Marshal(call)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatalf("ask python: %v\n%s", err, p.errs)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("read python's answer to %s: %v\n%s", line, err, p.errs)
	}
	text, err := strict(answer)
	if err != nil {
		p.t.Fatalf("python's answer %s: %v", answer, err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func TestTheRealCeleryUnderstandsUsAndWeIt(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"debian", "newest"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Options{})
			c := connected(t, Options{URL: server.URL(2)})
			p := startPython(t, version, server.URL(2))

			t.Log("arguments that JSON has no form for")
			p.do("send")
			odd := claim(t, c, 10, "q")
			if len(odd) != 1 || odd[0].Fault != nil {
				t.Fatalf("%+v came", odd)
			}
			task := odd[0].Task
			var got []string
			for _, a := range task.Args {
				got = append(got, string(a))
			}
			want := []string{"null", "null", "12345678901234567890123", `"\ufffd\u00e9"`, `"00000000-0000-0000-0000-000000000007"`, `"1.50"`}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if task.ID != "odd" || task.Priority != 7 || odd[0].Key != c.listKey("q", 6) || !strings.HasPrefix(string(task.RawArgs), "[NaN, -Infinity, 123") {
				t.Errorf("the task is %+v", task)
			}

			t.Log("a message that kombu gives back")
			p.do("restore")
			again := claim(t, c, 10, "q")
			if len(again) != 1 || again[0].Task.ID != "odd" || !again[0].Task.Redelivered || again[0].Fault != nil {
				t.Errorf("%+v came", again)
			}
			if err := c.Ack(t.Context(), again); err != nil {
				t.Fatal(err)
			}

			t.Log("a message that we give back")
			p.do("chain")
			first := claim(t, c, 10, "q")
			if err := c.Requeue(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			m, _ := p.do("get", "q").(map[string]any)
			if m == nil || m["headers"].(map[string]any)["redelivered"] != true || m["headers"].(map[string]any)["id"] != "c1" {
				t.Errorf("kombu got %v", m)
			}

			t.Log("a chain and its results")
			answer(t, c, answered(Succeeded(2), &first[0].Task))
			m, _ = p.do("get", "q").(map[string]any)
			if m == nil || m["correlation_id"] != "c2" || m["routing_key"] != "q" {
				t.Fatalf("kombu got %v", m)
			}
			payload := m["payload"].([]any)
			if d := cmp.Diff([]any{2.0, 10.0}, payload[0]); d != "" {
				t.Error(d)
			}
			if chain := payload[2].(map[string]any)["chain"].([]any); len(chain) != 1 || chain[0].(map[string]any)["options"].(map[string]any)["task_id"] != "c3" {
				t.Errorf("the rest of the chain is %v", chain)
			}
			r := p.do("result", "c1").(map[string]any)
			if r["state"] != "SUCCESS" || r["result"] != 2.0 || !cmp.Equal(r["children"], []any{"c2"}) {
				t.Errorf("the result is %v", r)
			}
			fail := Failed(&Exception{Type: "ValueError", Module: "builtins", Message: []any{"bad input"}, Traceback: "Traceback"})
			answer(t, c, answered(fail, asked(t, "failed", "", "null")), answered(Revoked("expired"), asked(t, "revoked", "", "null")))
			for id, want := range map[string][2]string{"failed": {"FAILURE", "ValueError('bad input')"}, "revoked": {"REVOKED", "TaskRevokedError('expired')"}} {
				if r := p.do("result", id).(map[string]any); r["state"] != want[0] || r["result"] != want[1] || r["date_done"] == "None" {
					t.Errorf("the result is %v, want %v", r, want)
				}
			}
		})
	}
}
