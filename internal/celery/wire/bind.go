package wire

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Queue is one that is consumed.
type Queue struct {
	Name         string
	Exchange     string
	ExchangeType string // "direct" if empty
	RoutingKey   string
	MaxPriority  int // as declared; of no effect on Redis
}

// Bind tells senders to topic exchanges where the queues are.
func (c *Client) Bind(ctx context.Context, queues []Queue) error {
	c.mu.Lock()
	for _, q := range queues {
		c.bound[q.Name] = q
	}
	c.mu.Unlock()
	_, err := c.broker.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, q := range queues {
			p.SAdd(ctx, c.bindings(cmp.Or(q.Exchange, q.Name)), c.binding(q))
		}
		return nil
	})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// bindings is the routing table of an exchange.
func (c *Client) bindings(exchange string) string { return c.key("_kombu.binding." + exchange) }

// binding is how an exchange remembers a queue: one that is not a topic is bound
// by its routing key alone.
func (c *Client) binding(q Queue) string {
	pattern := ""
	if q.ExchangeType == "topic" {
		pattern = topicPattern(q.RoutingKey)
	}
	return strings.Join([]string{cmp.Or(q.RoutingKey, q.Name), pattern, q.Name}, c.opt.Separator)
}

// topicPattern is the regular expression that kombu writes for the routing keys
// of a topic, letter for letter: another one would be another binding.
func topicPattern(key string) string {
	words := strings.Split(key, ".")
	for i, word := range words {
		switch word {
		case "*":
			words[i] = `.*?[^\.]`
		case "#":
			words[i] = `.*?`
		}
	}
	return "^" + strings.Join(words, `\.`) + "$"
}

// queueFor is the queue that a message came over, as far as we have bound it. The
// nameless exchange takes the queue's name for a routing key.
func (c *Client) queueFor(exchange, routingKey string) string {
	if exchange == "" {
		return routingKey
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var members []string
	for _, q := range c.bound {
		if cmp.Or(q.Exchange, q.Name) == exchange {
			members = append(members, c.binding(q))
		}
	}
	slices.Sort(members)
	return c.lookUp(members, routingKey)
}

// lookUp finds the queue that a routing key leads to; "" if there is none.
func (c *Client) lookUp(members []string, routingKey string) string {
	matching := ""
	for _, m := range members {
		parts := strings.Split(m, c.opt.Separator)
		if len(parts) != 3 || len(parts[1]) > maxPattern {
			continue
		}
		if parts[0] == routingKey {
			return parts[2]
		}
		if re, err := regexp.Compile(parts[1]); parts[1] != "" && err == nil && re.MatchString(routingKey) {
			matching = parts[2]
		}
	}
	return matching
}
