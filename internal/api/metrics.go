package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nano-os/nanoos/internal/store"
)

// metrics are those of this server, in a registry of its own.
type metrics struct {
	requests *prometheus.HistogramVec
	handler  http.Handler
}

func newMetrics(st store.Store, more []prometheus.Collector) *metrics {
	m := &metrics{requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nanoos_http_request_seconds", Help: "Duration of requests by route; streams count when they end.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
	}, []string{"route", "status"})}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, jobCollector{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(more...)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) error {
	m.handler.ServeHTTP(w, r)
	return nil
}

// observe counts a request under its route, never under its path, which is
// somebody's choice and would make series without end.
func (m *metrics) observe(r *http.Request, status int, took time.Duration) {
	route := r.Pattern
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// jobCollector counts jobs when somebody looks.
type jobCollector struct{ st store.Store }

var jobsDesc = prometheus.NewDesc("nanoos_jobs", "Jobs by queue and state.", []string{"queue", "state"}, nil)

func (c jobCollector) Describe(ch chan<- *prometheus.Desc) { ch <- jobsDesc }

func (c jobCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	var counts []store.Count
	err := c.st.Read(ctx, func(tx store.ReadTx) (err error) {
		counts, err = tx.Counts(ctx, "")
		return err
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(jobsDesc, err)
		return
	}
	for _, n := range counts {
		ch <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(n.Jobs), n.Queue, string(n.State))
	}
}
