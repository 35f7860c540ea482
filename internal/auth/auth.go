// Package auth says who a token belongs to and what it may do. It keeps no
// token: an installation stores their digests, and a secret is shown once, when
// it is made.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Role is what a token is for.
type Role string

const (
	Admin  Role = "admin"  // everything
	Worker Role = "worker" // claim, beat and finish, and the files of its jobs (T20)
)

// Roles lists all of them.
var Roles = []Role{Admin, Worker}

// Token is a credential as it is stored.
type Token struct {
	ID     string `json:"id"` // public; the first part of the secret
	Role   Role   `json:"role"`
	Name   string `json:"name"` // for people
	Digest string `json:"digest"`
	// Queues limits a worker's token to the jobs of these; empty means all.
	Queues    []string  `json:"queues,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	RevokedAt time.Time `json:"revoked_at,omitzero"` // zero: valid
	UsedAt    time.Time `json:"used_at,omitzero"`    // roughly when it was last used; zero: never
}

// prefix marks our secrets, so that scanners of code and logs find them (T17).
const prefix = "nos_"

// New makes a token and its secret, "nos_ID_RANDOM" with 130 random bits. It is
// not valid before it is stored.
func New(role Role, name string, queues []string, now, expires time.Time) (t Token, secret string) {
	id := strings.ToLower(rand.Text()[:10])
	secret = prefix + id + "_" + rand.Text()
	return Token{ID: id, Role: role, Name: name, Digest: Digest(secret), Queues: queues, CreatedAt: now, ExpiresAt: expires}, secret
}

// Digest is what is stored of a secret. A plain hash is enough: nobody guesses
// 130 random bits.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// IDOf returns the public part of a secret, "" if it is none of ours.
func IDOf(secret string) string {
	rest, ours := strings.CutPrefix(secret, prefix)
	id, _, whole := strings.Cut(rest, "_")
	if !ours || !whole {
		return ""
	}
	return id
}

// Valid reports whether the token may be used at a time.
func (t Token) Valid(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// Serves reports whether the token covers a queue.
func (t Token) Serves(queue string) bool {
	return len(t.Queues) == 0 || slices.Contains(t.Queues, queue)
}

// Tenant is whose jobs the token sees.
func (t Token) Tenant() job.Tenant { return job.DefaultTenant }
