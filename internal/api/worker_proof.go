package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// prover makes and checks proofs. All servers of an installation share one key,
// kept in the store, so that each checks what another gave.
type prover struct {
	st  store.Store
	key atomic.Pointer[[]byte]
}

// proofKey is the setting of the installation that holds the key.
const proofKey = "worker_proof_key"

// proofLength is how many bytes of a hash make a proof: 128 bits cannot be
// guessed, and a worker keeps one for every lease.
const proofLength = 16

// session proves that a token has attached a worker.
func (p *prover) session(ctx context.Context, token, worker string) (proof, error) {
	return p.prove(ctx, "session", token, worker)
}

// lease proves that a token was given a job under a fence.
func (p *prover) lease(ctx context.Context, token string, id job.ID, fence job.Fence) (proof, error) {
	return p.prove(ctx, "lease", token, string(id), strconv.FormatInt(int64(fence), 10))
}

func (p *prover) prove(ctx context.Context, parts ...string) (proof, error) {
	key, err := p.load(ctx)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		// With its length before it no part runs into the next.
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return proof(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:proofLength])), nil
}

// load returns the key, which the first who asks makes.
func (p *prover) load(ctx context.Context) ([]byte, error) {
	if key := p.key.Load(); key != nil {
		return *key, nil
	}
	var stored string
	err := p.st.Read(ctx, func(tx store.ReadTx) (err error) {
		stored, err = tx.Meta(ctx, proofKey)
		return err
	})
	if err == nil && stored == "" {
		stored, err = p.make(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of proofs: %w", err)
	}
	key, err := hex.DecodeString(stored)
	if err != nil {
		return nil, fmt.Errorf("read the key of proofs: %w", err)
	}
	p.key.Store(&key)
	return key, nil
}

// make stores a key, unless another server has done so meanwhile.
func (p *prover) make(ctx context.Context) (stored string, err error) {
	fresh := make([]byte, sha256.Size)
	_, _ = rand.Read(fresh) // never fails
	err = p.st.Write(ctx, func(tx store.Tx) (err error) {
		if stored, err = tx.Meta(ctx, proofKey); err != nil || stored != "" {
			return err
		}
		stored = hex.EncodeToString(fresh)
		return tx.SetMeta(ctx, proofKey, stored)
	})
	return stored, err
}

// same compares proofs in constant time.
func same(a, b proof) bool { return hmac.Equal([]byte(a), []byte(b)) }

// checkSession refuses calls for a worker that the token has not attached. The
// worker attaches again by itself.
func (s *Server) checkSession(ctx context.Context, worker string, sent proof) error {
	want, err := s.prover.session(ctx, principal(ctx).token.ID, worker)
	if err != nil {
		return err
	}
	if !same(sent, want) {
		return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("worker %q has no session with this token", shorten(worker)),
			Fix: "the worker attaches again by itself"}
	}
	return nil
}

// checkLease refuses to speak for a job that was not given to the token (T20).
func (s *Server) checkLease(ctx context.Context, id job.ID, fence job.Fence, sent proof) error {
	want, err := s.prover.lease(ctx, principal(ctx).token.ID, id, fence)
	if err != nil {
		return err
	}
	if !same(sent, want) {
		return &job.Error{Code: job.Fenced, Message: fmt.Sprintf("the lease of job %s is not this worker's", shorten(string(id))),
			Why: "its proof is wrong or missing"}
	}
	return nil
}

// prove adds the proofs to leases.
func (s *Server) prove(ctx context.Context, leases []job.Lease) ([]leaseWire, error) {
	out := make([]leaseWire, len(leases))
	for i, l := range leases {
		p, err := s.prover.lease(ctx, principal(ctx).token.ID, l.Job.ID, l.Fence)
		if err != nil {
			return nil, err
		}
		out[i] = leaseWire{l, p}
	}
	return out, nil
}
