package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// cells says how values are written: for eyes on a terminal, or exactly.
type cells struct {
	now      time.Time
	relative bool // times as "3 min ago"
	exact    bool // numbers and durations as in JSON
	full     bool // ids in full
	zone     *time.Location
	screen   screen
}

// missing is what a cell shows for a value that is not known; it is never 0.
func (c *cells) missing() string {
	if c.exact {
		return ""
	}
	return c.screen.glyph("–", "-")
}

// when writes a time.
func (c *cells) when(t time.Time) string {
	switch {
	case t.IsZero():
		return c.missing()
	case c.relative:
		return ago(c.now.Sub(t))
	case c.exact:
		return t.UTC().Format(time.RFC3339Nano)
	}
	return t.In(c.zone).Format("2006-01-02T15:04:05Z07:00")
}

// moment is a time in full with how long ago it was.
func (c *cells) moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	full := t.In(c.zone).Format("2006-01-02 15:04:05 MST")
	if c.relative {
		return full + " (" + ago(c.now.Sub(t)) + ")"
	}
	return full
}

// ago is a distance in time in one or two units.
func ago(d time.Duration) string {
	if d < 0 {
		return "in " + span(-d)
	}
	if d < time.Second {
		return "now"
	}
	return span(d) + " ago"
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// clock is a duration in a table: "2:05:13".
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second).Seconds())
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// long is a duration in a sentence: "2 h 05 min".
func long(d time.Duration) string {
	switch {
	case d < 10*time.Second && d%time.Second != 0:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %02d h", int(d.Hours()/24), int(d.Hours())%24)
}

func (c *cells) elapsed(d time.Duration) string {
	switch {
	case d <= 0:
		return c.missing()
	case c.exact:
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	}
	return clock(d)
}

// bytes writes a size: "1.5 GiB".
func (c *cells) bytes(n int64) string {
	if c.exact {
		return strconv.FormatInt(n, 10)
	}
	return size(n)
}

func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		v /= 1 << 10
		if v < 1<<10 {
			break
		}
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + unit
}

// number writes a measured value with about six significant digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'g', -1, 64)
	case a != 0 && a < 1e-3, a >= 1e7:
		return strconv.FormatFloat(v, 'e', 2, 64)
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

// shortID is the form of an id for people. Ids made in the same minute begin
// alike, so it is the end.
func shortID(id job.ID) string {
	const n = 8
	if len(id) <= n {
		return string(id)
	}
	return string(id[len(id)-n:])
}

// unitOf splits a key such as "max_force_eV_per_A" into its words and unit.
func unitOf(key string) (name, unit string) {
	for _, u := range units {
		if base, ok := strings.CutSuffix(key, "_"+u.suffix); ok {
			return strings.ReplaceAll(base, "_", " "), u.sign
		}
	}
	return strings.ReplaceAll(key, "_", " "), ""
}

// units by the suffix of a key, longest first where one ends in another.
var units = []struct{ suffix, sign string }{
	{"eV_per_A", "eV/Å"}, {"g_per_cm3", "g/cm³"}, {"A3", "Å³"}, {"GPa", "GPa"}, {"muB", "µB"},
	{"eV", "eV"}, {"K", "K"}, {"Ry", "Ry"}, {"s", "s"}, {"A", "Å"},
}

// withUnit is a quantity and value on one line: "energy −123.4 eV".
func (c *cells) withUnit(key string, v float64) string {
	name, unit := unitOf(key)
	return strings.TrimSpace(name + " " + number(v) + " " + c.unit(unit))
}

// unit is a sign that the screen can show.
func (c *cells) unit(sign string) string {
	if c.screen.unicode {
		return sign
	}
	return strings.NewReplacer("Å", "A", "³", "3", "µ", "u").Replace(sign)
}

// trimZeros writes a number exactly.
func trimZeros(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func toTime(d job.Duration) time.Duration { return time.Duration(d) }
