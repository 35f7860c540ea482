package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// News is a change of a job, for the programs that listen to its channel.
type News struct {
	Job     string
	Event   string // such as job.status.running
	At      time.Time
	Payload map[string]any
}

// Announce publishes news. Who does not listen at the moment misses them, as with
// every channel of Redis.
func (c *Client) Announce(ctx context.Context, news []News) error {
	if len(news) == 0 {
		return nil
	}
	_, err := c.broker.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, n := range news {
			text, err := json.Marshal(map[string]any{
				"event": n.Event, "ts": n.At.UTC().Format(timeLayout), "payload": n.Payload, "emitter_version": "1",
			})
			if err != nil {
				return fmt.Errorf("write news of job %s: %w", n.Job, err)
			}
			p.Publish(ctx, "orion:events:job:"+n.Job, text)
		}
		return nil
	})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}
