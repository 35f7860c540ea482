package queue

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// cand is a candidate of a lane of its own.
func cand(id string, p job.Priority, seq int64, tenant job.Tenant, cpus int) Candidate {
	return Candidate{
		Head: store.Head{Lane: store.LaneID(seq), ID: job.ID(id), Priority: p, Seq: seq},
		In: store.Lane{ID: store.LaneID(seq), Queue: "default", Tenant: tenant, Engine: "mock",
			Demand: job.Demand{CPUs: cpus, Memory: job.MemoryQuantum}},
	}
}

func free(cpus int) job.Offer {
	return job.Offer{CPUs: cpus, Memory: 1 << 40, Engines: []string{"mock"}}
}

func TestPick(t *testing.T) {
	t.Parallel()
	reserved := store.Head{ID: "big", Priority: 5, Seq: 3}
	for name, c := range map[string]struct {
		turn  Turn
		cands []Candidate
		want  []string
	}{
		"the highest priority first": {Turn{Free: free(1), Max: 9},
			[]Candidate{cand("old", 5, 1, "a", 1), cand("urgent", 20, 2, "a", 1)}, []string{"urgent"}},
		"the oldest of equals first": {Turn{Free: free(1), Max: 9},
			[]Candidate{cand("new", 5, 2, "a", 1), cand("old", 5, 1, "a", 1)}, []string{"old"}},
		"the tenant that uses least first": {Turn{Free: free(1), Max: 9, Used: map[job.Tenant]float64{"a": 2}},
			[]Candidate{cand("a", 5, 1, "a", 1), cand("b", 5, 2, "b", 1)}, []string{"b"}},
		"measured by its share": {Turn{Free: free(1), Max: 9, Used: map[job.Tenant]float64{"a": 2, "b": 1}, Shares: map[job.Tenant]float64{"a": 4}},
			[]Candidate{cand("a", 5, 1, "a", 1), cand("b", 5, 2, "b", 1)}, []string{"a"}},
		"priority above shares": {Turn{Free: free(1), Max: 9, Used: map[job.Tenant]float64{"a": 9}},
			[]Candidate{cand("a", 6, 1, "a", 1), cand("b", 5, 2, "b", 1)}, []string{"a"}},
		"a tenant without a share last": {Turn{Free: free(1), Max: 9, Used: map[job.Tenant]float64{"b": 9}, Shares: map[job.Tenant]float64{"a": 0}},
			[]Candidate{cand("a", 5, 1, "a", 1), cand("b", 5, 2, "b", 1)}, []string{"b"}},
		"tenants take turns within one claim": {Turn{Free: free(4), Max: 9},
			[]Candidate{cand("a1", 5, 1, "a", 1), cand("a2", 5, 2, "a", 1), cand("b1", 5, 3, "b", 1), cand("b2", 5, 4, "b", 1)},
			[]string{"a1", "b1", "a2", "b2"}},
		"what does not fit is passed over": {Turn{Free: free(2), Max: 9},
			[]Candidate{cand("big", 20, 1, "a", 4), cand("small", 0, 2, "a", 1)}, []string{"small"}},
		"no more than asked for": {Turn{Free: free(9), Max: 2},
			[]Candidate{cand("1", 5, 1, "a", 1), cand("2", 5, 2, "a", 1), cand("3", 5, 3, "a", 1)}, []string{"1", "2"}},
		"nothing that comes after a reserved job": {Turn{Free: free(2), Max: 9, Reserved: &reserved},
			[]Candidate{cand("higher", 6, 9, "a", 1), cand("older", 5, 2, "a", 1), cand("younger", 5, 4, "a", 1), cand("lower", 4, 1, "a", 1)},
			[]string{"higher", "older"}},
		"nothing from nothing": {Turn{Free: free(2), Max: 9}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range c.turn.Pick(c.cands) {
				got = append(got, string(p.ID))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Pick (-want +got):\n%s", diff)
			}
		})
	}
}

// drawTurn draws a turn and candidates in lanes, each lane in the order of its heads.
func drawTurn(t *rapid.T) (Turn, []Candidate) {
	tenants := []job.Tenant{"a", "b", "c"}
	turn := Turn{
		Free:   job.Offer{CPUs: rapid.IntRange(0, 16).Draw(t, "cpus"), Memory: rapid.Int64Range(0, 16<<30).Draw(t, "memory"), GPUs: rapid.IntRange(0, 2).Draw(t, "gpus"), Engines: []string{"mock"}},
		Max:    rapid.IntRange(0, 8).Draw(t, "max"),
		Used:   rapid.MapOf(rapid.SampledFrom(tenants), rapid.Float64Range(0, 20)).Draw(t, "used"),
		Shares: rapid.MapOf(rapid.SampledFrom(tenants), rapid.Float64Range(0, 4)).Draw(t, "shares"),
	}
	seqs := rapid.Permutation(slices.Collect(func(yield func(int64) bool) {
		for i := range int64(40) {
			if !yield(i) {
				return
			}
		}
	})).Draw(t, "seqs")
	var cands []Candidate
	for lane := range rapid.IntRange(0, 8).Draw(t, "lanes") {
		in := store.Lane{ID: store.LaneID(lane), Queue: "default", Tenant: rapid.SampledFrom(tenants).Draw(t, "tenant"),
			Engine: rapid.SampledFrom([]string{"mock", "mock", "mock", "qe"}).Draw(t, "engine"),
			Demand: job.Demand{CPUs: rapid.IntRange(1, 8).Draw(t, "cpus"), Memory: rapid.Int64Range(1, 4).Draw(t, "mem") << 30, GPUs: rapid.IntRange(0, 1).Draw(t, "gpu")}}
		var heads []Candidate
		for range rapid.IntRange(1, 5).Draw(t, "heads") {
			seq := seqs[0]
			seqs = seqs[1:]
			heads = append(heads, Candidate{In: in, Head: store.Head{Lane: in.ID, ID: job.ID(fmt.Sprint(seq)), Seq: seq,
				Priority: job.Priority(rapid.IntRange(0, 3).Draw(t, "priority"))}})
		}
		slices.SortFunc(heads, func(a, b Candidate) int {
			if before(a.Head, b.Head) {
				return -1
			}
			return 1
		})
		cands = append(cands, heads...)
	}
	return turn, cands
}

func TestPickPacksWhatFitsAndLeavesNothingThatWould(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		turn, cands := drawTurn(t)
		usedBefore := maps.Clone(turn.Used)
		picked := turn.Pick(cands)
		if !maps.Equal(usedBefore, turn.Used) {
			t.Fatal("Pick changed what it was given")
		}
		if len(picked) > turn.Max {
			t.Fatalf("picked %d of at most %d", len(picked), turn.Max)
		}
		left, taken := turn.Free, map[job.ID]bool{}
		for _, p := range picked {
			if !left.Fits(p.In.Queue, p.In.Engine, p.In.Demand) {
				t.Fatalf("job %s does not fit what is left", p.ID)
			}
			if taken[p.ID] {
				t.Fatalf("job %s was picked twice", p.ID)
			}
			taken[p.ID] = true
			left = left.Less(p.In.Demand)
		}
		for i, c := range cands {
			if !taken[c.ID] && len(picked) < turn.Max && left.Fits(c.In.Queue, c.In.Engine, c.In.Demand) {
				t.Fatalf("job %s fits what is left and was passed over", c.ID)
			}
			for _, d := range cands[:i] {
				if d.In.ID == c.In.ID && taken[c.ID] && !taken[d.ID] {
					t.Fatalf("job %s overtook %s in its lane", c.ID, d.ID)
				}
			}
		}
		// Whatever fitted an empty turn and has a higher priority than the first
		// pick would have been the first pick.
		for _, c := range cands {
			if len(picked) > 0 && c.Priority > picked[0].Priority && turn.Free.Fits(c.In.Queue, c.In.Engine, c.In.Demand) {
				t.Fatalf("job %s of priority %d lost to %d", c.ID, c.Priority, picked[0].Priority)
			}
		}
	})
}

func TestPickGivesAReservedJobItsTurn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		turn, cands := drawTurn(t)
		if len(cands) == 0 {
			return
		}
		reserved := rapid.SampledFrom(cands).Draw(t, "reserved")
		turn.Reserved = &reserved.Head
		for _, p := range turn.Pick(cands) {
			if p.ID != turn.Reserved.ID && !before(p.Head, *turn.Reserved) {
				t.Fatalf("job %s took the room of %s", p.ID, turn.Reserved.ID)
			}
		}
	})
}

func TestOneWorkerAtATimeMakesRoomForAJob(t *testing.T) {
	t.Parallel()
	var r reservations
	for i, c := range []struct {
		id     job.ID
		worker string
		at     time.Duration
		want   bool
	}{
		{"big", "w1", 0, true},
		{"big", "w2", 0, false},
		{"big", "w1", reserveFor, true},
		{"big", "w2", reserveFor + time.Minute, false},
		{"huge", "w1", reserveFor + time.Minute, true}, // w1 turns to another job …
		{"big", "w2", reserveFor + time.Minute, true},  // … so w2 may take the first
		{"huge", "w3", 3 * reserveFor, true},           // w1 has stopped asking
	} {
		if got := r.take(c.id, c.worker, noon.Add(c.at)); got != c.want {
			t.Errorf("step %d: take(%s, %s) = %t, want %t", i, c.id, c.worker, got, c.want)
		}
	}
}
