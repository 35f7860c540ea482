package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nano-os/nanoos/internal/api"
)

// readKeys names the keys that come from a raw terminal. Its goroutine ends
// with the process: a read of a terminal cannot be called back.
func readKeys(ctx context.Context, in io.Reader) <-chan string {
	keys := make(chan string)
	go func() {
		defer close(keys)
		buf := make([]byte, 64)
		for {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			for _, k := range splitKeys(string(buf[:n])) {
				select {
				case keys <- k:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return keys
}

var keySequences = []struct{ bytes, name string }{
	{"\x1b[A", "up"}, {"\x1b[B", "down"}, {"\x1bOA", "up"}, {"\x1bOB", "down"}, {"\x1b[C", "right"}, {"\x1b[D", "left"},
	{"\x1b[5~", "pageup"}, {"\x1b[6~", "pagedown"}, {"\x1b[H", "home"}, {"\x1b[F", "end"}, {"\x1b[Z", "left"},
	{"\x1b", "esc"}, {"\r", "enter"}, {"\n", "enter"}, {"\t", "right"}, {"\x7f", "erase"}, {"\b", "erase"}, {"\x03", "interrupt"},
}

// splitKeys takes what one read gave apart.
func splitKeys(s string) []string {
	var out []string
next:
	for s != "" {
		for _, seq := range keySequences {
			if rest, ok := strings.CutPrefix(s, seq.bytes); ok {
				out, s = append(out, seq.name), rest
				continue next
			}
		}
		r := []rune(s)[0]
		out, s = append(out, string(r)), s[len(string(r)):]
	}
	return out
}

// resizes tells when the terminal has another size.
func resizes() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	return ch, func() { signal.Stop(ch) }
}

// key acts on a key and reports whether it ends top.
func (t *monitor) key(ctx context.Context, k string) (quit bool) {
	t.message = ""
	if k == "interrupt" {
		return true
	}
	if t.asking != nil {
		t.answerKey(k)
		return false
	}
	switch k {
	case "q":
		return true
	case "esc":
		t.panel = nil
	case "1", "2", "3":
		t.show(int(k[0] - '1'))
	case "right":
		t.show((t.tab + 1) % len(topTabs))
	case "left":
		t.show((t.tab + len(topTabs) - 1) % len(topTabs))
	case "up", "k":
		t.move(-1)
	case "down", "j":
		t.move(1)
	case "pageup":
		t.move(-10)
	case "pagedown", " ":
		t.move(10)
	case "home", "g":
		t.move(-1 << 20)
	case "end", "G":
		t.move(1 << 20)
	case "s":
		t.sorted = (t.sorted + 1) % len(sortings)
		t.sort()
	case "p":
		t.paused = !t.paused
	case "?":
		t.panel = &panel{title: "Keys", lines: topHelp}
	case "/":
		t.asking = &question{prompt: "filter: ", text: t.filterText, line: true, answer: func(text string) { t.filter(ctx, text) }}
	default:
		t.jobKey(ctx, k)
	}
	return false
}

var topHelp = []string{
	"  1 2 3, Tab     jobs, workers, queues",
	"  up down, j k   move; PgUp PgDn, g G further",
	"  Enter          the job in full",
	"  l              its log          e   explain it",
	"  r              retry it         c   cancel it (asks)",
	"  /              filter: state:failed label:k=v text",
	"  s              sort             p   pause",
	"  Esc            back             q   quit",
	"",
	"  Q queued  B blocked  H held  W retrying  R running  C cancelling",
	"  L contact lost  S succeeded  F failed  X cancelled  Z quarantined",
	"  !  needs a look",
}

func (t *monitor) show(tab int) {
	t.tab, t.row, t.offset, t.panel = tab, 0, 0, nil
}

func (t *monitor) move(n int) {
	if t.panel != nil {
		t.panel.offset = max(0, t.panel.offset+n)
		return
	}
	t.row = max(0, t.row+n) // the end is found when the table is drawn
}

func (t *monitor) filter(ctx context.Context, text string) {
	if _, err := parseFilter(text, t.a.now()); err != nil {
		e := asError(err)
		t.message = e.Message + ". " + e.Fix
		return
	}
	t.filterText, t.sel.query = text, text
	t.report(t.load(ctx))
}

func (t *monitor) report(err error) {
	if err != nil {
		e := asError(err)
		t.message = strings.TrimSuffix(e.Message+": "+e.Why, ": ")
	}
}

func (t *monitor) answerKey(k string) {
	q := t.asking
	switch {
	case k == "esc":
		t.asking = nil
	case !q.line:
		t.asking = nil
		q.answer(k)
	case k == "enter":
		t.asking = nil
		q.answer(q.text)
	case k == "erase":
		r := []rune(q.text)
		q.text = string(r[:max(0, len(r)-1)])
	case len([]rune(k)) == 1:
		q.text += k
	}
}

// jobKey acts on the job under the cursor.
func (t *monitor) jobKey(ctx context.Context, k string) {
	j := t.current()
	if j == nil {
		return
	}
	ref, title := string(j.ID), jobName(j)+"  "+shortID(j.ID)
	switch k {
	case "enter":
		t.panel = &panel{title: title, job: j.ID, render: func(s screen) []string { return t.detailLines(s, ref) }}
	case "l":
		lines, err := tailLog(ctx, t.c, ref)
		t.report(err)
		t.panel = &panel{title: title + "  output", lines: lines, offset: 1 << 20}
	case "e":
		e, err := t.c.Explain(ctx, ref)
		if err != nil {
			t.report(err)
			return
		}
		t.panel = &panel{title: title, lines: explainLines(e)}
	case "r":
		_, err := t.c.Retry(ctx, ref, "")
		t.message = title + " starts again"
		t.report(err)
	case "c":
		t.asking = &question{prompt: "cancel " + title + "? [y/N] ", answer: func(text string) {
			if text != "y" && text != "Y" {
				return
			}
			_, err := t.c.Cancel(ctx, ref, "")
			t.message = title + " is being cancelled"
			t.report(err)
		}}
	}
}

// detailLines are a job in full, with the way of its leading quantity.
func (t *monitor) detailLines(s screen, ref string) []string {
	var j *api.Job
	for i := range t.jobs {
		if string(t.jobs[i].ID) == ref {
			j = &t.jobs[i]
		}
	}
	if j == nil {
		return []string{"it is no longer in the list"}
	}
	c := t.a.cells()
	c.screen = s
	fields := []field{
		{name: "id", value: string(j.ID)}, {name: "state", value: stateWord(j), tone: stateTone(j)},
		{name: "verdict", value: verdictWords(j.State, j.Verdict), tone: verdictTone(j.Verdict)},
		{name: "message", value: j.Message}, {name: "engine", value: j.Engine}, {name: "queue", value: j.Queue},
		{name: "worker", value: j.Worker}, {name: "attempt", value: attemptText(j)}, {name: "resources", value: resourceText(j)},
		{name: "submitted", value: c.moment(j.CreatedAt)}, {name: "ended", value: c.moment(j.EndedAt)},
	}
	if j.Failure != nil {
		fields = append(fields, field{name: "failure", value: j.Failure.Code + ": " + j.Failure.Message, tone: red})
	}
	var lines []string
	if p := j.Progress; p != nil && !j.State.Terminal() {
		lines = append(lines, fmt.Sprintf("%s  %s", bar(s, p.Fraction, 30), c.progress(p)), "")
	}
	lines = append(lines, strings.Split(strings.TrimRight(renderFields(s, append(fields, c.summaryFields(j.Summary)...)), "\n"), "\n")...)
	if trail := t.trails[j.ID]; len(trail) > 1 {
		lines = append(append(lines, ""), strings.Split(plot(s, nil, trail, s.width-2, 6), "\n")...)
	}
	return lines
}

// tailLog is the end of a job's output.
func tailLog(ctx context.Context, c *api.Client, ref string) ([]string, error) {
	const lines, bytes = 200, 256 << 10
	r, err := c.Logs(ctx, ref, api.LogQuery{Tail: lines})
	if err != nil {
		return []string{"no output"}, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, bytes))
	var out []string
	for line := range strings.Lines(string(raw)) {
		out = append(out, oneLine(strings.TrimRight(line, "\r\n")))
	}
	return out, err
}

func explainLines(e api.Explanation) []string {
	out := []string{oneLine(e.Summary)}
	add := func(name, text string) {
		if text != "" {
			out = append(out, "  "+name+"  "+oneLine(text))
		}
	}
	for _, r := range e.Waiting {
		add("why:", r.Message)
		add("fix:", r.Fix)
	}
	if f := e.Failure; f != nil {
		add("failure:", f.Message)
		add("code:", f.Code+" ("+string(f.Class)+")")
		for _, ev := range f.Evidence {
			add("see:", fmt.Sprintf("%s:%d %s", ev.File, ev.Line, ev.Text))
		}
		add("fix:", f.Fix)
	}
	add("budgets:", e.Budgets)
	for _, t := range e.Attempts {
		add("attempt", fmt.Sprintf("%d on %s: %s", t.Number, t.Worker, orDefault(t.Outcome, "running")))
	}
	if len(e.Commands) > 0 {
		out = append(out, "", "what to do")
		for _, command := range e.Commands {
			out = append(out, "  "+oneLine(command))
		}
	}
	return out
}
