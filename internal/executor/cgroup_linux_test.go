package executor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTheOwnControlGroupIsFoundInEveryLayout(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"memory/user", "unified/unit.service", "part/inner"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path, line string
		controller string
		want       string
	}{
		"v1":                  {"/user", "31 24 0:27 / %/memory rw,relatime shared:9 - cgroup cgroup rw,memory", "memory", "memory/user"},
		"v1 among others":     {"/user", "31 24 0:27 / %/memory rw - cgroup cgroup rw,cpu,cpuacct,memory", "memory", "memory/user"},
		"v2":                  {"/unit.service", "31 24 0:27 / %/unified rw - cgroup2 cgroup2 rw,nsdelegate", "", "unified/unit.service"},
		"a part is mounted":   {"/docker/x/inner", "31 24 0:27 /docker/x %/part rw - cgroup2 cgroup rw", "", "part/inner"},
		"the path is hidden":  {"/somewhere/else", "31 24 0:27 / %/part rw - cgroup2 cgroup rw", "", "part"},
		"another file system": {"/", "31 24 0:27 / %/part rw - tmpfs tmpfs rw", "", ""},
		"a cut line":          {"/", "31 24 0:27", "", ""},
	} {
		own := map[string]string{}
		addMount(own, map[string]string{c.controller: c.path}, replaceRoot(c.line, root))
		want := ""
		if c.want != "" {
			want = filepath.Join(root, c.want)
		}
		if own[c.controller] != want {
			t.Errorf("%s: %q, want %q", name, own[c.controller], want)
		}
	}
}

func replaceRoot(line, root string) string {
	if i := slices.Index([]byte(line), '%'); i >= 0 {
		return line[:i] + root + line[i+1:]
	}
	return line
}

func TestTheUnifiedLimitsAreThoseOfTheTask(t *testing.T) {
	t.Parallel()
	p := groupParents{Controllers: []string{"cpu", "memory", "pids"}}
	got := p.limits(Limits{Memory: 5, Processes: 6, CPUs: 2})
	want := [][2]string{{"memory.max", "5"}, {"memory.swap.max", "0"}, {"memory.oom.group", "1"}, {"pids.max", "6"}, {"cpu.max", "200000 100000"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := p.limits(Limits{}); len(got) > 0 {
		t.Errorf("no limits gave %q", got)
	}
	if got := (groupParents{}).limits(Limits{Memory: 5, Processes: 6, CPUs: 2}); len(got) > 0 {
		t.Errorf("no controllers gave %q", got)
	}
}

func TestOOMKillsAreCountedFromBothVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"memory.events":      "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 1\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := (group{Unified: dir, MemoryMax: true}).oomKills(); n != 2 {
		t.Errorf("v2: %d", n)
	}
	if n := (group{Memory: dir}).oomKills(); n != 4 {
		t.Errorf("v1: %d", n)
	}
	if n := (group{}).oomKills(); n != 0 {
		t.Errorf("none: %d", n)
	}
}

func TestCapabilitiesAreThoseOfTheMachine(t *testing.T) {
	t.Parallel()
	c := setup(t).Capabilities()
	t.Logf("%+v", c)
	if none := setup(t, withoutGroups).Capabilities(); none.Cgroup != "none" || none.Memory || none.Kill || len(none.Notes) == 0 {
		t.Errorf("without groups: %+v", none)
	}
	if c.Cgroup == "none" && len(c.Notes) == 0 {
		t.Error("nothing says why there are no control groups")
	}
}
