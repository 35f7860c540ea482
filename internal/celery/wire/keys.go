package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// key is a key of the broker.
func (c *Client) key(name string) string { return c.opt.Prefix + name }

// listKey is the list in which a queue keeps the messages of a step.
func (c *Client) listKey(queue string, step int) string {
	if step == 0 {
		return c.key(queue)
	}
	return c.key(queue + c.opt.Separator + strconv.Itoa(step))
}

// Step is that of a priority: the largest step that is not above it, or the last
// one of all. Celery's transport knows no priority above 9.
func (c *Client) Step(priority int) int {
	priority = max(0, min(priority, 9))
	for _, s := range slices.Backward(c.opt.Steps) {
		if s <= priority {
			return s
		}
	}
	return c.opt.Steps[len(c.opt.Steps)-1]
}

// CheckQueue refuses names that no queue can have: those of other keys, which are
// no lists, or whose readers a task would disturb (T31).
func (c *Client) CheckQueue(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("a queue has a name of 1 to 255 characters without spaces, not %s", Repr(shortText(name)))
	}
	taken := []string{c.opt.UnackedKey, c.opt.UnackedIndexKey, c.opt.UnackedMutexKey, c.opt.DeadLetters}
	for _, prefix := range []string{"_kombu.", "unacked", "celery-task-meta-", "celery-taskset-meta-", "nanoos.",
		c.metaKey(""), c.groupKey("", ""), c.markerKey("")} {
		if strings.HasPrefix(name, prefix) || slices.Contains(taken, name) {
			return fmt.Errorf("%s is not a queue: the name belongs to Celery, or to nanoos", Repr(name))
		}
	}
	if strings.HasSuffix(name, ".pidbox") {
		return fmt.Errorf("%s is not a queue for tasks", Repr(name))
	}
	return nil
}

// member is an entry of a routing table.
func (c *Client) member(routingKey, queue string) string {
	return strings.Join([]string{routingKey, "", queue}, c.opt.Separator)
}

// fanout is the channel of an exchange that reaches everybody.
func (c *Client) fanout(exchange, routingKey string) string {
	prefix := "/" + strconv.Itoa(c.broker.Options().DB) + "."
	switch {
	case c.opt.NoFanoutPrefix:
		prefix = ""
	case c.opt.FanoutPrefix != "":
		prefix = strings.ReplaceAll(c.opt.FanoutPrefix, "{db}", strconv.Itoa(c.broker.Options().DB))
	}
	channel := c.opt.Prefix + prefix + exchange
	if routingKey != "" && !c.opt.NoFanoutPatterns {
		channel += "/" + routingKey
	}
	return channel
}

// metaKey is where a result is kept, and the channel on which it is told.
func (c *Client) metaKey(id string) string { return c.opt.ResultPrefix + "celery-task-meta-" + id }

// groupKey is where the parts of a chord are counted.
func (c *Client) groupKey(id, suffix string) string {
	return c.opt.ResultPrefix + "celery-taskset-meta-" + id + suffix
}

// markerKey remembers that a task was answered.
func (c *Client) markerKey(id string) string { return c.opt.ResultPrefix + "nanoos.answered." + id }
