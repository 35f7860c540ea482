package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// benchReport says what was measured and on what.
type benchReport struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"` // "BenchReport"
	Version    string          `json:"version"`
	At         time.Time       `json:"at"`
	CPUs       int             `json:"cpus"`
	Load       float64         `json:"load"` // of the minute before
	Number     int             `json:"number"`
	Rounds     int             `json:"rounds"`
	Backlog    int             `json:"backlog"`
	Unfit      int             `json:"unfit"`
	Asleep     int             `json:"asleep"`
	Durable    []benchDatabase `json:"databases"`
	Rows       []benchRow      `json:"rows"`
}

// benchDatabase says what a commit waits for, as the database itself says.
type benchDatabase struct {
	Name    string `json:"name"`
	Durable string `json:"durable"`
}

// benchRow is one measurement: the medians of its rounds beside those of the
// limit.
type benchRow struct {
	Name     string `json:"name"`
	About    string `json:"about"`
	Database string `json:"database"`
	Way      string `json:"way"`
	Unit     string `json:"unit"` // of Value: "jobs/s" or "MB"
	benchNumbers
	Limit  *benchLimitRow `json:"limit,omitempty"`
	Rounds []benchNumbers `json:"rounds"`
	Goals  []benchGoal    `json:"goals,omitempty"`
	// CommitMS is what a commit of nanoos took on average, with its flush.
	CommitMS float64 `json:"commit_ms,omitempty"`
	// Stall is how long something, and everything, waited for the disk while
	// the row was measured, in percent; absent where the kernel does not say.
	Stall *benchStall `json:"disk_stall_pct,omitempty"`
}

// benchNumbers are those of one round, or the medians of several. Latencies
// are in milliseconds.
type benchNumbers struct {
	N     int     `json:"n"`
	Value float64 `json:"value"`
	CPU   float64 `json:"cpu_us,omitempty"` // of this process for each job
	P50   float64 `json:"p50_ms,omitempty"`
	P99   float64 `json:"p99_ms,omitempty"`
	Max   float64 `json:"max_ms,omitempty"`
}

type benchLimitRow struct {
	About string `json:"about"`
	benchNumbers
	Rounds []benchNumbers `json:"rounds"`
}

type benchStall struct {
	Some float64 `json:"some"`
	Full float64 `json:"full"`
}

// benchGoal is a target: what of a round is divided by the same of the limit,
// or stands alone if there is none.
type benchGoal struct {
	What    string    `json:"what"` // "rate", "p50", "p99", "MB"
	AtLeast float64   `json:"at_least,omitempty"`
	AtMost  float64   `json:"at_most,omitempty"`
	Rounds  []float64 `json:"rounds"`
	Got     float64   `json:"got"` // the median
	Met     bool      `json:"met"`
}

// judge fills in what was reached.
func (g benchGoal) judge(rounds, limits []benchNumbers) benchGoal {
	of := map[string]func(benchNumbers) float64{
		"rate": func(n benchNumbers) float64 { return n.Value }, "MB": func(n benchNumbers) float64 { return n.Value },
		"p50": func(n benchNumbers) float64 { return n.P50 }, "p99": func(n benchNumbers) float64 { return n.P99 },
	}[g.What]
	g.Rounds = nil
	for i, r := range rounds {
		got := of(r)
		if limits != nil {
			got /= of(limits[i])
		}
		g.Rounds = append(g.Rounds, got)
	}
	g.Got = median(g.Rounds)
	g.Met = g.Got >= g.AtLeast && (g.AtMost == 0 || g.Got <= g.AtMost)
	return g
}

func (g benchGoal) String() string {
	met := "MISSED"
	if g.Met {
		met = "met"
	}
	bound := fmt.Sprintf(">= %g", g.AtLeast)
	if g.AtMost != 0 {
		bound = fmt.Sprintf("<= %g", g.AtMost)
	}
	if g.What == "MB" {
		return fmt.Sprintf("%s MB %s", bound, met)
	}
	return fmt.Sprintf("%s %.2fx %s %s", g.What, g.Got, bound, met)
}

func (r benchReport) print(w io.Writer) error {
	fmt.Fprintf(w, "nanoos %s, %d CPUs, load %.2f at the start; %d rounds\n", r.Version, r.CPUs, r.Load, r.Rounds)
	for _, d := range r.Durable {
		fmt.Fprintf(w, "%s: durable, %s\n", d.Name, d.Durable)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEASUREMENT\tDATABASE\tWAY\tN\tVALUE\tCPU US\tP50 MS\tP99 MS\tLIMIT\tCPU US\tP50 MS\tP99 MS\tCOMMIT MS\tDISK\tGOALS")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t", row.Name, row.Database, row.Way, row.N, row.benchNumbers.print(row.Unit))
		limit := "\t\t\t"
		if row.Limit != nil {
			limit = row.Limit.print(row.Unit)
		}
		stall := ""
		if row.Stall != nil {
			stall = fmt.Sprintf("%.0f/%.0f %%", row.Stall.Some, row.Stall.Full)
		}
		goals := make([]string, len(row.Goals))
		for i, g := range row.Goals {
			goals[i] = g.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", limit, unlessZero("%.2f", row.CommitMS), stall, strings.Join(goals, "; "))
	}
	return t.Flush()
}

// print is four cells: the value, the processor time of a job and two latencies.
func (n benchNumbers) print(unit string) string {
	return fmt.Sprintf("%.0f %s\t%s\t%s\t%s", n.Value, unit, unlessZero("%.0f", n.CPU), unlessZero("%.2f", n.P50), unlessZero("%.2f", n.P99))
}

func unlessZero(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// median of what was measured; of an even number, the higher of the two in the
// middle.
func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// medians are taken of each number for itself.
func medians(rounds []benchNumbers) benchNumbers {
	of := func(field func(benchNumbers) float64) float64 {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = field(r)
		}
		return median(all)
	}
	return benchNumbers{
		N:     rounds[0].N,
		Value: of(func(n benchNumbers) float64 { return n.Value }),
		CPU:   of(func(n benchNumbers) float64 { return n.CPU }),
		P50:   of(func(n benchNumbers) float64 { return n.P50 }),
		P99:   of(func(n benchNumbers) float64 { return n.P99 }),
		Max:   of(func(n benchNumbers) float64 { return n.Max }),
	}
}

// loadAverage is that of the last minute, 0 where the kernel does not say.
func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// diskWait is how long something, and everything, has waited for the disk since
// the machine started; ok is false where the kernel does not say.
func diskWait() (some, full time.Duration, ok bool) {
	raw, err := os.ReadFile("/proc/pressure/io")
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(raw)) {
		kind, _, _ := strings.Cut(line, " ")
		_, total, _ := strings.Cut(strings.TrimSpace(line), "total=")
		us, err := strconv.ParseInt(total, 10, 64)
		switch {
		case err != nil:
			return 0, 0, false
		case kind == "some":
			some = time.Duration(us) * time.Microsecond
		case kind == "full":
			full = time.Duration(us) * time.Microsecond
		}
	}
	return some, full, true
}
