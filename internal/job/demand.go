package job

import "slices"

// Demand is what one attempt occupies on a worker while it runs.
type Demand struct {
	CPUs   int      `json:"cpus"`
	Memory int64    `json:"memory"` // bytes
	GPUs   int      `json:"gpus,omitempty"`
	Tags   []string `json:"tags,omitempty"` // every tag must be offered
}

// Offer is what a worker has.
type Offer struct {
	CPUs   int      `json:"cpus"`
	Memory int64    `json:"memory"` // bytes
	GPUs   int      `json:"gpus,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	// Queues served; empty means all.
	Queues  []string `json:"queues,omitempty"`
	Engines []string `json:"engines"`
}

// MemoryQuantum is what demands are rounded up to, so that lanes stay few.
const MemoryQuantum = 256 << 20

// Rounded returns d with its memory rounded up to MemoryQuantum and its tags
// sorted and unique, so that equal demands compare equal.
func (d Demand) Rounded() Demand {
	d.Memory = (d.Memory + MemoryQuantum - 1) / MemoryQuantum * MemoryQuantum
	d.Tags = slices.Compact(slices.Sorted(slices.Values(d.Tags)))
	return d
}

// Fits reports whether a job of that queue and engine with demand d can run
// within o.
func (o Offer) Fits(queue, engine string, d Demand) bool {
	if d.CPUs > o.CPUs || d.Memory > o.Memory || d.GPUs > o.GPUs {
		return false
	}
	if len(o.Queues) > 0 && !slices.Contains(o.Queues, queue) || !slices.Contains(o.Engines, engine) {
		return false
	}
	for _, t := range d.Tags {
		if !slices.Contains(o.Tags, t) {
			return false
		}
	}
	return true
}

// Less returns o without what d occupies.
func (o Offer) Less(d Demand) Offer {
	o.CPUs -= d.CPUs
	o.Memory -= d.Memory
	o.GPUs -= d.GPUs
	return o
}
