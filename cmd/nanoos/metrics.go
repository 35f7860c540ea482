package main

import (
	"github.com/prometheus/client_golang/prometheus"
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
