package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTheBenchMeasuresBothWaysBesideTheLimitAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, progress bytes.Buffer
	code := execute(t.Context(), []string{"bench", "--quick", "-n", "10", "--rounds", "2", "--rows", "submit,drain", "--data", dir, "-o", "json"}, streams{in: strings.NewReader(""), out: &out, err: &progress})
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, progress.String())
	}
	var report benchReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Durable) != 1 || !strings.Contains(report.Durable[0].Durable, "synchronous=FULL") {
		t.Errorf("durable: %+v", report.Durable)
	}
	var rows []string
	for _, row := range report.Rows {
		rows = append(rows, row.Name+" "+row.Way)
		if row.Value <= 0 || row.Limit == nil || row.Limit.Value <= 0 || len(row.Rounds) != 2 || row.CommitMS <= 0 {
			t.Errorf("%s was not measured: %+v", row.Name, row)
		}
		if (row.Way == "http") != (len(row.Goals) == 1) {
			t.Errorf("%s %s has %d goals", row.Name, row.Way, len(row.Goals))
		}
	}
	want := []string{"submit-1 in process", "submit-1 http", "submit-8 in process", "submit-8 http",
		"submit-bulk in process", "submit-bulk http", "drain in process", "drain http"}
	if !slices.Equal(rows, want) {
		t.Errorf("rows are %q, want %q", rows, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

func TestAGoalIsJudgedByTheMedianOfTheRatiosWithinRounds(t *testing.T) {
	t.Parallel()
	// The machine was three times as busy in the second round.
	ours := []benchNumbers{{Value: 60, P99: 4}, {Value: 20, P99: 30}, {Value: 40, P99: 4}}
	limit := []benchNumbers{{Value: 100, P99: 2}, {Value: 33, P99: 12}, {Value: 100, P99: 2}}
	for _, c := range []struct {
		goal benchGoal
		got  float64
		met  bool
	}{
		{benchGoal{What: "rate", AtLeast: 0.5}, 0.6, true},
		{benchGoal{What: "rate", AtLeast: 0.7}, 0.6, false},
		{benchGoal{What: "p99", AtMost: 3}, 2, true},
		{benchGoal{What: "p99", AtMost: 1.5}, 2, false},
	} {
		if g := c.goal.judge(ours, limit); math.Abs(g.Got-c.got) > 0.01 || g.Met != c.met || len(g.Rounds) != 3 {
			t.Errorf("%+v, want %v, met %v", g, c.got, c.met)
		}
	}
	if g := (benchGoal{What: "MB", AtMost: 30}).judge([]benchNumbers{{Value: 31}}, nil); g.Met || g.Got != 31 {
		t.Errorf("%+v", g)
	}
}

func TestTheBenchRefusesWhatItCannotMeasure(t *testing.T) {
	t.Parallel()
	var out, problems bytes.Buffer
	if code := execute(t.Context(), []string{"bench", "-n", "1", "--rounds", "0", "--rows", "speed"}, streams{in: strings.NewReader(""), out: &out, err: &problems}); code == 0 {
		t.Error("it measured")
	}
	for _, part := range []string{"--number", "--rounds", `"speed"`} {
		if !strings.Contains(problems.String(), part) {
			t.Errorf("nothing is said of %s:\n%s", part, problems.String())
		}
	}
}
