package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newTopCommand(a *app) *cobra.Command {
	var once bool
	var sel selection
	cmd := &cobra.Command{
		Use: "top", Short: "Watch jobs, workers and queues live on the whole screen.", Args: noArgs,
		Long: `Keys: 1 2 3 or Tab switch between jobs, workers, queues; arrows or j k move; Enter shows a job;
l its log, e explains it, r retries it, c cancels it (asks); / filters, s sorts, p pauses, ? keys, q quits.`,
		Example: `nanoos top
nanoos top --once
nanoos top -q 'state:running engine:qe'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.top(cmd.Context(), sel, once) },
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one snapshot and end")
	sel.flags(a, cmd)
	group(cmd, "Live", "once")
	return cmd
}

// topJobs is how many jobs top knows of; more than fit any screen.
const topJobs = 500

func (a *app) top(ctx context.Context, sel selection, once bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	sel.limit = topJobs
	in, ok := a.io.in.(*os.File)
	interactive := ok && term.IsTerminal(int(in.Fd())) && a.outScreen().tty && !a.data()
	t := &monitor{a: a, c: c, sel: sel, filterText: sel.query}
	if err := t.load(ctx); err != nil {
		return err
	}
	if once || !interactive {
		return t.snapshot()
	}
	return t.live(ctx, in)
}

// monitor is the state of nanoos top. One goroutine owns it.
type monitor struct {
	a   *app
	c   *api.Client
	sel selection

	jobs    []api.Job
	workers []api.WorkerInfo
	queues  []api.QueueInfo
	at      time.Time
	problem string // why what is shown is old

	tab        int
	row        int
	offset     int
	sorted     int
	paused     bool
	filterText string
	trails     map[job.ID][]float64
	panel      *panel
	asking     *question
	message    string
}

// panel is text over the table: a job, its log, the keys.
type panel struct {
	title  string
	lines  []string
	offset int
	job    job.ID
	render func(s screen) []string // of a live panel
}

// question waits for a line or a key at the bottom of the screen.
type question struct {
	prompt string
	text   string
	line   bool // ends with Enter, not with one key
	answer func(text string)
}

var topTabs = []string{"Jobs", "Workers", "Queues"}

var sortings = []struct {
	name string
	less func(a, b *api.Job) int
}{
	{"newest", func(a, b *api.Job) int { return b.CreatedAt.Compare(a.CreatedAt) }},
	{"state", func(a, b *api.Job) int { return stateRank(a) - stateRank(b) }},
	{"name", func(a, b *api.Job) int { return strings.Compare(jobName(a), jobName(b)) }},
	{"running time", func(a, b *api.Job) int { return a.StartedAt.Compare(b.StartedAt) }},
}

// stateRank puts trouble first, then what runs, then what waits, then the rest.
func stateRank(j *api.Job) int {
	switch {
	case attention(j):
		return 0
	case j.State == job.Running:
		return 1
	case !j.State.Terminal():
		return 2
	}
	return 3
}

func (t *monitor) load(ctx context.Context) error {
	doc, err := t.sel.collect(ctx, t.c, t.a.now())
	if err != nil {
		return err
	}
	st, err := t.c.Status(ctx)
	if err != nil {
		return err
	}
	t.jobs, t.workers, t.queues = doc.Items, st.Workers, st.Queues
	t.at, t.problem = t.a.now(), ""
	t.sort()
	for i := range t.jobs {
		t.remember(t.jobs[i].ID, t.jobs[i].Progress)
	}
	return nil
}

func (t *monitor) remember(id job.ID, p *job.Progress) {
	if p == nil || p.Value == nil {
		return
	}
	if t.trails == nil {
		t.trails = map[job.ID][]float64{}
	}
	trail := t.trails[id]
	if len(trail) == 0 || trail[len(trail)-1] != *p.Value {
		trail = append(trail, *p.Value)
		t.trails[id] = trail[max(0, len(trail)-maxTrail):]
	}
}

// sort keeps the cursor on the job it was on.
func (t *monitor) sort() {
	var at job.ID
	if j := t.current(); j != nil {
		at = j.ID
	}
	slices.SortStableFunc(t.jobs, func(a, b api.Job) int { return sortings[t.sorted].less(&a, &b) })
	if i := slices.IndexFunc(t.jobs, func(j api.Job) bool { return j.ID == at }); i >= 0 && t.tab == 0 {
		t.row = i
	}
}

func (t *monitor) current() *api.Job {
	if t.tab != 0 || t.row < 0 || t.row >= len(t.jobs) {
		return nil
	}
	return &t.jobs[t.row]
}

// snapshot prints everything once, for a file or a pipe.
func (t *monitor) snapshot() error {
	a := t.a
	if a.data() {
		return show(a, listing[api.Job]{doc: jobList(t.jobs), rows: t.jobs, columns: jobColumns(), id: jobID})
	}
	s, c := a.outScreen(), a.cells()
	text := t.headline(c) + "\n\n"
	if len(t.jobs) > 0 {
		text += renderTable(c, s, t.jobs, topColumns(), true) + "\n"
	}
	if len(t.workers) > 0 {
		text += renderTable(c, s, t.workers, visible(workerColumns(), "table"), true) + "\n"
	}
	text += renderTable(c, s, t.queues, visible(queueColumns(), "table"), true)
	_, err := fmt.Fprint(a.io.out, text)
	return err
}

// topColumns are the columns of ls with the state as a letter and a word.
func topColumns() []column[api.Job] {
	columns := visible(jobColumns(), "table")
	for i := range columns {
		if columns[i].name == "state" {
			columns[i].cell = func(_ *cells, j *api.Job) string {
				mark := " "
				if attention(j) {
					mark = "!"
				}
				return stateLetter(j) + mark + strings.ToLower(stateWord(j))
			}
		}
	}
	return columns
}

// headline is the whole in one line.
func (t *monitor) headline(c *cells) string {
	counts := map[job.State]int64{}
	for _, q := range t.queues {
		for s, n := range q.Jobs {
			counts[s] += n
		}
	}
	free, all := 0, 0
	for _, w := range t.workers {
		if w.State == "online" {
			free += w.Free.CPUs
			all += w.Offer.CPUs
		}
	}
	return fmt.Sprintf("nanoos %s  %d running  %d queued  %d pending  %d failed  CPUs %d/%d busy",
		t.at.In(c.zone).Format("15:04:05"), counts[job.Running], counts[job.Queued], counts[job.Pending], counts[job.Failed], all-free, all)
}

// live takes the screen over until q, and gives it back whatever happens.
func (t *monitor) live(ctx context.Context, in *os.File) (err error) {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("take over the terminal: %w", err)
	}
	out := t.a.io.out
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	defer func() {
		fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
		err = errors.Join(err, term.Restore(int(in.Fd()), state))
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := readKeys(ctx, in)
	events := (&follower{c: t.c}).stream(ctx)
	resized, stopResize := resizes()
	defer stopResize()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	const stale = 5 * time.Second
	due := time.NewTimer(stale)
	defer due.Stop()
	for {
		if err := t.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case k, open := <-keys:
			if !open || t.key(ctx, k) {
				return nil
			}
		case e, open := <-events:
			if !open {
				events = nil
				continue
			}
			if e.Progress != nil {
				t.advance(e)
			} else {
				due.Reset(150 * time.Millisecond)
			}
		case <-due.C:
			due.Reset(stale)
			if t.paused {
				continue
			}
			if err := t.load(ctx); err != nil && ctx.Err() == nil {
				t.problem = asError(err).Message
			}
		case <-resized:
		case <-tick.C:
		}
	}
}

func (t *monitor) advance(e api.Event) {
	t.remember(e.Job, e.Progress)
	if t.paused {
		return
	}
	for i := range t.jobs {
		if t.jobs[i].ID == e.Job {
			t.jobs[i].Progress = e.Progress
		}
	}
}

// draw writes the whole screen in one go, so it does not flicker.
func (t *monitor) draw() error {
	s := t.a.outScreen()
	c := t.a.cells()
	c.screen = s
	lines := []string{s.paint(bold, s.shorten(t.headline(c), s.width, false)), t.tabLine(s)}
	room := max(s.height-len(lines)-1, 1)
	lines = append(lines, t.body(s, c, room)...)
	for len(lines) < s.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(s.height-1, 1)], t.footer(s))
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := fmt.Fprint(t.a.io.out, b.String())
	return err
}

func (t *monitor) tabLine(s screen) string {
	var parts []string
	for i, name := range topTabs {
		text := fmt.Sprintf("%d %s", i+1, name)
		if i == t.tab {
			parts = append(parts, s.paint("7", "["+text+"]"))
		} else {
			parts = append(parts, " "+text+" ")
		}
	}
	line := strings.Join(parts, " ") + "   by " + sortings[t.sorted].name
	if t.filterText != "" {
		line += "   filter: " + s.shorten(oneLine(t.filterText), 24, false)
	}
	if t.paused {
		line += "   " + s.paint(yellow, "paused")
	}
	return line
}

func (t *monitor) body(s screen, c *cells, room int) []string {
	if t.panel != nil {
		return t.panel.view(s, room)
	}
	s.width -= 2 // the cursor's column
	var text string
	switch t.tab {
	case 0:
		text = renderTable(c, s, t.jobs, topColumns(), true)
	case 1:
		text = renderTable(c, s, t.workers, visible(workerColumns(), "table"), true)
	default:
		text = renderTable(c, s, t.queues, visible(queueColumns(), "table"), true)
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	head, rows := lines[0], lines[1:]
	if len(rows) == 0 {
		return []string{head, "", "  nothing here"}
	}
	t.row = min(max(t.row, 0), len(rows)-1)
	room--
	t.offset = min(t.offset, t.row)
	t.offset = max(t.offset, t.row-room+1)
	out := []string{"  " + s.shortenPainted(head, s.width)}
	for i := t.offset; i < min(len(rows), t.offset+room); i++ {
		mark := "  "
		if i == t.row {
			mark = s.paint(bold, s.glyph("▸", ">")) + " "
		}
		out = append(out, mark+s.shortenPainted(rows[i], s.width))
	}
	return out
}

func (p *panel) view(s screen, room int) []string {
	if p.render != nil {
		p.lines = p.render(s)
	}
	p.offset = max(0, min(p.offset, len(p.lines)-(room-2)))
	out := []string{s.paint(bold, s.shorten(p.title, s.width, false)), ""}
	for _, line := range p.lines[p.offset:min(len(p.lines), p.offset+room-2)] {
		out = append(out, s.shortenPainted(line, s.width))
	}
	return out
}

func (t *monitor) footer(s screen) string {
	switch {
	case t.asking != nil:
		return s.paint(bold, t.asking.prompt) + t.asking.text + s.glyph("▏", "_")
	case t.message != "":
		return s.paint(yellow, s.shorten(oneLine(t.message), s.width, false))
	case t.problem != "":
		return s.paint(red, s.shorten(oneLine(t.problem+"; shown is "+t.at.Format("15:04:05")), s.width, false))
	case t.panel != nil:
		return s.paint(dim, "Esc back  j k scroll  l log  e explain  q quit")
	}
	return s.paint(dim, s.shorten("Enter details  l log  e explain  r retry  c cancel  / filter  ? keys  q quit", s.width, false))
}
