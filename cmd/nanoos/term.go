package main

import (
	"io"
	"os"
	"strings"

	"charm.land/lipgloss/v2"
	"golang.org/x/term"
)

// screen says what the thing behind a stream can show. The zero value is a
// file: no colour, no cursor, no width.
type screen struct {
	tty     bool
	colour  bool
	unicode bool
	width   int
	height  int
}

// tone is an ANSI colour. Meaning never rests on it: there is always a word.
type tone string

const (
	plain  tone = ""
	bold   tone = "1"
	dim    tone = "2"
	red    tone = "31"
	green  tone = "32"
	yellow tone = "33"
	blue   tone = "34"
	cyan   tone = "36"
)

// newScreen looks at a stream and at the environment. when is the value of
// --color: always, never or auto.
func newScreen(w io.Writer, when string, getenv func(string) string) screen {
	var s screen
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.tty = true
		s.width, s.height = terminalSize(f)
	}
	s.colour = wantsColour(when, s.tty, getenv)
	s.unicode = speaksUTF8(getenv)
	if getenv("TERM") == "dumb" {
		s.tty = false
	}
	return s
}

// terminalSize is the size of a terminal, or the classic 80 × 24 if it does
// not say.
func terminalSize(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// wantsColour applies the order: the flag, NO_COLOR, CLICOLOR_FORCE and
// FORCE_COLOR, TERM=dumb, the terminal.
func wantsColour(when string, tty bool, getenv func(string) string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	if getenv("NO_COLOR") != "" {
		return false
	}
	for _, name := range []string{"CLICOLOR_FORCE", "FORCE_COLOR"} {
		if v := getenv(name); v != "" && v != "0" {
			return true
		}
	}
	return tty && getenv("TERM") != "dumb"
}

// speaksUTF8 reads the locale as C programs do: the first variable that is set
// decides. No locale at all means a container, where UTF-8 is the rule.
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

func (s screen) paint(t tone, text string) string {
	if !s.colour || t == plain || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

// glyph returns the character for the screen, or its ASCII form.
func (s screen) glyph(unicode, ascii string) string {
	if s.unicode {
		return unicode
	}
	return ascii
}

// width is how many cells a text takes on the screen, escapes not counted.
func width(s string) int { return lipgloss.Width(s) }

// pad fills a text with spaces up to n cells.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-width(s)))
}

// padLeft is pad for numbers.
func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-width(s))) + s
}

// shorten cuts a text without escapes to n cells, in the middle when it is a
// name and both ends matter.
func (s screen) shorten(text string, n int, middle bool) string {
	if width(text) <= n {
		return text
	}
	mark := s.glyph("…", "~")
	if n <= 1 {
		return mark[:min(len(mark), max(n, 0)*len(mark))]
	}
	runes := []rune(text)
	if !middle {
		return takeCells(runes, n-1) + mark
	}
	head := (n - 1) / 2
	tail := n - 1 - head
	end := len(runes)
	for end > 0 && width(string(runes[end-1:])) <= tail {
		end--
	}
	return takeCells(runes, head) + mark + string(runes[end:])
}

// takeCells is the longest beginning that fits n cells.
func takeCells(runes []rune, n int) string {
	used := 0
	for i, r := range runes {
		used += width(string(r))
		if used > n {
			return string(runes[:i])
		}
	}
	return string(runes)
}

// sparkline draws the last n values as a row of bars.
func (s screen) sparkline(values []float64, n int) string {
	if len(values) > n {
		values = values[len(values)-n:]
	}
	low, high, any := bounds(values)
	if !any {
		return ""
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	if !s.unicode {
		levels = []rune("_.-=*#")
	}
	var b strings.Builder
	for _, v := range values {
		if v != v {
			b.WriteByte(' ')
			continue
		}
		i := 0
		if high > low {
			i = int((v - low) / (high - low) * float64(len(levels)-1))
		}
		b.WriteRune(levels[min(max(i, 0), len(levels)-1)])
	}
	return b.String()
}

// bounds of the values that are numbers.
func bounds(values []float64) (low, high float64, any bool) {
	for _, v := range values {
		if v != v || v-v != 0 {
			continue
		}
		if !any {
			low, high, any = v, v, true
		}
		low, high = min(low, v), max(high, v)
	}
	return low, high, any
}

// shortenPainted cuts a text with escapes, such as a row of a table, to n
// cells; colours end where it is cut.
func (s screen) shortenPainted(text string, n int) string {
	if width(text) <= n {
		return text
	}
	var b strings.Builder
	used, escape := 0, false
	for _, r := range text {
		switch {
		case r == 0x1b:
			escape = true
		case escape:
			escape = r != 'm'
		default:
			if used += width(string(r)); used > n {
				if s.colour {
					b.WriteString("\x1b[0m")
				}
				return b.String()
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}
