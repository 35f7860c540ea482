package bridge

import (
	"math"
	"slices"
)

// mockDialect is that of the engine that computes nothing: it takes what tells
// it how to behave, and has no use for the rest, which is named in a label.
var mockDialect = dialect{
	calculation: "as",
	rules: map[string]rule{
		"n_steps": as("steps"), "num_steps": as("steps"),
		"duration": as("duration"), "duration_s": as("duration"), "duration_seconds": as("duration"), "sleep": as("duration"),
		"fail": mockFails, "should_fail": mockFails, "simulate_failure": mockFails, "force_fail": mockFails,
	},
	ignores: func(name string) bool { return !slices.Contains(mockOwn, name) },
	finish:  mockFinish,
}

var mockOwn = []string{"steps", "step_seconds", "as", "seed", "converge", "fail_at_step", "fail_attempts", "exit_code", "signal",
	"memory_mb", "output_bytes", "children", "ignore_sigterm"}

func mockFails(t *translation, key string, v any) {
	switch v {
	case true:
		t.set("fail_at_step", key, int64(1))
	case false:
	default:
		t.add(key, "is neither true nor false", show(v), "")
	}
}

// mockSeconds is how long the platform's own dummy takes, however many steps it
// is said to have.
const mockSeconds = 10

// mockFinish spreads the duration over the steps.
func mockFinish(out map[string]any) {
	duration, given := out["duration"]
	delete(out, "duration")
	seconds, ok := number(duration)
	if !ok || seconds < 0 {
		seconds = mockSeconds
	}
	steps, ok := whole(out["steps"])
	if out["step_seconds"] != nil || !given && out["steps"] == nil {
		return
	}
	if !ok || steps < 1 {
		steps = 4
	}
	out["step_seconds"] = math.Round(seconds/float64(steps)*1e6) / 1e6
}
