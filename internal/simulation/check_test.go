package simulation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// check decides the safety invariants of a history. It knows nothing of how the
// history came about.
func check(h *history) []violation {
	c := &checker{h: h, outcomes: map[place]string{}, claimed: map[place]map[int]string{}, cancelled: map[job.ID]bool{}}
	for _, cm := range h.commits {
		c.commit(cm)
	}
	c.submissions()
	c.cancels()
	c.executions()
	return c.found
}

type checker struct {
	h         *history
	found     []violation
	outcomes  map[place]string         // of attempts, so far
	claimed   map[place]map[int]string // what was known of earlier attempts when one was claimed
	cancelled map[job.ID]bool          // a cancel was stored, and no terminal state since
}

func (c *checker) fail(invariant, format string, args ...any) {
	c.found = append(c.found, violation{invariant, fmt.Sprintf(format, args...)})
}

// commit looks at one transaction.
func (c *checker) commit(cm *commit) {
	for _, ch := range cm.changes {
		who := fmt.Sprintf("job %s, %s of %q at %s", ch.after.Name, cm.op.kind, cm.op.worker, cm.at.Format("15:04:05.000"))
		c.told(cm, ch, who)
		if ch.new {
			continue
		}
		c.numbers(cm, ch, who)
		c.authority(cm, ch, who)
		c.ends(cm, ch, who)
		c.budgets(cm, ch, who)
	}
	for _, a := range cm.attempts {
		c.outcomes[place{a.Job, a.Number}] = a.Outcome
	}
}

// told: every change has its event in the same transaction, which says what the
// row says (I13).
func (c *checker) told(cm *commit, ch change, who string) {
	b, a := ch.before, ch.after
	if b.State == a.State && b.Reason == a.Reason && b.Attempt == a.Attempt && b.Fence == a.Fence && b.Cancel == a.Cancel {
		return
	}
	var last struct {
		State   job.State `json:"state"`
		Attempt int       `json:"attempt"`
		Fence   job.Fence `json:"fence"`
	}
	for _, e := range cm.events {
		if e.Job == ch.id {
			_ = json.Unmarshal(e.Data, &last)
		}
	}
	if last.State != a.State || last.Attempt != a.Attempt || last.Fence != a.Fence {
		c.fail("I13", "%s: the row became %+v, the last event says %+v", who, a, last)
	}
}

// numbers: attempts and fences rise one by one, where they may (I2).
func (c *checker) numbers(cm *commit, ch change, who string) {
	attempts, fences := ch.after.Attempt-ch.before.Attempt, ch.after.Fence-ch.before.Fence
	switch {
	case attempts == 0 && fences == 0:
	case attempts == 1 && fences == 1 && cm.op.kind == "claim" && ch.before.State == job.Queued && ch.after.State == job.Running:
		known := map[int]string{}
		for n := 1; n < ch.after.Attempt; n++ {
			known[n] = c.outcomes[place{ch.id, n}]
			if known[n] == "" {
				c.fail("I2", "%s: attempt %d is claimed while attempt %d is open", who, ch.after.Attempt, n)
			}
		}
		c.claimed[place{ch.id, ch.after.Attempt}] = known
	case attempts == -1 && fences == 0 && cm.op.kind == "finish" && ch.after.State == job.Queued:
		// It was given back before anything began: the number is used again.
	case attempts == 0 && fences == 1 && cm.op.kind == "attach" && ch.after.State == job.Running:
	default:
		c.fail("I2", "%s: attempt and fence went from %d, %d to %d, %d", who, ch.before.Attempt, ch.before.Fence, ch.after.Attempt, ch.after.Fence)
	}
	if ch.after.Rev <= ch.before.Rev {
		c.fail("I2", "%s: the revision went from %d to %d", who, ch.before.Rev, ch.after.Rev)
	}
}

// authority: what a worker changed was its own (I6, I7).
func (c *checker) authority(cm *commit, ch change, who string) {
	switch cm.op.kind {
	case "finish":
		for _, r := range c.h.finishes[ch.id] {
			if r.fence == ch.before.Fence && r.worker == ch.before.Worker && r.attempt == ch.before.Attempt {
				return
			}
		}
		c.fail("I7", "%s: nobody reported under fence %d, which worker %s holds", who, ch.before.Fence, ch.before.Worker)
		if ch.after.State.Terminal() {
			c.fail("I6", "%s: attempt %d won without being reported", who, ch.after.Attempt)
		}
	case "beat":
		held := cm.op.held[ch.id] == ch.before.Fence
		returns := ch.after.State == job.Running
		if ch.before.Worker != cm.op.worker || held != returns {
			c.fail("I7", "%s: a job of worker %s under fence %d became %s, and the worker held fence %d",
				who, ch.before.Worker, ch.before.Fence, ch.after.State, cm.op.held[ch.id])
		}
	case "claim", "attach":
		if ch.after.State == job.Running && ch.after.Worker != cm.op.worker {
			c.fail("I7", "%s: the job went to worker %s", who, ch.after.Worker)
		}
	case "leave", "orders":
		c.fail("I7", "%s: the job changed", who)
	}
}

// ends: one terminal transition, final unless a person retries, and honest
// (I4, I5, I10, I11).
func (c *checker) ends(cm *commit, ch change, who string) {
	b, a := ch.before, ch.after
	if b.State.Terminal() && cm.op.kind != "retry" {
		c.fail("I4", "%s: it was %s and became %s", who, b.State, a.State)
	}
	if a.Cancel && !a.State.Terminal() {
		c.cancelled[ch.id] = true
	}
	if !a.State.Terminal() {
		if c.cancelled[ch.id] && !a.Cancel {
			c.fail("I11", "%s: its cancel was forgotten", who)
		}
		return
	}
	if c.cancelled[ch.id] && a.State != job.Cancelled {
		c.fail("I11", "%s: it is %s although a cancel was stored", who, a.State)
	}
	delete(c.cancelled, ch.id)
	if a.State == job.Completed {
		c.success(cm, ch, who)
	}
}

// success: the program of the winning attempt has ended, and did what it was
// asked for; the result is of that attempt (I5, I10).
func (c *checker) success(cm *commit, ch change, who string) {
	if n := attemptOf(ch.result); n != ch.after.Attempt {
		c.fail("I5", "%s: attempt %d won with the result of attempt %d", who, ch.after.Attempt, n)
	}
	for _, e := range c.h.journal {
		if e.id == ch.id && e.attempt == ch.after.Attempt && e.good && !e.ended.After(cm.at) {
			return
		}
	}
	c.fail("I10", "%s: attempt %d is a success, and its program is not", who, ch.after.Attempt)
}

// budgets are kept, and nothing that was planned costs anything (I12). A worker
// is given up for silence only when it was silent for so long.
func (c *checker) budgets(cm *commit, ch change, who string) {
	b, a := ch.before, ch.after
	if a.Failures > a.Retry.Max || a.Losses > a.Retry.MaxLosses {
		c.fail("I12", "%s: %d failures of %d, %d losses of %d", who, a.Failures, a.Retry.Max, a.Losses, a.Retry.MaxLosses)
	}
	paid := a.Failures + a.Losses - b.Failures - b.Losses
	switch cm.op.kind {
	case "finish", "maintain", "beat":
		if paid > 1 {
			c.fail("I12", "%s: it paid %d times", who, paid)
		}
	default:
		if paid > 0 {
			c.fail("I12", "%s: it paid for what was planned", who)
		}
	}
	if silent := cm.at.Sub(cm.contact[b.Worker]); cm.op.kind == "maintain" && b.State == job.Running && silent < lostAfter-time.Millisecond {
		c.fail("I12", "%s: worker %s was given up after a silence of %s", who, b.Worker, silent)
	}
}

// submissions: what was acknowledged exists, once for a key, and what was not
// answered exists or not, but not twice (I1, I23).
func (c *checker) submissions() {
	named := map[string]int{}
	for _, id := range c.h.order {
		named[c.h.rows[id].Name]++
	}
	ids := map[string]job.ID{}
	for _, cl := range c.h.calls {
		if cl.kind != "submit" {
			continue
		}
		if named[cl.name] > 1 {
			c.fail("I23", "%d jobs are called %s", named[cl.name], cl.name)
		}
		if cl.answer != acknowledged {
			continue
		}
		if r, exists := c.h.rows[cl.id]; !exists || r.Name != cl.name {
			c.fail("I1", "the acknowledged job %s does not exist", cl.name)
		}
		if id := ids[cl.name]; id != "" && id != cl.id {
			c.fail("I1", "key %s was answered with two jobs", cl.key)
		}
		ids[cl.name] = cl.id
	}
}

// cancels: an acknowledged cancel was stored before its answer (I11); what
// becomes of it, ends looks at.
func (c *checker) cancels() {
	for _, cl := range c.h.calls {
		if cl.kind != "cancel" || cl.answer != acknowledged {
			continue
		}
		stored := false
		for _, cm := range c.h.commits {
			for _, ch := range cm.changes {
				if ch.id == cl.id && !cm.at.After(cl.returned) {
					if ch.after.Cancel {
						stored = true
					} else if cm.at.Before(cl.invoked) {
						stored = false
					}
				}
			}
		}
		if !stored {
			c.fail("I11", "the acknowledged cancel of job %s was not stored", c.h.rows[cl.id].Name)
		}
	}
}

// executions: an attempt starts once (I3), and two trees of a job overlap only
// when the earlier had been given up (I9).
func (c *checker) executions() {
	byJob := map[job.ID][]*execution{}
	for _, e := range c.h.journal {
		for _, o := range byJob[e.id] {
			if o.attempt == e.attempt {
				c.fail("I3", "attempt %d of job %s was started twice", e.attempt, c.h.rows[e.id].Name)
				continue
			}
			first, second := o, e
			if first.attempt > second.attempt {
				first, second = second, first
			}
			apart := !first.ended.IsZero() && !first.ended.After(second.began)
			if known := c.claimed[place{e.id, second.attempt}][first.attempt]; !apart && known != "lost" {
				c.fail("I9", "attempts %d and %d of job %s ran together, and the first was %q", first.attempt, second.attempt, c.h.rows[e.id].Name, known)
			}
		}
		byJob[e.id] = append(byJob[e.id], e)
	}
}
