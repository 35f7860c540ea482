package postgres

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

func TestG1_AServerThatDoesNotFlushIsRefused(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"fsync", "full_page_writes"} {
		cluster := pgtest.Start(t, pgtest.Options{Durable: true, Settings: []string{setting + " = off"}})
		_, err := Open(t.Context(), cluster.URL(), Options{})
		if job.CodeOf(err) != job.Invalid || !strings.Contains(err.Error(), setting+" is off") {
			t.Errorf("%s = off: error is %v", setting, err)
		}
	}
}

// The server's own settings do not decide what an answer is worth.
func TestG1_S2_EverySessionHasOurSettings(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Options{Settings: []string{"synchronous_commit = off", "statement_timeout = 0", "lock_timeout = 0"}})
	s := openURL(t, cluster.CreateDB(t))
	defer s.Close()
	for _, want := range settings {
		if want.name == "tcp_user_timeout" {
			continue // the kernel's answer may differ
		}
		var got string
		err := s.Read(t.Context(), func(tx store.ReadTx) error {
			_, err := tx.(*readTx).row(t.Context(), 0, "SELECT current_setting($1)", []any{want.name}, &got)
			return err
		})
		if err != nil || got != want.value {
			t.Errorf("%s is %q (%v), want %q", want.name, got, err, want.value)
		}
	}
}

func TestAddressesOfSQLAlchemyAreUnderstood(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(emptyDB(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"postgresql+asyncpg://%s@%s%s?ssl=disable&command_timeout=60", "postgres+asyncpg://%s@%s%s?ssl=false", "postgresql://%s@%s%s?sslmode=disable"} {
		s, err := Open(t.Context(), fmt.Sprintf(form, u.User, u.Host, u.Path), Options{AllowUnsafeServer: true})
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		s.Close()
	}
	for _, bad := range []string{"mysql://x/y", "postgres://u:secret@h:port/db", "://", "postgres://u:secret@127.0.0.1:1/db?sslmode=sometimes"} {
		_, err := Open(t.Context(), bad, Options{})
		if job.CodeOf(err) != job.Invalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error is %v", bad, err)
		}
	}
	if _, err := Open(t.Context(), "postgres://u:secret@127.0.0.1:1/db", Options{}); job.CodeOf(err) != job.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("an address where nothing listens: %v", err)
	}
}
