package redistest_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

func TestAServerAnswersAndKeepsItsDatabasesApart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Options{})
	s.Do(t, 3, "RPUSH", "list", "a", "b\r\n", "")
	if diff := cmp.Diff([]any{"a", "b\r\n", ""}, s.Do(t, 3, "LRANGE", "list", "0", "-1")); diff != "" {
		t.Error(diff)
	}
	if n := s.Do(t, 0, "EXISTS", "list"); n != int64(0) {
		t.Errorf("database 0 holds the list of database 3: %v", n)
	}
	if v := s.Do(t, 0, "GET", "nothing"); v != nil {
		t.Errorf("a missing key reads %v", v)
	}
}

func TestAKilledServerKeepsWhatItWasToldToKeep(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]any{"nothing": nil, "everything": "value"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, redistest.Options{AppendOnly: want != nil, Password: `pass word"#`})
			s.Do(t, 0, "SET", "key", "value")
			s.Kill(t)
			if _, err := s.Try(0, "PING"); err == nil {
				t.Error("a killed server answers")
			}
			s.Restart(t)
			if got := s.Do(t, 0, "GET", "key"); got != want {
				t.Errorf("after the crash the key holds %v, want %v", got, want)
			}
			s.Stop(t)
			s.Lose(t)
			s.Restart(t)
			if got := s.Do(t, 0, "GET", "key"); got != nil {
				t.Errorf("after the loss the key holds %v", got)
			}
		})
	}
}

func TestAServerSpeaksTLSAlone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Options{TLS: true})
	if !strings.HasPrefix(s.URL(0), "rediss://") {
		t.Errorf("the address is %s", s.URL(0))
	}
	if got := s.Do(t, 0, "PING"); got != "PONG" {
		t.Errorf("the server says %v", got)
	}
}

func TestAServerRefusesWhatItsMemoryDoesNotHold(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Options{MaxMemory: 2 << 20})
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = s.Try(0, "SET", "key"+strconv.Itoa(i), strings.Repeat("x", 1<<16))
	}
	if err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Errorf("a full server says %v", err)
	}
}
