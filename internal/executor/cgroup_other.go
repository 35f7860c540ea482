//go:build !linux

package executor

import "github.com/nano-os/nanoos/internal/job"

func findGroups(string) (groupParents, Capabilities) {
	return groupParents{}, Capabilities{Cgroup: "none", Notes: []string{
		"no control groups on this system: only walltime, log and silence limits hold, and processes that leave their group may stay",
	}}
}

func (groupParents) of(job.ID, int) group { return group{} }

func (groupParents) create(string, Limits) (group, error) { return group{}, nil }

func (group) dirs() []string  { return nil }
func (group) add(int) error   { return nil }
func (group) members() []int  { return nil }
func (group) kill()           {}
func (group) oomKills() int64 { return 0 }
func (group) remove() error   { return nil }
