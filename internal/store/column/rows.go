package column

import (
	"encoding/json"
	"fmt"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Row is the current row of a query.
type Row interface{ Scan(dest ...any) error }

// Worker reads name, session, started_at, seen_at, draining and ended_at.
func Worker(r Row) (w store.Worker, err error) {
	var name, session string
	var started, seen, ended int64
	if err = r.Scan(&name, &session, &started, &seen, &w.Draining, &ended); err == nil {
		err = json.Unmarshal([]byte(session), &w.Session)
	}
	w.StartedAt, w.SeenAt, w.EndedAt = Time(started), Time(seen), Time(ended)
	return w, err
}

// Token reads token.
func Token(r Row) (t auth.Token, err error) {
	var raw string
	if err = r.Scan(&raw); err == nil {
		err = json.Unmarshal([]byte(raw), &t)
	}
	return t, err
}

// Queue reads name, paused, walltime and lost_after.
func Queue(r Row) (q store.Queue, err error) {
	var paused string
	if err = r.Scan(&q.Name, &paused, (*int64)(&q.Walltime), (*int64)(&q.LostAfter)); err == nil {
		q.Paused, err = Decode[job.Request](paused)
	}
	return q, err
}

// Ticket reads door, id, state, job, due, node, body, created_at and updated_at.
func Ticket(r Row) (t store.Ticket, err error) {
	var due, created, updated int64
	err = r.Scan(&t.Door, &t.ID, (*string)(&t.State), (*string)(&t.Job), &due, &t.Node, &t.Body, &created, &updated)
	t.Due, t.CreatedAt, t.UpdatedAt = Time(due), Time(created), Time(updated)
	return t, err
}

// Event reads seq, tenant, the id of the job, kind, at and data.
func Event(r Row) (e job.Event, err error) {
	var at int64
	var data []byte
	err = r.Scan(&e.Seq, (*string)(&e.Tenant), (*string)(&e.Job), (*string)(&e.Kind), &at, &data)
	e.At, e.Data = Time(at), data
	return e, err
}

// Lane reads id, queue, tenant, engine, cpus, memory, gpus and tags.
func Lane(r Row) (l store.Lane, err error) {
	var tags string
	d := &l.Demand
	err = r.Scan((*int64)(&l.ID), &l.Queue, (*string)(&l.Tenant), &l.Engine, &d.CPUs, &d.Memory, &d.GPUs, &tags)
	if err == nil && tags != "" {
		if err = json.Unmarshal([]byte(tags), &d.Tags); err != nil {
			err = fmt.Errorf("lane %d: %w", l.ID, err)
		}
	}
	return l, err
}

// JobID reads id.
func JobID(r Row) (id job.ID, err error) {
	err = r.Scan((*string)(&id))
	return id, err
}

// Counts reads a queue and how many of its jobs are in each of job.States.
func Counts(r Row) (counts []store.Count, err error) {
	var queue string
	var n [6]int64
	err = r.Scan(&queue, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
	for i, s := range job.States {
		if n[i] > 0 {
			counts = append(counts, store.Count{Queue: queue, State: s, Jobs: n[i]})
		}
	}
	return counts, err
}
