package wire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

func TestNewsReachWhoListensToTheJob(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	// The channel is the platform's: no prefix of the broker's keys is in it.
	c := connected(t, Options{URL: server.URL(0), Prefix: "lab1:"})
	sub := c.broker.Subscribe(t.Context(), "orion:events:job:j1")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 500_000_000, time.FixedZone("", 3600))
	err := c.Announce(t.Context(), []News{
		{Job: "j1", Event: "job.status.running", At: at, Payload: map[string]any{"status": "RUNNING"}},
		{Job: "j2", Event: "job.status.failed", At: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := sub.ReceiveTimeout(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"emitter_version":"1","event":"job.status.running","payload":{"status":"RUNNING"},"ts":"2026-11-25T11:00:00.500000+00:00"}`
	if d := cmp.Diff(want, got.(*redis.Message).Payload); d != "" {
		t.Error(d)
	}
	if err := c.Announce(t.Context(), nil); err != nil {
		t.Errorf("no news: %v", err)
	}
}
