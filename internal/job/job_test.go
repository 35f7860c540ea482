package job

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

func TestDurationsAreReadInEveryCommonForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		`90`: 90 * time.Second, `"90s"`: 90 * time.Second, `"10m"`: 10 * time.Minute, `"1h30m"`: 90 * time.Minute,
		`"2d"`: 48 * time.Hour, `"1-12:00:00"`: 36 * time.Hour, `"2:00:00"`: 2 * time.Hour, `"10:30"`: 630 * time.Second, `0.5`: 500 * time.Millisecond,
		`"1-12"`: -1,
	} {
		var d Duration
		err := json.Unmarshal([]byte(text), &d)
		if want < 0 {
			if err == nil {
				t.Errorf("%s was read as %v", text, d)
			}
			continue
		}
		if err != nil || time.Duration(d) != want {
			t.Errorf("%s = %v, %v; want %v", text, d, err, want)
		}
	}
	for _, bad := range []string{`"soon"`, `-1`, `"1e300"`, `"400d"`, `""`, `"1:2:3:4"`, `"NaN"`} {
		var d Duration
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s was read as %v", bad, d)
		}
	}
}

func TestEveryStateHasItsMoves(t *testing.T) {
	t.Parallel()
	for _, from := range States {
		for _, to := range States {
			if from.Terminal() && CanMove(from, to) && (to != Queued || from == Completed) {
				t.Errorf("%s must not go to %s", from, to)
			}
		}
	}
	if !CanMove(Running, Queued) || CanMove(Pending, Running) || CanMove(Queued, Completed) {
		t.Error("the life of a job has changed")
	}
}

func TestNearestFindsWhatWasMeant(t *testing.T) {
	t.Parallel()
	known := slices.Values([]string{"simulations", "default", "high_priority"})
	for word, want := range map[string]string{"simulation": "simulations", "defualt": "default", "HIGH_PRIORITY": "high_priority", "zzz": "", "": ""} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDemandsThatAreEqualCompareEqual(t *testing.T) {
	t.Parallel()
	d := Demand{CPUs: 1, Memory: 1, Tags: []string{"b", "a", "b"}}.Rounded()
	if d.Memory != MemoryQuantum || !slices.Equal(d.Tags, []string{"a", "b"}) {
		t.Errorf("rounded to %+v", d)
	}
	o := Offer{CPUs: 2, Memory: MemoryQuantum, Tags: []string{"a", "b", "c"}, Engines: []string{"qe"}}
	if !o.Fits("any", "qe", d) || o.Fits("any", "lammps", d) || o.Less(d).Fits("any", "qe", d) {
		t.Error("fits is wrong")
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1-2:3:4", "1h", "9999999999999", "NaN", "-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil && (d < 0 || d > MaxDuration) {
			t.Errorf("%q = %v", s, d)
		}
	})
}

func TestAnIDIsAUUIDInItsUsualForm(t *testing.T) {
	t.Parallel()
	for id, want := range map[ID]bool{
		NewID():                                true,
		NewRandomID():                          true,
		"59716d71-a660-4162-b298-206ae30d5c9b": true, // version 4
		"59716D71-A660-4162-B298-206AE30D5C9B": false,
		"59716d71a6604162b298206ae30d5c9b":     false,
		"job-42":                               false,
		"":                                     false,
	} {
		if id.Valid() != want {
			t.Errorf("Valid(%q) = %v", id, !want)
		}
	}
}
