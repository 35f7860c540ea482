package api

import (
	"context"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// keys are the tokens of the store as this server knows them.
type keys struct {
	st store.Store

	mu      sync.Mutex
	ring    auth.Keyring         // guarded by mu
	at      time.Time            // guarded by mu; when ring was read
	reading chan struct{}        // guarded by mu; closed when a read ends, nil when none is under way
	noted   map[string]time.Time // guarded by mu; when the use of a token was written down
	// holders are the requests under way that came with a token, by its id and a
	// number; guarded by mu.
	holders map[string]map[int64]context.CancelCauseFunc
	last    int64 // guarded by mu; the number of the last holder
}

const (
	// keysFresh is how long tokens are used as they were read, and keysStale how
	// long when the store does not answer: a revoked one ends within that (T19).
	keysFresh = 2 * time.Second
	keysStale = 5 * time.Second
	// keysTimeout bounds a read.
	keysTimeout = 3 * time.Second
	// noteEvery is how exactly the last use of a token is known.
	noteEvery = time.Hour
)

// find returns the token of a secret.
func (k *keys) find(ctx context.Context, secret string) (auth.Token, bool, error) {
	ring, err := k.current(ctx)
	if err != nil {
		return auth.Token{}, false, err
	}
	now := time.Now()
	t, ok := ring.Find(secret, now)
	if ok {
		k.note(ctx, t, now)
	}
	return t, ok, nil
}

// current returns tokens that are fresh enough. Of those who come together one
// reads them for all.
func (k *keys) current(ctx context.Context) (auth.Keyring, error) {
	for {
		k.mu.Lock()
		ring, age, reading := k.ring, time.Since(k.at), k.reading
		if ring != nil && age < keysFresh {
			k.mu.Unlock()
			return ring, nil
		}
		if reading == nil {
			k.reading = make(chan struct{})
			k.mu.Unlock()
			return k.read(ctx)
		}
		k.mu.Unlock()
		select {
		case <-reading:
			if ring, ok := k.usable(); ok {
				return ring, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// usable returns the tokens that were read last, unless they are stale.
func (k *keys) usable() (auth.Keyring, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring, k.ring != nil && time.Since(k.at) < keysStale
}

// read reads the tokens. The caller has set reading.
func (k *keys) read(ctx context.Context) (auth.Keyring, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
	defer cancel()
	began := time.Now()
	var tokens []auth.Token
	err := k.st.Read(ctx, func(tx store.ReadTx) (err error) {
		tokens, err = tx.Tokens(ctx)
		return err
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.reading)
	k.reading = nil
	if err == nil {
		k.ring, k.at = auth.NewKeyring(tokens), began
		k.expel(began)
		return k.ring, nil
	}
	if k.ring != nil && time.Since(k.at) < keysStale {
		return k.ring, nil
	}
	return nil, &job.Error{Code: job.Unavailable, Message: "tokens cannot be checked now", Why: "the database does not answer", Fix: "try again", Err: err}
}

// forget makes the next request read the tokens.
func (k *keys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = time.Time{}
}

// hold registers a request, which ends with its token; end must follow.
func (k *keys) hold(ctx context.Context, id string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	number := k.last
	if k.holders == nil {
		k.holders = map[string]map[int64]context.CancelCauseFunc{}
	}
	if k.holders[id] == nil {
		k.holders[id] = map[int64]context.CancelCauseFunc{}
	}
	k.holders[id][number] = cancel
	return ctx, func() {
		cancel(nil)
		k.mu.Lock()
		defer k.mu.Unlock()
		if delete(k.holders[id], number); len(k.holders[id]) == 0 {
			delete(k.holders, id)
		}
	}
}

// expel ends the requests whose token has ended. The caller holds mu.
func (k *keys) expel(now time.Time) {
	for id, requests := range k.holders {
		if t, known := k.ring[id]; known && t.Valid(now) {
			continue
		}
		for _, cancel := range requests {
			cancel(errTokenEnded)
		}
	}
}

var errTokenEnded = &job.Error{Code: job.Forbidden, Message: "the token has been revoked or has expired", Fix: "nanoos token create"}

// guard looks at the tokens while requests are under way, so that streams and
// long polls end with theirs, until ctx ends.
func (k *keys) guard(ctx context.Context) {
	for pause(ctx, keysFresh) {
		k.mu.Lock()
		idle := len(k.holders) == 0
		k.mu.Unlock()
		if !idle {
			// That the store does not answer is noticed by others.
			_, _ = k.current(ctx)
		}
	}
}

// note writes down that a token was used. That it cannot be written is no reason
// to refuse it.
func (k *keys) note(ctx context.Context, t auth.Token, now time.Time) {
	k.mu.Lock()
	if k.noted == nil {
		k.noted = map[string]time.Time{}
	}
	due := now.Sub(t.UsedAt) > noteEvery && now.Sub(k.noted[t.ID]) > noteEvery
	if due {
		k.noted[t.ID] = now
	}
	k.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	_ = k.st.Write(ctx, func(tx store.Tx) error {
		stored, err := findToken(ctx, tx, t.ID)
		if err != nil {
			return err
		}
		stored.UsedAt = tx.Now()
		return tx.SaveToken(ctx, stored)
	})
}
