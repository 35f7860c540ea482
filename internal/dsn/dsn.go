// Package dsn reads the address of a PostgreSQL, in PostgreSQL's own form or in
// SQLAlchemy's.
package dsn

import (
	"errors"
	"net/url"
	"strings"
)

// SchemeError is the address of another kind of database.
type SchemeError struct{ Scheme string }

func (e *SchemeError) Error() string { return "its scheme is not postgres or postgresql" }

// Parse returns an address in PostgreSQL's form. Its errors never quote the
// address, which may hold a password (G19).
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("it is not a URL") // the error would quote the password
	}
	scheme, driver, _ := strings.Cut(u.Scheme, "+")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, &SchemeError{scheme}
	}
	u.Scheme = scheme
	if driver != "" {
		u.RawQuery = fromSQLAlchemy(u.Query()).Encode()
	}
	return u, nil
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
