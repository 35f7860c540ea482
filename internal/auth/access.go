package auth

import (
	"crypto/subtle"
	"slices"
	"strings"
	"time"
)

// Action is a kind of thing that somebody may want to do. Every route has one.
type Action string

const (
	Public Action = "public" // shows nothing of anybody's; needs no token
	Use    Action = "use"    // jobs and their results, and how the installation is
	Manage Action = "manage" // queues, workers, tokens
	Work   Action = "work"   // speak for a worker and for the jobs that it holds
)

// May reports whether a role covers an action. What is not listed is refused.
func (r Role) May(a Action) bool {
	switch r {
	case Admin:
		return a == Public || a == Use || a == Manage || a == Work
	case Worker:
		return a == Public || a == Work
	}
	return false
}

// Known reports whether there is such a role.
func (r Role) Known() bool { return slices.Contains(Roles, r) }

// Keyring finds tokens by their secrets.
type Keyring map[string]Token

// NewKeyring returns a keyring of tokens.
func NewKeyring(tokens []Token) Keyring {
	k := make(Keyring, len(tokens))
	for _, t := range tokens {
		k[t.ID] = t
	}
	return k
}

// noDigest is compared with where there is no token: it is no digest of anything.
var noDigest = strings.Repeat("-", len(Digest("")))

// Find returns the token of a secret, if it is valid at a time. It takes the
// same work whether the id is known or not, and digests are compared in
// constant time (T18).
func (k Keyring) Find(secret string, now time.Time) (Token, bool) {
	t, known := k[IDOf(secret)]
	if !known {
		t.Digest = noDigest
	}
	same := subtle.ConstantTimeCompare([]byte(Digest(secret)), []byte(t.Digest)) == 1
	if !same || !t.Valid(now) {
		return Token{}, false
	}
	return t, true
}
