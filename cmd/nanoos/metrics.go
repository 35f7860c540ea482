package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nano-os/nanoos/internal/store/postgres"
)

// storeMetrics shows what the database does; how long a commit takes bounds
// everything that must be durable.
type storeMetrics struct{ store database }

var (
	commitsTotal                       = prometheus.NewDesc("nanoos_store_commits_total", "Durable commits.", nil, nil)
	writesTotal                        = prometheus.NewDesc("nanoos_store_writes_total", "Changes that were committed, several to a commit.", nil, nil)
	lastCommit                         = prometheus.NewDesc("nanoos_store_last_commit_seconds", "Duration of the last commit.", nil, nil)
	averageCommit                      = prometheus.NewDesc("nanoos_store_average_commit_seconds", "Mean duration of a commit since the start.", nil, nil)
	storeIsHalted                      = prometheus.NewDesc("nanoos_store_halted", "1 while the store refuses to write, after a full disk or a failed flush.", nil, nil)
	_             prometheus.Collector = storeMetrics{}
)

func (m storeMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.store.Stats()
	halted := 0.0
	if s.Halted != nil {
		halted = 1
	}
	ch <- prometheus.MustNewConstMetric(commitsTotal, prometheus.CounterValue, float64(s.Commits))
	ch <- prometheus.MustNewConstMetric(writesTotal, prometheus.CounterValue, float64(s.Ops))
	ch <- prometheus.MustNewConstMetric(lastCommit, prometheus.GaugeValue, s.LastCommit.Seconds())
	ch <- prometheus.MustNewConstMetric(averageCommit, prometheus.GaugeValue, s.AvgCommit.Seconds())
	ch <- prometheus.MustNewConstMetric(storeIsHalted, prometheus.GaugeValue, halted)
}

// databaseMetrics shows what to watch of a PostgreSQL that a queue lives in (S6).
type databaseMetrics struct{ store *postgres.Store }

var (
	oldestSnapshot                      = prometheus.NewDesc("nanoos_postgres_oldest_snapshot_seconds", "Age of the oldest snapshot, which keeps dead rows from being removed. Look for it above 60.", nil, nil)
	deadRows                            = prometheus.NewDesc("nanoos_postgres_dead_rows", "Dead rows of the tables that change most.", []string{"table"}, nil)
	oldestQueued                        = prometheus.NewDesc("nanoos_queue_oldest_queued_seconds", "How long the oldest QUEUED job has waited.", nil, nil)
	walBytes                            = prometheus.NewDesc("nanoos_postgres_wal_bytes", "Size of the write-ahead log on the database's server.", nil, nil)
	lockWaits                           = prometheus.NewDesc("nanoos_postgres_lock_waits", "Sessions that wait for a lock.", nil, nil)
	_              prometheus.Collector = databaseMetrics{}
)

// healthTimeout bounds the questions of one scrape to the database.
const healthTimeout = 3 * time.Second

func (m databaseMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{oldestSnapshot, deadRows, oldestQueued, walBytes, lockWaits} {
		ch <- d
	}
}

func (m databaseMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	h, err := m.store.Health(ctx)
	if err != nil {
		return // absent says more than a number that is none; readiness says why
	}
	ch <- prometheus.MustNewConstMetric(oldestSnapshot, prometheus.GaugeValue, h.OldestSnapshot.Seconds())
	ch <- prometheus.MustNewConstMetric(oldestQueued, prometheus.GaugeValue, h.OldestQueued.Seconds())
	ch <- prometheus.MustNewConstMetric(lockWaits, prometheus.GaugeValue, float64(h.LockWaits))
	for table, n := range h.DeadRows {
		ch <- prometheus.MustNewConstMetric(deadRows, prometheus.GaugeValue, float64(n), table)
	}
	if h.WALBytes >= 0 {
		ch <- prometheus.MustNewConstMetric(walBytes, prometheus.GaugeValue, float64(h.WALBytes))
	}
}

// collectors are what a database has to show.
func collectors(db database) []prometheus.Collector {
	all := []prometheus.Collector{storeMetrics{db}}
	if pg, ok := db.(*postgres.Store); ok {
		all = append(all, databaseMetrics{pg})
	}
	return all
}

// doorMetrics shows whether the other front doors work.
type doorMetrics struct{ health func() map[string]error }

var doorUp = prometheus.NewDesc("nanoos_front_door_up", "1 while a front door beside HTTP works.", []string{"door"}, nil)

func (m doorMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- doorUp }

func (m doorMetrics) Collect(ch chan<- prometheus.Metric) {
	for name, fault := range m.health() {
		up := 1.0
		if fault != nil {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(doorUp, prometheus.GaugeValue, up, name)
	}
}
