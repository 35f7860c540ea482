package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/dsn"
	"github.com/nano-os/nanoos/internal/job"
)

// bounds are the longest times that anything here takes. Nothing waits longer,
// so a database that is away or frozen holds nobody up.
type bounds struct {
	connect   time.Duration // one attempt to connect, with TLS and the settings
	answer    time.Duration // one round trip; a statement ends after 15 s on the server
	reconnect time.Duration // how long a batch waits for a database that is away, so that a restart is not noticed
	resolve   time.Duration // the truth about a commit; longer than the server takes to notice that a client is gone
	turn      time.Duration // a write waits for its turn behind two connects and a commit in doubt
	reader    time.Duration // a read waits for its turn
	work      time.Duration // the first caller of a batch waits for the others to run; the rest is left for the next
}

var usualBounds = bounds{
	connect: 5 * time.Second, answer: 20 * time.Second, reconnect: 5 * time.Second,
	resolve: 25 * time.Second, turn: 30 * time.Second, reader: 10 * time.Second,
	work: 20 * time.Millisecond,
}

// settings hold for every session of ours, whatever the server's defaults are
// (S2, G1). The keepalives and the TCP timeout make the server notice within
// 20 s that a client is gone that holds locks.
var settings = []struct{ name, value string }{
	{"synchronous_commit", "on"},
	{"statement_timeout", "15s"},
	{"lock_timeout", "3s"},
	{"idle_in_transaction_session_timeout", "30s"},
	{"tcp_keepalives_idle", "5"},
	{"tcp_keepalives_interval", "5"},
	{"tcp_keepalives_count", "3"},
	{"tcp_user_timeout", "20s"}, // since 12
	{"jit", "off"},              // since 11; compiling a plan takes longer than our queries
	{"application_name", "nanoos"},
}

// applySettings sets those that the server knows. They are set by a statement
// and not at the start of the session, because poolers refuse the latter.
const applySettings = `
SELECT set_config(s.name, v.value, false)
FROM unnest($1::text[], $2::text[]) AS v(name, value) JOIN pg_settings s ON s.name = v.name`

// parseURL reads the address of a database, in PostgreSQL's own form or in
// SQLAlchemy's.
func parseURL(raw string) (*pgx.ConnConfig, error) {
	u, err := dsn.Parse(raw)
	if err != nil {
		return nil, badURL(err.Error())
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, badURL(strings.ReplaceAll(err.Error(), u.String(), u.Redacted()))
	}
	keepalive := net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}
	cfg.DialFunc = (&net.Dialer{KeepAliveConfig: keepalive}).DialContext
	return cfg, nil
}

func badURL(why string) error {
	return &job.Error{Code: job.Invalid, Message: "the address of the database cannot be used", Why: why,
		Fix: "write it as postgres://USER:PASSWORD@HOST:5432/DATABASE"}
}

// server is where sessions are opened.
type server struct {
	cfg    *pgx.ConnConfig
	bounds bounds
}

// connect opens a session with our settings.
func (s *server) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bounds.connect)
	defer cancel()
	pg, err := pgx.ConnectConfig(ctx, s.cfg.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", s.unreachable(err))
	}
	names, values := make([]string, len(settings)), make([]string, len(settings))
	for i, s := range settings {
		names[i], values[i] = s.name, s.value
	}
	if _, err := pg.Exec(ctx, applySettings, names, values); err != nil {
		closeSession(pg)
		return nil, fmt.Errorf("set up the session: %w", s.unreachable(err))
	}
	return &conn{pg: pg, answer: s.bounds.answer}, nil
}

func (s *server) unreachable(err error) error {
	if hasCode(err, "28P01", "28000", "3D000", "42501") { // password, role, database, permission
		return &job.Error{Code: job.Unavailable, Message: "the database refuses us", Why: err.Error(), Err: err,
			Fix: "correct the address, the password or the permissions of the database"}
	}
	return &job.Error{Code: job.Unavailable, Message: "the database does not answer", Why: err.Error(), Err: err,
		Fix: fmt.Sprintf("make sure that PostgreSQL runs and listens on %s, port %d", s.cfg.Host, s.cfg.Port)}
}

// checkServer refuses a server on which an answer would not mean that a commit
// is durable (G1), and one that is too old.
func checkServer(ctx context.Context, c *conn, opt Options) error {
	var version int
	var fsync, pages, encoding string
	var standby bool
	err := c.pg.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('full_page_writes'),
	current_setting('server_encoding'), pg_is_in_recovery()`).Scan(&version, &fsync, &pages, &encoding, &standby)
	if err != nil {
		return fault("ask the server for its settings", err)
	}
	refuse := func(message, why, fix string) error {
		return &job.Error{Code: job.Invalid, Message: message, Why: why, Fix: fix}
	}
	switch {
	case version < 100000:
		return refuse("PostgreSQL is too old", fmt.Sprintf("the server has version %d", version), "use PostgreSQL 10 or later")
	case !opt.AllowUnsafeServer && (fsync != "on" || pages != "on"):
		return refuse("PostgreSQL would lose what it has accepted", fmt.Sprintf("fsync is %s and full_page_writes is %s", fsync, pages),
			"set both to on in postgresql.conf and restart PostgreSQL")
	case encoding != "UTF8":
		return refuse("the database cannot store every text", "its encoding is "+encoding, "create it with ENCODING 'UTF8'")
	case standby:
		return refuse("PostgreSQL is a standby", "it accepts no changes", "use the address of the primary server")
	}
	return nil
}
