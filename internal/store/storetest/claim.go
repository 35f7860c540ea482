package storetest

import (
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var claimRules = []rule{
	{"HeadsComeByPriorityThenByAge", func(b *bench) {
		var jobs []job.Job
		for _, p := range []job.Priority{5, 20, 0, 5, 20, 10} {
			jobs = append(jobs, queuedAs(func(j *job.Job) { j.Spec.Priority = p }))
		}
		b.insert(jobs...)
		want := []job.ID{jobs[1].ID, jobs[4].ID, jobs[5].ID, jobs[0].ID, jobs[3].ID, jobs[2].ID}
		heads := b.heads(10)
		b.same("heads", headIDs(heads), want)
		b.same("first heads", headIDs(b.heads(2)), want[:2])
		b.same("no heads", headIDs(b.heads(0)), []job.ID(nil))
		if heads[0].Priority != 20 || heads[0].Seq >= heads[1].Seq || heads[3].Seq >= heads[4].Seq {
			b.Errorf("heads are %+v", heads)
		}
	}},
	{"EachLaneHasItsOwnHeads", func(b *bench) {
		lanes := []job.Job{
			queued(),
			queuedAs(func(j *job.Job) { j.Tenant = "other" }),
			queuedAs(func(j *job.Job) { j.Spec.Queue = "other" }),
			queuedAs(func(j *job.Job) { j.Spec.Engine = "other" }),
			queuedAs(func(j *job.Job) { j.Spec.Demand.CPUs = 2 }),
			queuedAs(func(j *job.Job) { j.Spec.Demand.Memory *= 2 }),
			queuedAs(func(j *job.Job) { j.Spec.Demand.GPUs = 1 }),
			queuedAs(func(j *job.Job) { j.Spec.Demand.Tags = []string{"a100"} }),
			queuedAs(func(j *job.Job) { j.Spec.Demand.Tags = []string{"a100", "ib"} }),
		}
		b.insert(lanes...)
		got := b.lanes()
		if len(got) != len(lanes) {
			b.Fatalf("there are %d lanes, want %d", len(got), len(lanes))
		}
		for i, l := range got {
			want := store.Lane{ID: l.ID, Queue: lanes[i].Spec.Queue, Tenant: lanes[i].Tenant, Engine: lanes[i].Spec.Engine, Demand: lanes[i].Spec.Demand}
			b.same("lanes", l, want)
			b.same("heads", headIDs(b.headsOf([]store.LaneID{l.ID}, 5)), []job.ID{lanes[i].ID})
		}
		b.same("heads in the order asked", headIDs(b.headsOf([]store.LaneID{got[2].ID, got[0].ID, 987654}, 1)),
			[]job.ID{lanes[2].ID, lanes[0].ID})
	}},
	{"DemandsThatRoundToTheSameShareALane", func(b *bench) {
		b.insert(
			queuedAs(func(j *job.Job) { j.Spec.Demand = job.Demand{CPUs: 1, Memory: 1, Tags: []string{"b", "a", "b"}} }),
			queuedAs(func(j *job.Job) {
				j.Spec.Demand = job.Demand{CPUs: 1, Memory: job.MemoryQuantum, Tags: []string{"a", "b"}}
			}))
		lanes := b.lanes()
		if len(lanes) != 1 {
			b.Fatalf("lanes are %+v", lanes)
		}
		b.same("demands", lanes[0].Demand, job.Demand{CPUs: 1, Memory: job.MemoryQuantum, Tags: []string{"a", "b"}})
	}},
	{"OnlyQueuedJobsMakeALane", func(b *bench) {
		for _, s := range job.States {
			b.insert(queuedAs(func(j *job.Job) { j.State, j.Spec.Queue = s, string(s) }))
		}
		lanes := b.lanes()
		if len(lanes) != 1 || lanes[0].Queue != string(job.Queued) {
			b.Errorf("lanes are %+v", lanes)
		}
		b.same("heads", len(b.heads(5)), 1)
	}},
	{"APausedQueueHasNoLanes", func(b *bench) {
		b.insert(queued(), queuedAs(func(j *job.Job) { j.Spec.Queue = "other" }))
		pause := store.Queue{Name: "other", Paused: &job.Request{By: "ann", At: day}}
		b.write(func(tx store.Tx) error { return tx.SaveQueue(b.Context(), pause) })
		b.same("lanes", len(b.lanes()), 1)
		pause.Paused = nil
		b.write(func(tx store.Tx) error { return tx.SaveQueue(b.Context(), pause) })
		b.same("lanes", len(b.lanes()), 2)
	}},
	{"AJobThatGoesBackKeepsItsPlace", func(b *bench) {
		first, second, third := queued(), queued(), queued()
		b.insert(first, second, third)
		before := b.heads(3)
		b.move(first.ID, func(j *job.Job) { j.State = job.Running })
		b.same("heads", headIDs(b.heads(3)), []job.ID{second.ID, third.ID})
		b.move(first.ID, func(j *job.Job) { j.State = job.Pending })
		b.move(first.ID, func(j *job.Job) { j.State = job.Queued })
		b.same("heads", b.heads(3), before)
	}},
	{"APriorityThatChangesMovesTheJob", func(b *bench) {
		first, second := queued(), queued()
		b.insert(first, second)
		b.move(second.ID, func(j *job.Job) { j.Spec.Priority = 20 })
		b.same("heads", headIDs(b.heads(2)), []job.ID{second.ID, first.ID})
		b.same("priority of the spec", b.job(second.ID).Spec.Priority, job.Priority(20))
	}},
	{"RunningOnListsTheJobsOfAWorker", func(b *bench) {
		on := func(s job.State, worker string) job.Job {
			j := full()
			j.State, j.Worker = s, worker
			return j
		}
		a, c, d := on(job.Running, "w1"), on(job.Running, "w2"), on(job.Running, "w1")
		b.insert(a, on(job.Completed, "w1"), c, on(job.Pending, "w1"), d)
		for worker, want := range map[string][]job.Job{"w1": {a, d}, "w2": {c}, "w3": nil, "": {a, c, d}} {
			var got []job.Job
			b.read(func(tx store.ReadTx) (err error) {
				got, err = tx.RunningOn(b.Context(), worker)
				return err
			})
			b.same("jobs on "+worker, got, want)
		}
	}},
	{"UsageSumsTheCPUsOfRunningJobs", func(b *bench) {
		running := func(t job.Tenant, s job.State, cpus int) job.Job {
			return queuedAs(func(j *job.Job) { j.Tenant, j.State, j.Spec.Demand.CPUs = t, s, cpus })
		}
		last := running("b", job.Running, 16)
		b.insert(running("a", job.Running, 2), running("a", job.Running, 3), running("a", job.Queued, 100), last, running("c", job.Failed, 1))
		b.same("usage", b.usage(), map[job.Tenant]float64{"a": 5, "b": 16})
		b.move(last.ID, func(j *job.Job) { j.State = job.Completed })
		b.same("usage", b.usage(), map[job.Tenant]float64{"a": 5})
	}},
	{"CountsAreByQueueAndState", func(b *bench) {
		in := func(t job.Tenant, queue string, s job.State) job.Job {
			return queuedAs(func(j *job.Job) { j.Tenant, j.Spec.Queue, j.State, j.Spec.Demand.CPUs = t, queue, s, len(s) })
		}
		moved := in("a", "q2", job.Queued)
		b.insert(moved, in("a", "q2", job.Queued), in("a", "q1", job.Failed), in("a", "q1", job.Pending), in("b", "q1", job.Queued))
		b.same("counts of a", b.counts("a"), []store.Count{{Queue: "q1", State: job.Pending, Jobs: 1}, {Queue: "q1", State: job.Failed, Jobs: 1}, {Queue: "q2", State: job.Queued, Jobs: 2}})
		b.move(moved.ID, func(j *job.Job) { j.State = job.Running })
		b.refused(job.Invalid, func(tx store.Tx) error {
			if err := tx.InsertJobs(b.Context(), []job.Job{in("a", "q9", job.Queued)}, []string{""}); err != nil {
				return err
			}
			return job.Errorf(job.Invalid, "undo")
		})
		b.same("counts", b.counts(""), []store.Count{
			{Queue: "q1", State: job.Pending, Jobs: 1}, {Queue: "q1", State: job.Queued, Jobs: 1}, {Queue: "q1", State: job.Failed, Jobs: 1}, {Queue: "q2", State: job.Queued, Jobs: 1}, {Queue: "q2", State: job.Running, Jobs: 1}})
		b.same("counts of nobody", b.counts("c"), []store.Count(nil))
	}},
}

func (b *bench) lanes() (lanes []store.Lane) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		lanes, err = tx.Lanes(b.Context())
		return err
	})
	return lanes
}

// heads returns the heads of all lanes.
func (b *bench) heads(perLane int) []store.Head {
	b.Helper()
	var ids []store.LaneID
	for _, l := range b.lanes() {
		ids = append(ids, l.ID)
	}
	return b.headsOf(ids, perLane)
}

func (b *bench) headsOf(lanes []store.LaneID, perLane int) (heads []store.Head) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		heads, err = tx.Heads(b.Context(), lanes, perLane)
		return err
	})
	return heads
}

func headIDs(heads []store.Head) []job.ID {
	var ids []job.ID
	for _, h := range heads {
		ids = append(ids, h.ID)
	}
	return ids
}

func (b *bench) usage() (used map[job.Tenant]float64) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		used, err = tx.Usage(b.Context())
		return err
	})
	return used
}

func (b *bench) counts(t job.Tenant) (counts []store.Count) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		counts, err = tx.Counts(b.Context(), t)
		return err
	})
	return counts
}
