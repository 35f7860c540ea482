package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/nano-os/nanoos/internal/dsn"
	"github.com/nano-os/nanoos/internal/job"
)

// Bounds of what the platform's database may cost. Nothing waits longer.
const (
	connectTimeout = 5 * time.Second
	// useTimeout bounds one use of a session; a statement ends after 8 s on the
	// server, and waits for a lock of the platform's for 2 s.
	useTimeout = 10 * time.Second
	// maxIdle bounds the sessions that are kept: the mirror's, and some for the
	// front doors. The platform's server is not ours to fill.
	maxIdle = 4
	// lookAgain is how long a session believes what it saw of the columns.
	lookAgain = time.Minute
	// seekEvery is how often a database without the platform's tables is asked
	// whether they have come.
	seekEvery = 5 * time.Second
)

// settings hold for every session. A pooler may lose them: no outcome depends on
// them.
var settings = []struct{ name, value string }{
	{"statement_timeout", "8s"},
	{"lock_timeout", "2s"},
	{"idle_in_transaction_session_timeout", "20s"},
	{"application_name", "nanoos-bridge"},
}

// applySettings is a statement of its own because poolers refuse settings at the
// start of a session.
const applySettings = `
SELECT set_config(s.name, v.value, false)
FROM unnest($1::text[], $2::text[]) AS v(name, value) JOIN pg_settings s ON s.name = v.name`

// database hands out sessions.
type database struct {
	cfg   *pgx.ConnConfig
	found chan struct{} // closed when the platform's tables have been seen
	see   func()        // closes it, once

	mu     sync.Mutex
	idle   []*session // guarded by mu
	closed bool       // guarded by mu
}

// session is a connection and what it saw of the tables. One goroutine uses it
// at a time.
type session struct {
	pg     *pgx.Conn
	schema schema
	seen   time.Time
}

func newDatabase(raw string) (*database, error) {
	u, err := dsn.Parse(raw)
	if other, ok := errors.AsType[*dsn.SchemeError](err); ok {
		return nil, fmt.Errorf("%w: the address of the database has the scheme %q, and a platform's is in PostgreSQL", ErrNoPlatform, other.Scheme)
	}
	if err != nil {
		return nil, badURL(err.Error())
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, badURL(strings.ReplaceAll(err.Error(), u.String(), u.Redacted()))
	}
	keepalive := net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}
	cfg.DialFunc = (&net.Dialer{KeepAliveConfig: keepalive}).DialContext
	// Nothing is prepared: the platform may change its tables at any time, and a
	// pooler may give us another session for each transaction.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	found := make(chan struct{})
	return &database{cfg: cfg, found: found, see: sync.OnceFunc(func() { close(found) })}, nil
}

func badURL(why string) error {
	return &job.Error{Code: job.Invalid, Message: "the address of the platform's database cannot be used", Why: why,
		Fix: "write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE"}
}

// use runs fn with a session. A session that broke while nobody used it, or that
// knows the columns of before a migration, is replaced once: fn may run twice.
func (d *database) use(ctx context.Context, fn func(context.Context, *session) error) error {
	ctx, cancel := context.WithTimeout(ctx, useTimeout)
	defer cancel()
	for try := 1; ; try++ {
		s, kept, err := d.take(ctx)
		if err != nil {
			return fault("connect to the platform's database", err)
		}
		err = fn(ctx, s)
		stale := hasCode(err, codeNoColumn, codeNoTable)
		d.put(s, stale)
		if err == nil {
			return nil
		}
		if try == 1 && ctx.Err() == nil && (stale || kept && s.pg.IsClosed()) {
			continue
		}
		return fault("use the platform's database", err)
	}
}

// take returns an idle session, or a new one.
func (d *database) take(ctx context.Context) (s *session, kept bool, err error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, false, errors.New("the bridge is closed")
	}
	if n := len(d.idle); n > 0 {
		s, d.idle = d.idle[n-1], d.idle[:n-1]
	}
	d.mu.Unlock()
	if s != nil && time.Since(s.seen) < lookAgain {
		return s, true, nil
	}
	if s != nil {
		if err := s.look(ctx); err == nil {
			return s, true, nil
		}
		closeSession(s.pg)
	}
	s, err = d.connect(ctx)
	return s, false, err
}

func (d *database) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	pg, err := pgx.ConnectConfig(ctx, d.cfg.Copy())
	if err != nil {
		return nil, err
	}
	names, values := make([]string, len(settings)), make([]string, len(settings))
	for i, s := range settings {
		names[i], values[i] = s.name, s.value
	}
	s := &session{pg: pg}
	if _, err = pg.Exec(ctx, applySettings, names, values); err == nil {
		err = s.look(ctx)
	}
	if err != nil {
		closeSession(pg)
		return nil, err
	}
	d.see()
	return s, nil
}

// put keeps a session for the next, unless it is of no more use.
func (d *database) put(s *session, stale bool) {
	d.mu.Lock()
	keep := !stale && !d.closed && len(d.idle) < maxIdle && !s.pg.IsClosed() && s.pg.PgConn().TxStatus() == 'I'
	if keep {
		d.idle = append(d.idle, s)
	}
	d.mu.Unlock()
	if !keep {
		closeSession(s.pg)
	}
}

func (d *database) close() {
	d.mu.Lock()
	idle := d.idle
	d.idle, d.closed = nil, true
	d.mu.Unlock()
	for _, s := range idle {
		closeSession(s.pg)
	}
}

// closeSession says goodbye, but not for long.
func closeSession(pg *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = pg.Close(ctx)
}

// Codes of PostgreSQL that have a meaning here.
const (
	codeNoColumn = "42703"
	codeNoTable  = "42P01"
	codeUnique   = "23505"
)

// busyCodes are errors that pass when other transactions have ended: lock
// timeout, deadlock, serialization failure, statement timeout.
var busyCodes = []string{"55P03", "40P01", "40001", "57014"}

func hasCode(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}

// refused reports that the database answered, and did not take what a row was to
// become: others may be luckier.
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !slices.ContainsFunc([]string{"08", "25", "28", "3D", "53", "57P", "58", "XX"}, func(class string) bool {
		return strings.HasPrefix(pg.Code, class)
	})
}

// fault turns an error of the database into what callers get: job.Unavailable
// unless the database refused a value.
func fault(what string, err error) error {
	if _, ok := errors.AsType[*job.Error](err); ok || errors.Is(err, ErrNoPlatform) {
		return err
	}
	if refused(err) && !hasCode(err, busyCodes...) && !hasCode(err, codeNoColumn, codeNoTable) {
		return fmt.Errorf("%s: %w", what, err)
	}
	message, fix := "the platform's database does not answer", "make sure that PostgreSQL runs; jobs go on meanwhile, and the platform is told later"
	if hasCode(err, busyCodes...) {
		message, fix = "the platform's database is busy with the same rows", "try again"
	}
	return &job.Error{Code: job.Unavailable, Message: message, Why: fmt.Sprintf("%s: %v", what, err), Err: err, Fix: fix}
}
