package porthttp

import (
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed openapi.json
var openAPI []byte

func (s *server) openapi(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	s.write(r, w, openAPI)
	return nil
}

// livez says that the process answers, and nothing more.
func (s *server) livez(w http.ResponseWriter, r *http.Request) error {
	return s.text(w, r, "ok\n")
}

// readyz says whether every part of the hub can do its work.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) error {
	var lines strings.Builder
	var failed []string
	for _, c := range s.deps.Checks {
		word := "ok"
		if err := c.Run(r.Context()); err != nil {
			word = "not ready: " + err.Error()
			failed = append(failed, c.Name)
		} else if says := s.deps.Says[c.Name]; says != nil {
			word += ", " + says()
		}
		fmt.Fprintf(&lines, "%s: %s\n", c.Name, word)
	}
	if len(failed) > 0 {
		w.Header().Set("Retry-After", "2")
		return &problem{
			Status: http.StatusServiceUnavailable, Slug: "not-ready",
			Detail: strings.TrimSpace("not ready: " + strings.Join(failed, ", ") + "\n" + lines.String()),
		}
	}
	if r.URL.Query().Has("verbose") {
		return s.text(w, r, lines.String()+"ready\n")
	}
	return s.text(w, r, "ok\n")
}

func (s *server) text(w http.ResponseWriter, r *http.Request, body string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	s.write(r, w, []byte(body))
	return nil
}

// metrics of the port, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	lag      *prometheus.GaugeVec
}

func newMetrics(s *server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "plantmesh_http_requests_total", Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "plantmesh_http_request_seconds", Help: "Time to answer, by route.", Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "plantmesh_product_lag_seconds", Help: "Plant time between what a product knows and now.",
		}, []string{"product"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.lag, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "plantmesh_http_live_feeds", Help: "Live feeds open now.",
	}, func() float64 { return float64(s.feed.readers()) }))
	m.registry.MustRegister(s.deps.Collectors...)
	for _, c := range s.deps.Counts {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "plantmesh_" + c.Name, Help: c.Help},
			func() float64 { return float64(c.Value()) }))
	}
	return m
}

// count measures a handler. A live feed's time is its reader's: it counts only.
func (m *metrics) count(route string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		seen := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			m.requests.WithLabelValues(route, strconv.Itoa(seen.code)).Inc()
			if route != "/api/v1/live" {
				m.seconds.WithLabelValues(route).Observe(time.Since(begun).Seconds())
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter

	code int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// handler refreshes what is only known when asked, then answers.
func (m *metrics) handler(s *server) http.Handler {
	show := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range s.deps.Catalogue {
			progress, _, _, err := s.progress(r.Context(), p)
			if err != nil {
				s.log.WarnContext(r.Context(), "read the progress of a product", "product", p.ID, "err", err)
				continue
			}
			if progress != 0 {
				m.lag.WithLabelValues(p.ID).Set(s.deps.PlantNow().Sub(progress).Seconds())
			}
		}
		show.ServeHTTP(w, r)
	})
}
