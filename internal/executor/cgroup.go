package executor

// groupName is our subtree within the control group of the worker.
const groupName = "nanoos"

// groupParents are the control groups under which those of attempts are made,
// found once by the worker. A path that is empty is not usable here.
type groupParents struct {
	// Unified is the parent in the v2 hierarchy. Controllers lists what it
	// gives to its children; a hybrid machine has none there, and the parents
	// below instead.
	Unified     string   `json:"unified,omitempty"`
	Controllers []string `json:"controllers,omitempty"`
	Memory      string   `json:"memory,omitempty"` // v1
	Pids        string   `json:"pids,omitempty"`   // v1
	CPU         string   `json:"cpu,omitempty"`    // v1
}

// group is the control group of an attempt: a directory in each hierarchy that
// is used. The zero group limits nothing and has no members.
type group struct {
	Unified string `json:"unified,omitempty"`
	// MemoryMax says that the unified group limits memory.
	MemoryMax bool   `json:"memory_max,omitempty"`
	Memory    string `json:"memory,omitempty"`
	Pids      string `json:"pids,omitempty"`
	CPU       string `json:"cpu,omitempty"`
}

// limitsMemory reports whether the kernel holds the memory limit.
func (g group) limitsMemory() bool { return g.Memory != "" || g.MemoryMax }
