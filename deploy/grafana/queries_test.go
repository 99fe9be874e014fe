// Package grafana tests the dashboards of its directory, server.json for sequin serve and clients.json for the programs that use the
// library: it parses their queries with the parser of Prometheus. It is a module of its own, because that parser needs more modules
// than all else.
package grafana

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// top is the directory of the repository.
var top = filepath.Join("..", "..")

// serverMetrics returns the labels of all metrics of the server, by the names that queries use. A test of the server keeps the list of
// its own ones.
func serverMetrics(t *testing.T) map[string]map[string]bool {
	text, err := os.ReadFile(filepath.Join(top, "cmd", "sequin", "internal", "serve", "testdata", "metrics.txt"))
	require.NoError(t, err)
	all := map[string]map[string]bool{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		labels := map[string]bool{}
		for _, label := range words[1:] {
			labels[label] = true
		}
		all[words[0]] = labels
	}
	require.Greater(t, len(all), 40)
	runtime := prometheus.NewRegistry()
	runtime.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := runtime.Gather()
	require.NoError(t, err)
	for _, f := range families {
		all[f.GetName()] = map[string]bool{"instance": true, "job": true} // Prometheus adds them
	}
	return all
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
	text, err := os.ReadFile("server.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	metrics := serverMetrics(t)
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

// TestTheRecommendedAlertsParse looks for their metrics and labels, too.
func TestTheRecommendedAlertsParse(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(top, "docs", "metrics.md"))
	require.NoError(t, err)
	metrics := serverMetrics(t)
	_, alerts, _ := strings.Cut(string(page), "| alert | expression |")
	alerts, _, _ = strings.Cut(alerts, "\n\n")
	rows := regexp.MustCompile("`(.+)` \\|").FindAllStringSubmatch(alerts, -1)
	require.Len(t, rows, 7)
	for _, row := range rows {
		require.Empty(t, problemsOf(row[1], "", metrics, map[string]bool{}), row[1])
	}
}

// TestTheQueriesOfTheClientsDashboardParse leaves their metrics and labels to a test of package promsequin, which has them.
func TestTheQueriesOfTheClientsDashboardParse(t *testing.T) {
	text, err := os.ReadFile("clients.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	queries := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries++
			_, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			require.NoError(t, err, target.Expr)
		}
	}
	require.Greater(t, queries, 30)
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
