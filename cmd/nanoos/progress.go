package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// area is a block of lines on a terminal that is redrawn in place.
type area struct {
	w     io.Writer
	lines int
}

// draw replaces the block. The lines must fit the width of the terminal.
func (a *area) draw(lines []string) error {
	var b strings.Builder
	if a.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", a.lines)
	}
	for _, line := range lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	a.lines = len(lines)
	_, err := io.WriteString(a.w, b.String())
	return err
}

// newView chooses how progress is shown: a bar on a terminal, lines elsewhere.
func (a *app) newView(style string) (view, error) {
	s := a.errScreen()
	if style == "auto" {
		style = "plain"
		if s.tty {
			style = "bar"
		}
		if a.opt.quiet {
			style = "none"
		}
	}
	switch style {
	case "bar":
		if !s.tty {
			return nil, usage("--progress plain", "a bar needs a terminal on standard error")
		}
		return &barView{a: a, area: area{w: a.io.err}}, nil
	case "plain":
		return &plainView{a: a, told: map[job.ID]string{}}, nil
	case "none":
		return noView{}, nil
	}
	return nil, usage("one of: auto, bar, plain, none", "there is no progress style %q", style)
}

type noView struct{}

func (noView) show(*follower) {}
func (noView) close()         {}

// plainView writes a line for every change of state, and one a minute to show
// that it lives.
type plainView struct {
	a    *app
	told map[job.ID]string
	last time.Time
	away bool
}

const heartbeat = time.Minute

func (v *plainView) show(f *follower) {
	now := v.a.now()
	c := v.a.cells()
	c.relative = false
	for _, j := range f.jobs {
		mark := fmt.Sprint(stateWord(&j.Job), j.Attempt)
		if v.told[j.ID] == mark {
			continue
		}
		v.told[j.ID] = mark
		v.last = now
		text := c.detail(&j.Job)
		if j.State == job.Running && j.Attempt > 1 {
			text = strings.TrimSpace(fmt.Sprintf("attempt %d  %s", j.Attempt, text))
		}
		v.a.note("%s", strings.TrimRight(fmt.Sprintf("%s  %s  %s  %s  %s", c.when(now), shortID(j.ID), jobName(&j.Job), stateWord(&j.Job), text), " "))
	}
	if f.away != v.away {
		v.away = f.away
		if f.away {
			v.a.note("%s  the server does not answer; waiting for it", c.when(now))
		}
	}
	if now.Sub(v.last) < heartbeat {
		return
	}
	v.last = now
	if len(f.jobs) == 1 {
		v.a.note("%s  %s  %s", c.when(now), shortID(f.jobs[0].ID), c.detail(&f.jobs[0].Job))
	} else {
		v.a.note("%s  %s", c.when(now), tally(f))
	}
}

func (v *plainView) close() {}

// tally is "3 of 50 ended, 1 failed, 5 running".
func tally(f *follower) string {
	done, failed, running := 0, 0, 0
	for _, j := range f.jobs {
		switch {
		case ended(&j.Job):
			done++
			if j.State != job.Completed && j.State != job.Cancelled {
				failed++
			}
		case j.State == job.Running:
			running++
		}
	}
	text := fmt.Sprintf("%d of %d ended", done, len(f.jobs))
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if running > 0 {
		text += fmt.Sprintf(", %d running", running)
	}
	return text
}

// barView draws one bar for the whole, and with several jobs up to five of
// those that run.
type barView struct {
	a     *app
	area  area
	drawn time.Time
}

// redraw is the least time between two drawings: faster is only flicker.
const redraw = 50 * time.Millisecond

func (v *barView) show(f *follower) {
	now := v.a.now()
	if now.Sub(v.drawn) < redraw && !f.allEnded() {
		return
	}
	v.drawn = now
	s := v.a.errScreen()
	c := v.a.cells()
	c.screen, c.relative = s, true
	var lines []string
	if len(f.jobs) == 1 {
		lines = []string{v.jobLine(s, c, f.jobs[0], "", width(jobName(&f.jobs[0].Job)))}
	} else {
		lines = v.manyLines(s, c, f)
	}
	if f.away {
		lines = append(lines, s.paint(yellow, "the server does not answer; waiting for it"))
	}
	// A terminal that cannot be written to is about to end us anyway.
	_ = v.area.draw(lines)
}

func (v *barView) manyLines(s screen, c *cells, f *follower) []string {
	whole := 0.0
	var running []*followed
	for _, j := range f.jobs {
		switch {
		case ended(&j.Job):
			whole++
		case j.State == job.Running:
			running = append(running, j)
			if j.Progress != nil {
				whole += j.Progress.Fraction
			}
		}
	}
	slices.SortStableFunc(running, func(a, b *followed) int { return a.StartedAt.Compare(b.StartedAt) })
	fraction := whole / float64(len(f.jobs))
	counts := tally(f)
	lines := []string{fmt.Sprintf("%s %3d %%  %s", bar(s, fraction, max(4, min(30, s.width-width(counts)-9))), int(fraction*100), counts)}
	running = running[:min(len(running), 5)]
	longest := 0
	for _, j := range running {
		longest = max(longest, width(jobName(&j.Job)))
	}
	for _, j := range running {
		lines = append(lines, v.jobLine(s, c, j, "  ", longest))
	}
	return lines
}

// jobLine is name, bar, percent, stage, leading quantity, time.
func (v *barView) jobLine(s screen, c *cells, j *followed, indent string, nameWidth int) string {
	nameWidth = min(nameWidth, 20)
	name := indent + pad(s.shorten(oneLine(jobName(&j.Job)), nameWidth, true), nameWidth)
	if j.State != job.Running {
		text := s.shorten(oneLine(strings.TrimSpace(stateWord(&j.Job)+"  "+c.detail(&j.Job))), max(10, s.width-width(name)-3), false)
		return name + "  " + s.paint(stateTone(&j.Job), text)
	}
	fraction, rest := 0.0, "starting"
	if j.Progress != nil {
		fraction = j.Progress.Fraction
		rest = strings.TrimSpace(strings.TrimPrefix(c.progress(j.Progress), fmt.Sprintf("%d %%", int(fraction*100))))
	}
	if j.Attempt > 1 {
		rest = fmt.Sprintf("attempt %d  %s", j.Attempt, rest)
	}
	took := clock(c.ranFor(&j.Job))
	room := s.width - width(name) - width(took) - 6 - 7 - 1
	barWidth := min(20, max(6, room/3))
	return fmt.Sprintf("%s  %s %3d %%  %s  %s", name, bar(s, fraction, barWidth), int(fraction*100),
		pad(s.shorten(oneLine(rest), max(4, room-barWidth), false), max(4, room-barWidth)), s.paint(dim, took))
}

// close takes the bar away; what follows says how it ended.
func (v *barView) close() { _ = v.area.draw(nil) }

// bar is a line of n cells filled to a fraction.
func bar(s screen, fraction float64, n int) string {
	full := int(min(max(fraction, 0), 1) * float64(n))
	if s.unicode {
		return s.paint(green, strings.Repeat("█", full)) + s.paint(dim, strings.Repeat("░", n-full))
	}
	return strings.Repeat("#", full) + strings.Repeat(".", n-full)
}

// watchView shows one job in some lines: progress, the way of the leading
// quantity, and what happened last.
type watchView struct {
	a     *app
	area  area
	drawn time.Time
}

func (v *watchView) show(f *follower) {
	now := v.a.now()
	if now.Sub(v.drawn) < redraw && !f.allEnded() {
		return
	}
	v.drawn = now
	s := v.a.outScreen()
	c := v.a.cells()
	j := f.jobs[0]
	lines := []string{
		s.paint(bold, s.shorten(oneLine(jobName(&j.Job)), s.width-20, true)) + "  " + s.paint(dim, shortID(j.ID)),
		s.paint(stateTone(&j.Job), s.shorten(watchState(c, &j.Job), s.width-1, false)),
	}
	if p := j.Progress; p != nil {
		stage := s.shorten(oneLine(p.Stage), max(8, s.width-42), false)
		lines = append(lines, fmt.Sprintf("%s %3d %%  %s", bar(s, p.Fraction, 30), int(p.Fraction*100), stage))
		if p.Quantity != "" && p.Value != nil {
			text := c.withUnit(p.Quantity, *p.Value)
			lines = append(lines, text+"  "+s.paint(cyan, s.sparkline(j.trail, max(0, s.width-width(text)-4))))
		}
	}
	for _, e := range f.events[max(0, len(f.events)-6):] {
		text := fmt.Sprintf("%s  %s  %s", e.At.In(c.zone).Format("15:04:05"), pad(string(e.Kind), 16), dataText(e.Data))
		lines = append(lines, s.paint(dim, s.shorten(oneLine(text), s.width-1, false)))
	}
	if f.away {
		lines = append(lines, s.paint(yellow, "the server does not answer; waiting for it"))
	}
	_ = v.area.draw(lines)
}

func (v *watchView) close() { _ = v.area.draw(nil) }

func watchState(c *cells, j *api.Job) string {
	text := stateWord(j)
	if j.State == job.Running {
		text += " on " + j.Worker
	}
	if j.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", j.Attempt)
	}
	if d := c.ranFor(j); d > 0 {
		text += ", " + long(d)
	}
	if j.State != job.Running && j.Message != "" {
		text += ": " + j.Message
	}
	return oneLine(text)
}
