package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

// The points of the conformance checklist, with real Celery clients of two
// versions on a real Redis. Each file of testdata/celery is a group of points
// that share one Redis, one nanoos and one Python process, which runs them one
// after another and asks us to kill and start things. CELERY_REFERENCE=1 puts a
// Python worker in the place of nanoos, to see that the points can be met.

// group is a file of points and what its nanoos is like.
type group struct {
	name   string
	points []string // the beginnings of the names of those that run; all when empty
	cpus   int      // 4 when zero
	env    []string
	// once: with one version of the clients, because it takes long and the
	// version makes no difference to it.
	once bool
}

var celeryGroups = []group{
	{name: "receiving"},
	{name: "order", points: []string{"p05"}, cpus: 1, env: []string{"NANOOS_CELERY_ORDER=redis"}, once: true},
	{name: "order", points: []string{"p06", "p46", "p47"}, cpus: 1},
	{name: "restarts"},
	{name: "safety"},
	{name: "results"},
	{name: "control"},
	{name: "events", env: []string{"TZ=Pacific/Auckland"}},
	{name: "outage", once: true},
	{name: "dashboard", once: true},
}

// renamed runs the groups that look at keys in another database, with every name
// changed that an application can change (point 61).
const renamed = `{"global_keyprefix": "lab1:", "sep": ":", "priority_steps": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
	"unacked_key": "held", "unacked_index_key": "held_index", "unacked_mutex_key": "held_mutex", "visibility_timeout": 1800}`

func TestCelery(t *testing.T) {
	for _, version := range pythons {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			for _, g := range celeryGroups {
				if g.once && version != "newest" {
					continue
				}
				t.Run(g.title(), func(t *testing.T) {
					t.Parallel()
					newCelery(t, celeryLayout{python: version, cpus: g.cpus, env: g.env}).run(g.name, g.points...)
				})
			}
		})
	}
	t.Run("61_with_every_name_changed", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"receiving", "safety", "results", "control"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				newCelery(t, celeryLayout{python: "newest", options: renamed, database: 3}).run(name)
			})
		}
	})
}

func (g group) title() string { return strings.Join(append([]string{g.name}, g.points...), "_") }

// TestEveryPointOfTheChecklistIsTested: 61 of them, the last being all others
// under other names.
func TestEveryPointOfTheChecklistIsTested(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/celery/*.py")
	if err != nil {
		t.Fatal(err)
	}
	define := regexp.MustCompile(`(?m)^def p(\d\d)_`)
	tested := map[string]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".py")
		for _, m := range define.FindAllStringSubmatch(string(raw), -1) {
			runs := slices.ContainsFunc(append(celeryGroups, celeryAlone...), func(g group) bool {
				return g.name == name && (len(g.points) == 0 || slices.Contains(g.points, "p"+m[1]))
			})
			if !runs {
				t.Errorf("point %s of %s is run by no group", m[1], file)
			}
			tested[m[1]] = true
		}
	}
	for i := 1; i <= 60; i++ {
		if n := fmt.Sprintf("%02d", i); !tested[n] {
			t.Errorf("point %s is not tested", n)
		}
	}
}

// celeryAlone are the groups of the tests below.
var celeryAlone = []group{{name: "speed"}, {name: "losses"}}

// TestCelery18_NoGapBetweenTasks runs while nothing else does.
func TestCelery18_NoGapBetweenTasks(t *testing.T) {
	newCelery(t, celeryLayout{python: "newest", cpus: 1, plain: true}).run("speed")
}

// impatient gives back soon what a killed server held: the default is an hour.
const impatient = `{"visibility_timeout": 5}`

// TestCelery26_EverythingIsKilled: CELERY_MESSAGES messages (400) while nanoos,
// its connections and a Redis with an append-only file are killed at random; each
// is answered once, and what it asks for is done once.
func TestCelery26_EverythingIsKilled(t *testing.T) {
	t.Parallel()
	newCelery(t, celeryLayout{python: "newest", options: impatient, redis: redistest.Options{AppendOnly: true}}).run("losses", "p26", "x_everything")
}

// TestF27_RedisKilledEmptiedAndRestarted: no accepted job is lost; messages that
// were not moved obey Redis.
func TestF27_RedisKilledEmptiedAndRestarted(t *testing.T) {
	t.Parallel()
	newCelery(t, celeryLayout{python: "newest", options: impatient}).run("losses", "x_a_redis")
}

// TestF28_RedeliveryMakesOneJob: and so does every other way to send a message twice.
func TestF28_RedeliveryMakesOneJob(t *testing.T) {
	t.Parallel()
	newCelery(t, celeryLayout{python: "newest"}).run("hostile", "x_F28")
}

// TestF29_HostileMessages: each is answered or buried with its reason, and the
// next good message does not wait.
func TestF29_HostileMessages(t *testing.T) {
	t.Parallel()
	newCelery(t, celeryLayout{python: "newest"}).run("hostile", "x_F29")
}

// TestCelery_TwoServersShareOneDatabase: each is a node of its own, and every
// task is answered once, whichever is killed.
func TestCelery_TwoServersShareOneDatabase(t *testing.T) {
	t.Parallel()
	newCeleryCluster(t, "newest").run("servers")
}

// TestCelery_TroubleWithRedis: a password and TLS, and then a Redis that is full,
// frozen, or wants another password.
func TestCelery_TroubleWithRedis(t *testing.T) {
	t.Parallel()
	newCelery(t, celeryLayout{python: "newest", redis: redistest.Options{TLS: true, Password: "s3cret"}}).run("trouble")
}
