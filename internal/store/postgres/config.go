package postgres

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
)

const (
	// connectTimeout bounds one attempt to connect, with TLS and the settings.
	connectTimeout = 5 * time.Second
	// answerTimeout bounds one round trip. A statement ends after 15 s on the
	// server; the rest is for the way.
	answerTimeout = 20 * time.Second
)

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
	u, err := url.Parse(raw)
	if err != nil {
		return nil, badURL("it is not a URL") // the error would quote the password
	}
	scheme, driver, _ := strings.Cut(u.Scheme, "+")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, badURL("its scheme is not postgres or postgresql")
	}
	u.Scheme = scheme
	if driver != "" {
		u.RawQuery = fromSQLAlchemy(u.Query()).Encode()
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, badURL(strings.ReplaceAll(err.Error(), u.String(), u.Redacted()))
	}
	cfg.ConnectTimeout = connectTimeout
	keepalive := net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}
	cfg.DialFunc = (&net.Dialer{Timeout: connectTimeout, KeepAliveConfig: keepalive}).DialContext
	return cfg, nil
}

// fromSQLAlchemy turns the arguments that asyncpg understands into ours: ssl is
// sslmode there, and its settings of caches and timeouts mean nothing here.
func fromSQLAlchemy(q url.Values) url.Values {
	if ssl := q.Get("ssl"); ssl != "" && !q.Has("sslmode") {
		switch strings.ToLower(ssl) {
		case "true", "1", "on":
			ssl = "require"
		case "false", "0", "off":
			ssl = "disable"
		}
		q.Set("sslmode", ssl)
	}
	for _, name := range []string{"ssl", "timeout", "command_timeout", "async_fallback", "prepared_statement_cache_size",
		"prepared_statement_name_func", "statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"} {
		q.Del(name)
	}
	return q
}

func badURL(why string) error {
	return &job.Error{Code: job.Invalid, Message: "the address of the database cannot be used", Why: why,
		Fix: "write it as postgres://USER:PASSWORD@HOST:5432/DATABASE"}
}

// connect opens a session with our settings.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	pg, err := pgx.ConnectConfig(ctx, cfg.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", unreachable(cfg, err))
	}
	names, values := make([]string, len(settings)), make([]string, len(settings))
	for i, s := range settings {
		names[i], values[i] = s.name, s.value
	}
	if _, err := pg.Exec(ctx, applySettings, names, values); err != nil {
		closeSession(pg)
		return nil, fmt.Errorf("set up the session: %w", unreachable(cfg, err))
	}
	return &conn{pg: pg}, nil
}

func unreachable(cfg *pgx.ConnConfig, err error) error {
	if hasCode(err, "28P01", "28000", "3D000", "42501") { // password, role, database, permission
		return &job.Error{Code: job.Unavailable, Message: "the database refuses us", Why: err.Error(), Err: err,
			Fix: "correct the address, the password or the permissions of the database"}
	}
	return &job.Error{Code: job.Unavailable, Message: "the database does not answer", Why: err.Error(), Err: err,
		Fix: fmt.Sprintf("make sure that PostgreSQL runs and listens on %s, port %d", cfg.Host, cfg.Port)}
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
