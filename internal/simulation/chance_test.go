package simulation

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// chance is a stream of random numbers that belongs to one actor or one call.
// Every actor has its own, so that what one draws does not depend on who else ran
// before it: the same seed gives the same run.
type chance struct {
	seed uint64
	name string

	mu sync.Mutex
	r  *rand.Rand // guarded by mu
}

func newChance(seed uint64, name string) *chance {
	h := fnv.New64a()
	h.Write([]byte(name))
	return &chance{seed: seed, name: name, r: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// of returns the stream of a part, which depends on the seed and its name alone.
func (c *chance) of(part string) *chance { return newChance(c.seed, c.name+"/"+part) }

func (c *chance) float() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Float64()
}

// now is a number that depends on the virtual time alone. It serves those who
// share it and may draw at the same instant, in any order.
func (c *chance) now() float64 { return c.of(strconv.FormatInt(time.Now().UnixNano(), 36)).float() }

// happens is true with probability p.
func (c *chance) happens(p float64) bool { return c.float() < p }

func (c *chance) below(n int) int { return int(c.float() * float64(n)) }

// within is a duration from a on and below b, to the nanosecond: two things
// hardly ever happen at the same instant, whose order nobody could repeat.
func (c *chance) within(a, b time.Duration) time.Duration {
	return a + time.Duration(c.float()*float64(b-a))
}

func oneOf[T any](c *chance, of []T) T { return of[c.below(len(of))] }
