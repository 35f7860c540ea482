package simulation

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
)

// mutant is a way in which the system is broken on purpose, to prove that the
// simulation would notice. All of them sit in what the simulation puts around the
// real parts.
type mutant string

const (
	intact            mutant = ""
	noGuard           mutant = "a finish is not guarded"
	workerGuard       mutant = "a finish is guarded by the worker's name alone"
	acknowledgeFirst  mutant = "the answer is given before the commit, and the commit may fail"
	relaunches        mutant = "an attempt is started without looking under the lock"
	finishWithoutExit mutant = "an end that nobody saw counts as a success"
	localClock        mutant = "silence is measured with the server's own clock"
	stopLost          mutant = "a stop is forgotten"
	dropIgnored       mutant = "a fenced run goes on"
	notifyOnly        mutant = "a claim looks only when it is woken"
	eventLost         mutant = "a change is stored without its event"
)

// mutants are all of them, with the invariants of which one must notice it.
var mutants = []struct {
	mutant
	noticedBy []string
}{
	{noGuard, []string{"I6", "I7"}},
	{workerGuard, []string{"I6", "I7"}},
	{acknowledgeFirst, []string{"I1", "I11", "I17", "I18"}},
	{relaunches, []string{"I3"}},
	{finishWithoutExit, []string{"I10"}},
	{localClock, []string{"I12"}},
	{stopLost, []string{"I17"}},
	{dropIgnored, []string{"G8"}},
	{notifyOnly, []string{"I19"}},
	{eventLost, []string{"I13"}},
}

// patience is how many seeds a mutant may survive.
const patience = 150

func TestEveryMutantIsCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("the mutants take half a minute")
	}
	t.Parallel()
	for _, m := range mutants {
		t.Run(string(m.mutant), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(patience) {
				for _, v := range simulate(t, seed+1, m.mutant, nil).violations {
					if slices.Contains(m.noticedBy, v.invariant) {
						t.Logf("caught by seed %d: %s", seed+1, v)
						return
					}
				}
			}
			t.Errorf("%d seeds did not notice that %s", patience, m.mutant)
		})
	}
}

// endless is how often a program has to be stopped: more often where a mutant is
// about stopping.
func (m mutant) endless() float64 {
	if m == stopLost || m == dropIgnored {
		return 0.6
	}
	return 0.12
}

// filter takes out the orders that a mutant does not deliver.
func (m mutant) filter(orders []job.Order) []job.Order {
	if m != dropIgnored {
		return orders
	}
	return slices.DeleteFunc(orders, func(o job.Order) bool { return o.Do == job.Drop })
}

// violation is one invariant that did not hold.
type violation struct {
	invariant string
	text      string
}

func (v violation) String() string { return fmt.Sprintf("%s: %s", v.invariant, v.text) }
