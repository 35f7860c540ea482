package bridge

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// TestTheTablesMayComeLater: nanoos may be started before the platform's
// migrations have run.
func TestTheTablesMayComeLater(t *testing.T) {
	t.Parallel()
	w := &world{t: t, cluster: shared.Get(t), st: storetest.NewModel(time.Now)}
	w.url = w.cluster.CreateDB(t)
	w.q = queue.New(w.st, queue.Options{})
	if _, err := w.q.Attach(t.Context(), job.Session{Worker: "node7-abc123", Host: "h", Boot: "b", Offer: offer}, nil); err != nil {
		t.Fatal(err)
	}
	asked, silent := w.open(), w.open()
	w.run(asked)
	w.run(silent)
	if asked.Found() || asked.Health() != nil {
		t.Errorf("without tables: found %v, health %v", asked.Found(), asked.Health())
	}
	unknown := job.NewID()
	if _, err := asked.Import(t.Context(), unknown); job.CodeOf(err) != job.NotFound {
		t.Errorf("imported without tables: %v", err)
	}
	if _, _, err := asked.Cancel(t.Context(), unknown); job.CodeOf(err) != job.NotFound {
		t.Errorf("cancelled without tables: %v", err)
	}
	if err := asked.Queued(t.Context(), unknown, "a task"); err != nil {
		t.Errorf("a job of no platform: %v", err)
	}
	for _, file := range []string{"first.sql", "guard.sql"} {
		ddl, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		w.sql(string(ddl))
	}
	id := w.pending()
	w.submit(asked, id) // whoever asks need not wait for the next look
	w.finish(w.claim(), succeeded(id))
	w.wait(id, "status", "COMPLETED")
	eventually(t, silent.Found, func() string { return "nobody looked again" })
}
