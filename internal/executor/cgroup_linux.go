package executor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// findGroups finds where control groups can be made. Mode "none" asks for none.
func findGroups(mode string) (groupParents, Capabilities) {
	c := Capabilities{Cgroup: "none", Landlock: landlockLevel()}
	if mode == "none" {
		c.Notes = append(c.Notes, "control groups are switched off")
		return groupParents{}, c
	}
	own, err := ownGroups()
	if err != nil {
		c.Notes = append(c.Notes, err.Error())
		return groupParents{}, c
	}
	var p groupParents
	note := func(err error) {
		if err != nil {
			c.Notes = append(c.Notes, err.Error())
		}
	}
	if dir := own[""]; dir != "" {
		note(p.findUnified(dir))
	}
	for controller, parent := range map[string]*string{"memory": &p.Memory, "pids": &p.Pids, "cpu": &p.CPU} {
		if dir := own[controller]; dir != "" {
			note(findParent(filepath.Join(dir, groupName), parent))
		}
	}
	slices.Sort(c.Notes)
	has := func(v1, controller string) bool { return v1 != "" || slices.Contains(p.Controllers, controller) }
	c.Memory, c.Pids, c.CPU = has(p.Memory, "memory"), has(p.Pids, "pids"), has(p.CPU, "cpu")
	switch {
	case p.Memory != "" || p.Pids != "" || p.CPU != "":
		c.Cgroup = "v1"
	case p.Unified != "":
		c.Cgroup = "v2"
	}
	if p.Unified != "" {
		_, err := os.Stat(filepath.Join(p.Unified, "cgroup.kill"))
		c.Kill = err == nil
	}
	if !c.Memory {
		c.Notes = append(c.Notes, "no memory control group: the memory of a tree is polled, and what grows within a poll is not stopped")
	}
	return p, c
}

// findParent makes a parent and reports whether groups can be made in it.
func findParent(dir string, parent *string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("use control group %s: %w", dir, err)
	}
	*parent = dir
	return nil
}

// findUnified finds the v2 parent and hands it the controllers. A group that has
// processes cannot hand controllers on, except the root: the worker then moves
// itself into a leaf, if it is alone there.
func (p *groupParents) findUnified(own string) error {
	if err := findParent(filepath.Join(own, groupName), &p.Unified); err != nil {
		return err
	}
	available := words(filepath.Join(own, "cgroup.controllers"))
	var wanted []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if slices.Contains(available, c) {
			wanted = append(wanted, c)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	enable := "+" + strings.Join(wanted, " +")
	err := writeKernelFile(own, "cgroup.subtree_control", enable)
	if errors.Is(err, unix.EBUSY) {
		if procs := (group{Unified: own}).members(); len(procs) != 1 || procs[0] != os.Getpid() {
			return fmt.Errorf("control group %s cannot limit jobs: other processes are in it", own)
		}
		leaf := filepath.Join(own, groupName+"-worker")
		if err = os.MkdirAll(leaf, 0o755); err == nil {
			err = writeKernelFile(leaf, "cgroup.procs", "0")
		}
		if err == nil {
			err = writeKernelFile(own, "cgroup.subtree_control", enable)
		}
	}
	if err == nil {
		err = writeKernelFile(p.Unified, "cgroup.subtree_control", enable)
	}
	if err != nil {
		return fmt.Errorf("hand on control group controllers: %w", err)
	}
	p.Controllers = wanted
	return nil
}

// ownGroups returns the directory of this process's control group by v1
// controller, and by "" for the unified hierarchy.
func ownGroups() (map[string]string, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read control groups: %w", err)
	}
	defer f.Close()
	paths := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		// 4:memory:/path, 0::/path
		parts := strings.SplitN(s.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			paths[c] = parts[2]
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer mounts.Close()
	own := map[string]string{}
	for s := bufio.NewScanner(mounts); s.Scan(); {
		addMount(own, paths, s.Text())
	}
	return own, nil
}

// addMount reads a line of mountinfo, "id parent dev root mountpoint options
// [optional…] - type source superoptions".
func addMount(own, paths map[string]string, line string) {
	left, right, ok := strings.Cut(line, " - ")
	fields, kind := strings.Fields(left), strings.Fields(right)
	if !ok || len(fields) < 5 || len(kind) < 3 {
		return
	}
	root, point := fields[3], fields[4]
	place := func(controller string) {
		path, ok := paths[controller]
		if !ok || own[controller] != "" {
			return
		}
		// In a container the mount may show only a part of the hierarchy.
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			path = rel
		}
		dir := filepath.Join(point, path)
		if _, err := os.Stat(dir); err != nil {
			dir = point
		}
		own[controller] = dir
	}
	switch kind[0] {
	case "cgroup2":
		place("")
	case "cgroup":
		for c := range strings.SplitSeq(kind[2], ",") {
			if c == "memory" || c == "pids" || c == "cpu" {
				place(c)
			}
		}
	}
}

// of names all the places where the group of an attempt may be.
func (p groupParents) of(id job.ID, attempt int) (g group) {
	name := string(id) + "-" + strconv.Itoa(attempt)
	for parent, dir := range map[string]*string{p.Unified: &g.Unified, p.Memory: &g.Memory, p.Pids: &g.Pids, p.CPU: &g.CPU} {
		if parent != "" {
			*dir = filepath.Join(parent, name)
		}
	}
	return g
}

// create makes the group of an attempt with its limits. A v1 hierarchy is
// joined only for a limit, because each costs a move of the process.
func (p groupParents) create(name string, l Limits) (g group, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
			g = group{}
		}
	}()
	if p.Unified != "" {
		g.Unified = filepath.Join(p.Unified, name)
		if err := makeGroup(g.Unified, p.limits(l)); err != nil {
			return g, err
		}
		g.MemoryMax = l.Memory > 0 && slices.Contains(p.Controllers, "memory")
	}
	if p.Memory != "" && l.Memory > 0 {
		g.Memory = filepath.Join(p.Memory, name)
		max := strconv.FormatInt(l.Memory, 10)
		if err := makeGroup(g.Memory, [][2]string{{"memory.limit_in_bytes", max}, {"memory.memsw.limit_in_bytes", max}}); err != nil {
			return g, err
		}
	}
	if p.Pids != "" && l.Processes > 0 {
		g.Pids = filepath.Join(p.Pids, name)
		if err := makeGroup(g.Pids, [][2]string{{"pids.max", strconv.Itoa(l.Processes)}}); err != nil {
			return g, err
		}
	}
	if p.CPU != "" && l.CPUs > 0 {
		g.CPU = filepath.Join(p.CPU, name)
		quota := strconv.Itoa(l.CPUs * cpuPeriod)
		if err := makeGroup(g.CPU, [][2]string{{"cpu.cfs_period_us", strconv.Itoa(cpuPeriod)}, {"cpu.cfs_quota_us", quota}}); err != nil {
			return g, err
		}
	}
	return g, nil
}

// cpuPeriod is the kernel's default, in microseconds.
const cpuPeriod = 100_000

// limits are the files of a v2 group. Memory is counted without swap, and the
// whole tree dies of an overrun: a rank that vanishes only makes others wait.
func (p groupParents) limits(l Limits) (files [][2]string) {
	if l.Memory > 0 && slices.Contains(p.Controllers, "memory") {
		files = append(files, [2]string{"memory.max", strconv.FormatInt(l.Memory, 10)},
			[2]string{"memory.swap.max", "0"}, [2]string{"memory.oom.group", "1"})
	}
	if l.Processes > 0 && slices.Contains(p.Controllers, "pids") {
		files = append(files, [2]string{"pids.max", strconv.Itoa(l.Processes)})
	}
	if l.CPUs > 0 && slices.Contains(p.Controllers, "cpu") {
		files = append(files, [2]string{"cpu.max", fmt.Sprintf("%d %d", l.CPUs*cpuPeriod, cpuPeriod)})
	}
	return files
}

// makeGroup makes a directory and writes its limits; files about swap are absent
// where swap is not counted.
func makeGroup(dir string, limits [][2]string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	for _, l := range limits {
		err := writeKernelFile(dir, l[0], l[1])
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && strings.Contains(l[0], "sw")) {
			return fmt.Errorf("limit control group: %w", err)
		}
	}
	return nil
}

// add moves a process into those groups that it has not entered by itself.
func (g group) add(pid int) error {
	number := strconv.Itoa(pid)
	for _, dir := range g.dirs() {
		if slices.Contains(words(filepath.Join(dir, "cgroup.procs")), number) {
			continue
		}
		if err := writeKernelFile(dir, "cgroup.procs", number); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	return nil
}

func (g group) dirs() []string {
	return slices.DeleteFunc([]string{g.Unified, g.Memory, g.Pids, g.CPU}, func(d string) bool { return d == "" })
}

// members returns the pids in the group, zombies included.
func (g group) members() []int {
	var pids []int
	for _, dir := range g.dirs() {
		for _, w := range words(filepath.Join(dir, "cgroup.procs")) {
			if pid, err := strconv.Atoi(w); err == nil && pid > 0 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// kill ends all members in one write where the kernel can (v2 since 5.14);
// members that it misses are killed one by one by the caller.
func (g group) kill() {
	if g.Unified != "" {
		_ = writeKernelFile(g.Unified, "cgroup.kill", "1")
	}
}

// oomKills counts members that the kernel killed for memory.
func (g group) oomKills() int64 {
	switch {
	case g.MemoryMax:
		return counter(filepath.Join(g.Unified, "memory.events"), "oom_kill")
	case g.Memory != "":
		return counter(filepath.Join(g.Memory, "memory.oom_control"), "oom_kill")
	}
	return 0
}

// counter reads the number after a word that begins a line.
func counter(path, name string) int64 {
	fields := words(path)
	if i := slices.Index(fields, name); i >= 0 && i+1 < len(fields) {
		if n, err := strconv.ParseInt(fields[i+1], 10, 64); err == nil {
			return n
		}
	}
	return 0
}

// remove deletes the group. A member that nobody has waited for yet keeps it
// busy for a moment, so it is tried for a while.
func (g group) remove() error {
	var errs []error
	for _, dir := range g.dirs() {
		err := unix.Rmdir(dir)
		for deadline := bootClock() + removeWithin; errors.Is(err, unix.EBUSY) && bootClock() < deadline; {
			time.Sleep(5 * time.Millisecond)
			err = unix.Rmdir(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove control group %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// removeWithin is more than the 2 s that a lazy init takes to reap orphans.
const removeWithin = 3 * time.Second

func writeKernelFile(dir, name, value string) error {
	f, err := open(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func words(path string) []string {
	b, err := readBounded(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}
