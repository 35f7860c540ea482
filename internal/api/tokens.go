package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func (s *Server) tokenRoutes() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/tokens" + path, Tags: []string{"installation"}, Summary: summary}
	}
	list := op("list-tokens", http.MethodGet, "", "List tokens")
	list.Description = "Those that were revoked stay listed for a while. Secrets are not kept."
	route(s, list, s.listTokens)
	create := op("create-token", http.MethodPost, "", "Make a token")
	create.Description = "The answer has its secret, which is shown this once. The role `admin` may do everything; `worker` may run jobs, " +
		"those of the given queues, and see nothing else."
	create.RequestBody = documentBody[TokenRequest](s, "The token.", map[string]any{"name": "cluster", "role": "worker", "queues": []string{"simulations"}, "lifetime": "90d"})
	create.DefaultStatus = http.StatusCreated
	route(s, create, s.createToken)
	revoke := op("revoke-token", http.MethodDelete, "/{id}", "Revoke a token")
	revoke.Description = "It ends within 5 seconds on every server. Programs that run under it go on."
	route(s, revoke, s.revokeToken)
}

type tokensOutput struct{ Body TokenList }

type tokenOutput struct{ Body TokenInfo }

func (s *Server) listTokens(ctx context.Context, _ *struct{}) (*tokensOutput, error) {
	out := &tokensOutput{Body: TokenList{APIVersion: Version, Kind: "TokenList", Items: []TokenInfo{}}}
	err := s.Store.Read(ctx, func(tx store.ReadTx) error {
		tokens, err := tx.Tokens(ctx)
		for _, t := range tokens {
			out.Body.Items = append(out.Body.Items, tokenInfo(t))
		}
		return err
	})
	slices.SortFunc(out.Body.Items, func(a, b TokenInfo) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out, err
}

// tokenInfo shows a token without what is stored of its secret.
func tokenInfo(t auth.Token) TokenInfo {
	return TokenInfo{ID: t.ID, Name: t.Name, Role: string(t.Role), Queues: t.Queues,
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, UsedAt: t.UsedAt}
}

const (
	// maxTokens bounds the valid tokens: every server holds all of them (T19).
	maxTokens = 1000
	// keepEnded is how long a token that has ended stays listed.
	keepEnded = 30 * 24 * time.Hour
)

type createTokenInput struct{ RawBody []byte }

func (s *Server) createToken(ctx context.Context, in *createTokenInput) (*tokenOutput, error) {
	var r TokenRequest
	c := checks{problems: decodeStrict(in.RawBody, "", &r)}
	if len(c.problems) == 0 {
		c.token(r)
	}
	if err := job.InvalidInput("the token was not made", c.problems); err != nil {
		return nil, err
	}
	var t auth.Token
	var secret string
	err := s.Store.Write(ctx, func(tx store.Tx) error {
		expires := time.Time{}
		if r.Lifetime > 0 {
			expires = tx.Now().Add(time.Duration(r.Lifetime))
		}
		t, secret = auth.New(auth.Role(r.Role), r.Name, r.Queues, tx.Now(), expires)
		if err := makeRoom(ctx, tx); err != nil {
			return err
		}
		return tx.SaveToken(ctx, t)
	})
	if err != nil {
		return nil, err
	}
	s.keys.forget()
	s.Logger.Info("made a token", "token", t.ID, "name", t.Name, "role", t.Role, "by", principal(ctx).name)
	out := &tokenOutput{tokenInfo(t)}
	out.Body.Secret = secret
	return out, nil
}

// token checks what was asked for.
func (c *checks) token(r TokenRequest) {
	if r.Name == "" || len(r.Name) > job.MaxNameLength {
		c.add("name", fmt.Sprintf("must have 1 to %d bytes", job.MaxNameLength), "say where the token will be used")
	}
	c.plainText("name", r.Name)
	if !auth.Role(r.Role).Known() {
		c.add("role", fmt.Sprintf("%q is no role", shorten(r.Role)), "choose admin or worker")
	}
	if len(r.Queues) > 0 && r.Role != string(auth.Worker) {
		c.add("queues", "limit the tokens of workers only", "leave them out, or make it a worker's token")
	}
	for i, q := range r.Queues {
		if q == "" || len(q) > job.MaxNameLength {
			c.add(fmt.Sprintf("queues[%d]", i), "is no name of a queue", "see: nanoos queue list")
		}
		c.plainText(fmt.Sprintf("queues[%d]", i), q)
	}
	if r.Lifetime < 0 || r.Lifetime > job.MaxDuration {
		c.add("lifetime", "is out of bounds", "write for example 90d, or leave it out for a token that does not expire")
	}
}

// makeRoom removes tokens that have ended long ago, and refuses another one when
// there are too many.
func makeRoom(ctx context.Context, tx store.Tx) error {
	tokens, err := tx.Tokens(ctx)
	if err != nil {
		return err
	}
	valid := 0
	for _, t := range tokens {
		if t.Valid(tx.Now()) {
			valid++
			continue
		}
		ended := t.RevokedAt
		if ended.IsZero() {
			ended = t.ExpiresAt
		}
		if tx.Now().Sub(ended) < keepEnded {
			continue
		}
		if err := tx.DeleteToken(ctx, t.ID); err != nil {
			return err
		}
	}
	if valid >= maxTokens {
		return &job.Error{Code: job.Exhausted, Message: "the token was not made", Why: fmt.Sprintf("there are %d already", valid), Fix: "revoke some: nanoos token list"}
	}
	return nil
}

type tokenInput struct {
	ID string `path:"id" maxLength:"100" example:"k3v9q2x7ab"`
}

func (s *Server) revokeToken(ctx context.Context, in *tokenInput) (*tokenOutput, error) {
	var t auth.Token
	err := s.Store.Write(ctx, func(tx store.Tx) (err error) {
		if t, err = findToken(ctx, tx, in.ID); err != nil || !t.RevokedAt.IsZero() {
			return err
		}
		t.RevokedAt = tx.Now()
		return tx.SaveToken(ctx, t)
	})
	if err != nil {
		return nil, err
	}
	s.keys.forget()
	s.Logger.Info("revoked a token", "token", t.ID, "name", t.Name, "by", principal(ctx).name)
	return &tokenOutput{tokenInfo(t)}, nil
}

// findToken returns the token of an id.
func findToken(ctx context.Context, tx store.ReadTx, id string) (auth.Token, error) {
	tokens, err := tx.Tokens(ctx)
	if err != nil {
		return auth.Token{}, err
	}
	i := slices.IndexFunc(tokens, func(t auth.Token) bool { return t.ID == id })
	if i < 0 {
		return auth.Token{}, &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no token %q", shorten(id)), Fix: "nanoos token list"}
	}
	return tokens[i], nil
}
