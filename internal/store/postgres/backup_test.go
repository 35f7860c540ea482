package postgres

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func TestF39_ABackupTakenUnderLoadRestoresOneCommitFrozen(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := submit(s, benchJob(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	err := eventually(func() error {
		if s.Stats().Ops < 50 {
			return errors.New("too few jobs")
		}
		return nil
	})
	var backup bytes.Buffer
	if err == nil {
		err = s.Backup(t.Context(), &backup)
	}
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	target := emptyDB(t)
	for _, n := range []int{0, 100, backup.Len() / 2, backup.Len() - 20} {
		if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes()[:n])); job.CodeOf(err) != job.Invalid {
			t.Errorf("the first %d bytes of a backup of %d: error is %v", n, backup.Len(), err)
		}
	}
	if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	r := openURL(t, target)
	defer r.Close()
	checkRestored(t, r)
	if err := submit(r, benchJob(3)); err != nil {
		t.Errorf("submit after the restore: %v", err)
	}
	if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes())); job.CodeOf(err) != job.Conflict {
		t.Errorf("a second restore: error is %v", err)
	}
}

// The file was written by the release whose newest schema was 1.
func TestF37_ABackupOfAnEarlierReleaseIsRestored(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/schema-1.backup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	target := emptyDB(t)
	if err := Restore(t.Context(), target, f); err != nil {
		t.Fatal(err)
	}
	s := openURL(t, target)
	defer s.Close()
	err = s.Write(t.Context(), func(tx store.Tx) error {
		j, err := tx.Job(t.Context(), "", "01890a5d-ac96-774b-bcce-b302099a8057")
		if j.State != job.Queued {
			t.Errorf("the job is %+v", j)
		}
		return errors.Join(err, tx.SaveTickets(t.Context(), []store.Ticket{{Door: "d", ID: "t"}}))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestG21_ABackupHasTheTickets(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	want := store.Ticket{Door: "d", ID: "t", State: store.TicketOpen, Job: job.NewID(), Node: "n", Body: []byte("\x00\\\t\n\xff")}
	err := s.Write(t.Context(), func(tx store.Tx) error {
		want.CreatedAt, want.UpdatedAt, want.Due = tx.Now(), tx.Now(), tx.Now()
		return tx.SaveTickets(t.Context(), []store.Ticket{want})
	})
	var backup bytes.Buffer
	if err = errors.Join(err, s.Backup(t.Context(), &backup)); err != nil {
		t.Fatal(err)
	}
	target := emptyDB(t)
	if err := Restore(t.Context(), target, &backup); err != nil {
		t.Fatal(err)
	}
	r := openURL(t, target)
	defer r.Close()
	err = r.Read(t.Context(), func(tx store.ReadTx) error {
		got, err := tx.Tickets(t.Context(), "d", []string{"t"})
		if d := cmp.Diff([]store.Ticket{want}, got); d != "" {
			t.Errorf("tickets (-want +got):\n%s", d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkRestored expects a frozen installation with one event for each job.
func checkRestored(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	err := s.Read(ctx, func(tx store.ReadTx) error {
		counts, err := tx.Counts(ctx, "")
		if err != nil {
			return err
		}
		last, err := tx.LastEvent(ctx)
		if err != nil {
			return err
		}
		if len(counts) != 1 || counts[0].Jobs != last || last < 50 {
			t.Errorf("counts are %+v, the last event is %d", counts, last)
		}
		page, _, err := tx.Jobs(ctx, store.JobQuery{Limit: 1})
		if err != nil {
			return err
		}
		if len(page) != 1 || page[0].Fence != 1<<40 {
			t.Errorf("the last job is %+v", page)
		}
		incarnation, err := tx.Meta(ctx, "incarnation")
		if err != nil || incarnation != "1" {
			t.Errorf("the incarnation is %q", incarnation)
		}
		frozen, err := tx.Meta(ctx, "frozen")
		if !strings.Contains(frozen, "from the backup of") {
			t.Errorf("frozen is %q", frozen)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
