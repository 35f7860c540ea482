package postgres

import (
	"github.com/jackc/pgx/v5"
)

type notifier struct{ done chan struct{} }

func newNotifier(*pgx.ConnConfig) *notifier { return &notifier{done: make(chan struct{})} }
func (n *notifier) send()                   { <-n.done }
func (n *notifier) stop()                   { close(n.done) }
