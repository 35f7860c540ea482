// Package wire speaks Celery's protocol on Redis: task messages, the emulation of
// acknowledgements, results, workflows, remote control and events. It knows how
// things look there, and nothing of what they mean here.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Orders in which messages are taken.
const (
	OrderPriority = "priority" // the highest number first, as NANO-OS documents
	OrderRedis    = "redis"    // the lowest step first, as Celery's transport does
)

// Options of a Client. Zero fields mean Celery's own defaults; an application
// that sets broker_transport_options must have the same here, or nothing is seen.
type Options struct {
	URL       string // redis://, rediss:// or unix://, with user, password and database
	ResultURL string // of the results; empty means the same
	// AllowOpen accepts a Redis on another machine that asks for no password (T32).
	AllowOpen bool
	Order     string

	Separator       string
	Steps           []int
	Prefix          string // global_keyprefix
	UnackedKey      string
	UnackedIndexKey string
	UnackedMutexKey string
	// VisibilityTimeout is how long a consumer that is not heard of keeps a
	// message (1 h).
	VisibilityTimeout time.Duration

	FanoutPrefix     string // instead of the number of the database
	NoFanoutPrefix   bool
	NoFanoutPatterns bool

	ResultPrefix  string
	ResultExpires time.Duration // 24 h

	// DeadLetters is the list of messages that were no tasks.
	DeadLetters string
	// Routes name the queues of tasks that are published in workflows.
	Routes map[string]string
	// DefaultQueue is where those go that are nowhere else sent to; empty means
	// the queue of the task that they follow.
	DefaultQueue string
}

func (o *Options) complete() {
	o.Order = cmp.Or(o.Order, OrderPriority)
	o.Separator = cmp.Or(o.Separator, "\x06\x16")
	if len(o.Steps) == 0 {
		o.Steps = []int{0, 3, 6, 9}
	}
	o.Steps = slices.Compact(slices.Sorted(slices.Values(o.Steps)))
	o.UnackedKey = cmp.Or(o.UnackedKey, "unacked")
	o.UnackedIndexKey = cmp.Or(o.UnackedIndexKey, "unacked_index")
	o.UnackedMutexKey = cmp.Or(o.UnackedMutexKey, "unacked_mutex")
	o.VisibilityTimeout = cmp.Or(o.VisibilityTimeout, time.Hour)
	o.ResultExpires = cmp.Or(o.ResultExpires, 24*time.Hour)
	o.DeadLetters = cmp.Or(o.DeadLetters, "nanoos.dead-letters")
	if o.ResultPrefix != "" && !strings.ContainsAny(o.ResultPrefix[len(o.ResultPrefix)-1:], ":_-.") {
		o.ResultPrefix += "_"
	}
}

// Client is a connection to the broker and to the results.
type Client struct {
	opt     Options
	broker  *redis.Client
	results *redis.Client // the same, unless they are elsewhere
	clock   lamport
	last    atomic.Int64 // when a message came last, Unix ns

	mu    sync.Mutex
	bound map[string]Queue // guarded by mu: by name
}

const (
	// dialTimeout and ioTimeout bound every wait for Redis.
	dialTimeout, ioTimeout = 3 * time.Second, 5 * time.Second
	// connections are enough for the loops of a server, and few for Redis.
	connections = 8
)

// Open returns a client, which connects when it is first used. Its error means
// that the addresses are wrong.
func Open(opt Options) (*Client, error) {
	opt.complete()
	// The driver has one log for all, and writes to it what its errors say anyway.
	redis.SetLogger(quiet{})
	broker, err := connect(opt.URL)
	if err != nil {
		return nil, fmt.Errorf("the address of Redis is wrong: %w", err)
	}
	c := &Client{opt: opt, broker: broker, results: broker, bound: make(map[string]Queue)}
	if opt.ResultURL != "" && opt.ResultURL != opt.URL {
		if c.results, err = connect(opt.ResultURL); err != nil {
			return nil, errors.Join(fmt.Errorf("the address of the results' Redis is wrong: %w", err), broker.Close())
		}
	}
	return c, nil
}

// connect prepares the connections to one Redis.
func connect(address string) (*redis.Client, error) {
	address, certificates, err := asGo(address)
	if err != nil {
		return nil, err
	}
	opt, err := redis.ParseURL(address)
	if err != nil {
		return nil, withoutSecrets(err)
	}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	opt.PoolSize, opt.PoolTimeout = connections, ioTimeout
	// What was cut off may have run: whoever calls knows whether it may run again.
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.ContextTimeoutEnabled = true
	// Nobody here understands messages about maintenance.
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if opt.TLSConfig != nil {
		opt.TLSConfig.MinVersion = tls.VersionTLS12
		if err := certificates.add(opt.TLSConfig); err != nil {
			return nil, err
		}
	}
	return redis.NewClient(opt), nil
}

// certificates are files that an address names for TLS.
type certificates struct{ authorities, own, key string }

// asGo turns an address of Celery's into one of the driver's, which has other
// words for a socket and none for certificates.
func asGo(address string) (string, certificates, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", certificates{}, withoutSecrets(err)
	}
	q := u.Query()
	files := certificates{q.Get("ssl_ca_certs"), q.Get("ssl_certfile"), q.Get("ssl_keyfile")}
	// Certificates are always checked.
	for _, name := range []string{"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"} {
		q.Del(name)
	}
	if u.Scheme == "redis+socket" || u.Scheme == "socket" {
		u.Scheme = "unix"
		if q.Has("virtual_host") {
			q.Set("db", strings.Trim(q.Get("virtual_host"), "/"))
			q.Del("virtual_host")
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), files, nil
}

func (f certificates) add(to *tls.Config) error {
	if f.authorities != "" {
		pem, err := os.ReadFile(f.authorities)
		if err != nil {
			return fmt.Errorf("ssl_ca_certs: %w", err)
		}
		to.RootCAs = x509.NewCertPool()
		if !to.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("ssl_ca_certs: there is no certificate in %s", f.authorities)
		}
	}
	if f.own != "" {
		own, err := tls.LoadX509KeyPair(f.own, cmp.Or(f.key, f.own))
		if err != nil {
			return fmt.Errorf("ssl_certfile: %w", err)
		}
		to.Certificates = []tls.Certificate{own}
	}
	return nil
}

// withoutSecrets drops the address from an error: a password may be anywhere in it.
func withoutSecrets(err error) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return errors.New("it cannot be read as a URL; write redis://user:password@host:6379/0, with %40 for @ in a password, %2F for / and so on")
	}
	return err
}

// Close ends the connections.
func (c *Client) Close() error {
	err := c.broker.Close()
	if c.results != c.broker {
		err = errors.Join(err, c.results.Close())
	}
	return err
}

// Check asks both Redis whether they can be used; the error says what is wrong
// and how to cure it.
func (c *Client) Check(ctx context.Context) error {
	if err := c.check(ctx, c.broker); err != nil {
		return err
	}
	if c.results != c.broker {
		return c.check(ctx, c.results)
	}
	return nil
}

func (c *Client) check(ctx context.Context, r *redis.Client) error {
	if err := r.Ping(ctx).Err(); err != nil {
		return inWords(err, r.Options())
	}
	opt := r.Options()
	if opt.Password != "" || c.opt.AllowOpen || local(opt) {
		return nil
	}
	return fmt.Errorf("refusing Redis at %s: it asks for no password, and whoever reaches it can submit and cancel jobs; "+
		"set one (requirepass, or a user), or allow it: celery.allow_open", opt.Addr)
}

// local reports whether only this machine can reach a Redis.
func local(opt *redis.Options) bool {
	if opt.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(opt.Addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// inWords says what an error of Redis means.
func inWords(err error, opt *redis.Options) error {
	text, means := err.Error(), ""
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case strings.HasPrefix(text, "NOAUTH"):
		means = "it wants a password; write redis://user:password@host (a server with requirepass alone has the user default)"
	case strings.HasPrefix(text, "WRONGPASS"):
		means = "the user or the password is wrong; write redis://user:password@host (a server with requirepass alone has the user default)"
	case strings.HasPrefix(text, "NOPERM"):
		means = "the user may not do this; it needs all keys, all channels and the commands of a worker"
	case strings.HasPrefix(text, "LOADING"):
		means = "it is reading its data; wait"
	case strings.HasPrefix(text, "READONLY"):
		means = "it is a replica; use the address of the primary"
	case strings.HasPrefix(text, "MISCONF"):
		means = "it cannot write to its disk and takes nothing until it can"
	case strings.HasPrefix(text, "BUSY "):
		means = "a script keeps it busy"
	case strings.HasPrefix(text, "OOM"):
		means = "it is full (maxmemory); nothing is lost, and nothing is taken until there is room"
	case strings.Contains(text, "tls:"), strings.Contains(text, "x509:"), strings.Contains(text, "first record does not look like a TLS handshake"):
		means = "TLS failed; check rediss:// and the certificates (SSL_CERT_FILE)"
	case opt.TLSConfig == nil && errors.Is(err, io.EOF):
		means = "it closed the connection; perhaps it speaks TLS: rediss://"
	case refused(err):
		means = "it refuses"
	case opt.TLSConfig != nil && errors.Is(err, context.DeadlineExceeded):
		means = "it does not answer; perhaps it does not speak TLS: redis://"
	default:
		means = "it does not answer"
	}
	return fmt.Errorf("Redis at %s: %s: %w", opt.Addr, means, err)
}

// refused reports whether Redis itself says that it does not do something.
func refused(err error) bool {
	_, answered := errors.AsType[redis.Error](err)
	return answered
}

// quiet is a log that nothing is written to.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
