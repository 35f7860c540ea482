package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
)

// access says what every route does; a role permits or forbids it. A route that
// is not listed is forbidden to everybody, and a test finds it (T15, T20).
var access = map[string]auth.Action{
	"GET /{$}":              auth.Public,
	"GET /assets/style.css": auth.Public,
	"GET /api/docs":         auth.Public,
	"GET " + documentPath:   auth.Public,
	"GET /healthz":          auth.Public,
	"GET /readyz":           auth.Public,

	"GET /api/v1/jobs":                       auth.Use,
	"POST /api/v1/jobs":                      auth.Use,
	"POST /api/v1/jobs/bulk":                 auth.Use,
	"GET /api/v1/jobs/{ref}":                 auth.Use,
	"PATCH /api/v1/jobs/{ref}":               auth.Use,
	"POST /api/v1/jobs/{ref}/cancel":         auth.Use,
	"POST /api/v1/jobs/{ref}/retry":          auth.Use,
	"POST /api/v1/jobs/{ref}/hold":           auth.Use,
	"POST /api/v1/jobs/{ref}/release":        auth.Use,
	"GET /api/v1/jobs/{ref}/result":          auth.Use,
	"GET /api/v1/jobs/{ref}/explain":         auth.Use,
	"GET /api/v1/jobs/{ref}/attempts":        auth.Use,
	"GET /api/v1/jobs/{ref}/events":          auth.Use,
	"GET /api/v1/jobs/{ref}/logs":            auth.Use,
	"GET /api/v1/jobs/{ref}/files":           auth.Use,
	"GET /api/v1/jobs/{ref}/files/{path...}": auth.Use,
	"PUT /api/v1/inputs":                     auth.Use,

	"POST /api/v1/simulations/{job_id}/submit":        auth.Use,
	"POST /api/v1/simulations/{job_id}/submit-dummy":  auth.Use,
	"POST /api/v1/simulations/{job_id}/cancel":        auth.Use,
	"GET /api/v1/simulations/{job_id}/task-status":    auth.Use,
	"POST /api/v1/simulations/{job_id}/update-status": auth.Use,

	"GET /api/v1/events":         auth.Use,
	"GET /api/v1/queues":         auth.Use,
	"GET /api/v1/queues/{name}":  auth.Use,
	"GET /api/v1/workers":        auth.Use,
	"GET /api/v1/engines":        auth.Use,
	"GET /api/v1/engines/{name}": auth.Use,
	"GET /api/v1/status":         auth.Use,
	"GET /api/v1/version":        auth.Use,
	"GET /metrics":               auth.Use,

	"POST /api/v1/queues":                auth.Manage,
	"PATCH /api/v1/queues/{name}":        auth.Manage,
	"POST /api/v1/workers/{name}/drain":  auth.Manage,
	"POST /api/v1/workers/{name}/resume": auth.Manage,
	"DELETE /api/v1/workers/{name}":      auth.Manage,
	"GET /api/v1/tokens":                 auth.Manage,
	"POST /api/v1/tokens":                auth.Manage,
	"DELETE /api/v1/tokens/{id}":         auth.Manage,

	"POST " + workerPath + "attach":                          auth.Work,
	"POST " + workerPath + "claim":                           auth.Work,
	"POST " + workerPath + "interrupt":                       auth.Work,
	"POST " + workerPath + "beat":                            auth.Work,
	"POST " + workerPath + "orders":                          auth.Work,
	"POST " + workerPath + "finish":                          auth.Work,
	"POST " + workerPath + "leave":                           auth.Work,
	"PUT " + workerPath + "artifacts/{key...}":               auth.Work,
	"GET " + workerPath + "artifacts/{key...}":               auth.Work,
	"POST " + workerPath + "output/{job}/{attempt}/{stream}": auth.Work,
}

// open reports whether the server asks nobody for a token, and so must talk to
// its own machine only.
func (s *Server) open() bool { return s.opt.Token == nil && !s.opt.RequireToken }

// authenticate finds out who asks, and whether the role permits what the route
// does. Only digests are kept and compared, in constant time (T18, G19).
func (s *Server) authenticate(routes *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := auth.Use // what is not there is nobody's to know
		if _, pattern := routes.Handler(r); pattern != "" {
			action = access[pattern]
		}
		who, err := s.identify(r)
		switch {
		case err == nil:
			infoOf(r.Context()).who = who
		case action == auth.Public:
			err = nil
		}
		if err == nil && action != auth.Public && !who.role.May(action) {
			err = &job.Error{Code: job.Forbidden, Message: "the token does not permit this",
				Why: fmt.Sprintf("it is for the role %q", who.role), Fix: "use a token of another role: nanoos token create"}
		}
		if err != nil {
			s.unknown(w, r, err)
			return
		}
		if id := who.token.ID; id != "" {
			ctx, end := s.keys.hold(r.Context(), id)
			defer end()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// errNoToken asks for a token.
var errNoToken = &job.Error{Code: job.Forbidden, Message: "the request has no valid token",
	Fix: "set NANOOS_TOKEN, or send the header: Authorization: Bearer TOKEN"}

// unknown answers somebody who may not go on. An address that has failed too
// often is told to wait; a valid token from there is served all the same, for
// many machines may share it.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(r.Context(), err)
	if err == errNoToken {
		w.Header().Set("WWW-Authenticate", `Bearer realm="nanoos"`)
		p.Status, p.Title = http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized)
		failing := []string{"address " + hostOf(r.RemoteAddr)}
		if id := auth.IDOf(bearer(r)); id != "" {
			failing = append(failing, "token "+id)
		}
		if !s.failures.spend(time.Now(), failing...) {
			p = problemOf(r.Context(), &job.Error{Code: job.Exhausted, Message: "too many requests without a valid token", Fix: errNoToken.Fix})
		}
	}
	writeProblem(w, p)
}

// bearer is the secret that a request carries, "" for none.
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return secret
}

// identify returns who makes a request: whoever has the server's own token or
// sits at its machine, or the owner of a token of the store.
func (s *Server) identify(r *http.Request) (identity, error) {
	owner := identity{tenant: job.DefaultTenant, role: auth.Admin}
	secret := bearer(r)
	if s.opt.Token != nil {
		sum := sha256.Sum256([]byte(secret))
		if subtle.ConstantTimeCompare(sum[:], s.opt.Token[:]) == 1 && secret != "" {
			return owner, nil
		}
	}
	if auth.IDOf(secret) == "" {
		if s.open() {
			return owner, nil
		}
		return identity{}, errNoToken
	}
	t, ok, err := s.keys.find(r.Context(), secret)
	switch {
	case err != nil:
		return identity{}, err
	case !ok:
		return identity{}, errNoToken
	}
	return identity{name: t.Name, tenant: t.Tenant(), role: t.Role, token: t}, nil
}

// Failed authentications: so many at once, and so many a second from there on.
const (
	failureBurst  = 100
	failurePerSec = 1
	maxFailing    = 10_000
)

// failures limits requests without a valid token by address and by token (T18).
type failures struct {
	burst float64 // zero means failureBurst

	mu sync.Mutex
	by map[string]allowance // guarded by mu
}

type allowance struct {
	left float64
	at   time.Time
}

// spend counts a failure under every key; false means that one has had too many.
func (f *failures) spend(now time.Time, keys ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	burst := f.burst
	if burst == 0 {
		burst = failureBurst
	}
	if f.by == nil || len(f.by) > maxFailing {
		f.by = map[string]allowance{}
	}
	ok := true
	for _, key := range keys {
		a, known := f.by[key]
		if !known {
			a = allowance{left: burst}
		} else {
			a.left = min(burst, a.left+now.Sub(a.at).Seconds()*failurePerSec)
		}
		a.at = now
		if a.left < 1 {
			ok = false
		} else {
			a.left--
		}
		f.by[key] = a
	}
	return ok
}
