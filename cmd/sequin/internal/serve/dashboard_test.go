package serve

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/postgres"
)

// allMetrics returns the labels of all metrics of all stores, by the names that queries use.
func allMetrics(t *testing.T) map[string]map[string]bool {
	api := server.New(server.Config{})
	t.Cleanup(api.Close)
	m := newMetrics("v0", slog.New(slog.DiscardHandler))
	m.watch(api, false)
	syncs := newSyncTimes()
	syncs.Observe(.001)
	m.registry.MustRegister(syncs, durableMetrics{func() durable.Info { return durable.Info{} }, time.Second}, &postgresMetrics{
		log: m.log, pool: func() postgres.PoolStats { return postgres.PoolStats{} },
		read: func(context.Context) (postgres.Usage, error) {
			return postgres.Usage{Tables: []postgres.TableUsage{{Name: "ops"}}}, nil
		},
	})
	m.observe(server.RequestInfo{Route: "GET api/streams", Status: 200})
	use(t, api)

	families, err := m.registry.Gather()
	require.NoError(t, err)
	all := map[string]map[string]bool{}
	for _, f := range families {
		labels := map[string]bool{"instance": true, "job": true} // Prometheus adds them
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		all[f.GetName()] = labels
		if f.GetMetric()[0].GetHistogram() != nil {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				all[f.GetName()+suffix] = labels
			}
			all[f.GetName()+"_bucket"]["le"] = true
		}
	}
	return all
}

// use makes a stream with a consumer, one message of which is delivered.
func use(t *testing.T, api *server.Server) {
	t.Helper()
	for _, call := range [][2]string{
		{"/api/streams", `{"name":"orders"}`}, {"/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">"}`},
		{"/api/streams/orders/messages", `{"messages":[{"key":"a","data":"one"},{"key":"b","data":"two"}]}`},
		{"/api/streams/orders/consumers/billing/receive", `{}`},
	} {
		r := httptest.NewRequest("POST", call[0], strings.NewReader(call[1]))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body)
	}
}

// dashboard is what the test reads of a dashboard of Grafana.
type dashboard struct {
	Panels []struct {
		Title, Type string
		Targets     []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

var legendLabel = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)

// TestTheDashboardShowsMetricsThatExist parses each query, and looks for its metrics and labels.
func TestTheDashboardShowsMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", "grafana", "server.json"))
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	metrics := allMetrics(t)
	shown := map[string]bool{}
	queries := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries++
			for _, problem := range problemsOf(target.Expr, target.LegendFormat, metrics, shown) {
				t.Errorf("panel %q: %s: %s", p.Title, target.Expr, problem)
			}
		}
	}
	require.Greater(t, queries, 40)
	require.Contains(t, string(text), "label_values(sequin_build_info, instance)")
	for name := range metrics {
		if strings.HasPrefix(name, "sequin_consumer_") && !shown[name] && name != "sequin_consumer_backlog_estimated" {
			t.Errorf("no panel shows %s", name)
		}
	}
}

var metricNames = regexp.MustCompile(`\bsequin_[a-z_]+`)

// TestThePageOfTheMetricsNamesThem also parses the alerts that it recommends.
func TestThePageOfTheMetricsNamesThem(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "metrics.md"))
	require.NoError(t, err)
	metrics := allMetrics(t)
	named := map[string]bool{}
	for _, name := range metricNames.FindAllString(string(page), -1) {
		named[name] = true
		if metrics[name] == nil {
			t.Errorf("there is no metric %s", name)
		}
	}
	for name := range metrics {
		part := strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count")
		if strings.HasPrefix(name, "sequin_") && !part && !named[name] {
			t.Errorf("the page does not name %s", name)
		}
	}
	_, alerts, _ := strings.Cut(string(page), "| alert | expression |")
	alerts, _, _ = strings.Cut(alerts, "\n\n")
	rows := regexp.MustCompile("`(.+)` \\|").FindAllStringSubmatch(alerts, -1)
	require.Len(t, rows, 7)
	for _, row := range rows {
		require.Empty(t, problemsOf(row[1], "", metrics, map[string]bool{}), row[1])
	}
}

func problemsOf(expr, legend string, metrics map[string]map[string]bool, shown map[string]bool) (problems []string) {
	expr = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(expr)
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	labels := map[string]bool{}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			shown[n.Name] = true
			has := metrics[n.Name]
			if has == nil {
				problems = append(problems, "there is no metric "+n.Name)
			}
			for _, m := range n.LabelMatchers {
				if m.Name != "__name__" && !has[m.Name] {
					problems = append(problems, n.Name+" has no label "+m.Name)
				}
			}
			for l := range has {
				labels[l] = true
			}
		}
		return nil
	})
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if sum, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range sum.Grouping {
				if !labels[l] {
					problems = append(problems, "no metric has the label "+l)
				}
			}
		}
		return nil
	})
	for _, l := range legendLabel.FindAllStringSubmatch(legend, -1) {
		if !labels[l[1]] {
			problems = append(problems, "the legend has an unknown label "+l[1])
		}
	}
	return problems
}

// TestTheDashboardsTestFindsWhatIsWrong has queries that a test must refuse.
func TestTheDashboardsTestFindsWhatIsWrong(t *testing.T) {
	metrics := map[string]map[string]bool{"known": {"route": true}}
	for expr, want := range map[string]string{
		`sum(known`:                     `unclosed left parenthesis`,
		`sum(unknown)`:                  `there is no metric unknown`,
		`known{status="500"}`:           `known has no label status`,
		`sum by (stream) (known)`:       `no metric has the label stream`,
		`sum by (route) (known)`:        ``,
		`rate(known[$__rate_interval])`: ``,
	} {
		problems := strings.Join(problemsOf(expr, "", metrics, map[string]bool{}), "\n")
		require.Contains(t, problems, want, expr)
		require.Equal(t, want == "", problems == "", expr)
	}
	require.NotEmpty(t, problemsOf("known", "{{stream}}", metrics, map[string]bool{}))
}
