package api

import "context"

// requestKey is the context key of the request id.
type requestKey struct{}

// requestID is the id under which the log has this request.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
