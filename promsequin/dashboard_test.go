package promsequin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/promsequin"
)

var (
	describedName = regexp.MustCompile(`fqName: "(\w+)"`)
	metricName    = regexp.MustCompile(`\bsequin_\w+`)
	matchedLabel  = regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=) *"`)
	grouping      = regexp.MustCompile(`\bby \(([^)]*)\)`)
	legendLabel   = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
)

// described returns the names of all metrics.
func described() (names []string) {
	all := make(chan *prometheus.Desc)
	go func() { promsequin.NewCollector().Describe(all); close(all) }()
	for d := range all {
		names = append(names, describedName.FindStringSubmatch(d.String())[1])
	}
	return names
}

// problemsOf returns what is wrong with the names and labels of a query. A test beside the dashboard parses
// the queries.
func problemsOf(query, legend string, known []string) (problems []string) {
	labels := []string{"stream", "job", "instance", "__name__"} // Prometheus adds the latter ones
	names := metricName.FindAllString(query, -1)
	if len(names) == 0 {
		problems = append(problems, "it has no metric")
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			problems = append(problems, "there is no metric "+name)
		}
	}
	if !strings.Contains(query, "sequin_publisher_") || strings.Contains(query, "label_values") {
		labels = append(labels, "consumer")
	}
	var used []string
	for _, m := range append(matchedLabel.FindAllStringSubmatch(query, -1), legendLabel.FindAllStringSubmatch(legend, -1)...) {
		used = append(used, m[1])
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		used = append(used, strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")...)
	}
	for _, label := range used {
		if !slices.Contains(labels, label) {
			problems = append(problems, "there is no label "+label)
		}
	}
	return problems
}

func TestTheDashboardShowsEachMetricThatExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "deploy", "grafana", "clients.json"))
	require.NoError(t, err)
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &d))
	known, queries := described(), 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries++
			require.Empty(t, problemsOf(target.Expr, target.LegendFormat, known), "%s: %s", p.Title, target.Expr)
		}
	}
	require.Greater(t, queries, 30)
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			require.Empty(t, problemsOf(v.Definition, "", known), v.Definition)
		}
	}
	for _, name := range known {
		require.Regexp(t, `\b`+name+`\b`, string(text), "no panel shows it")
	}
}

func TestTheDashboardsTestFindsWhatIsWrong(t *testing.T) {
	known := []string{"sequin_publisher_known", "sequin_subscriber_known"}
	for query, right := range map[string]bool{
		`sum(sequin_publisher_known)`:                         true,
		`sum(sequin_publisher_unknown)`:                       false,
		`sequin_publisher_known{stream=~"$stream"}`:           true,
		`sequin_publisher_known{consumer="c"}`:                false,
		`sum by (stream) (sequin_publisher_known)`:            true,
		`sum by (stream, consumer) (sequin_publisher_known)`:  false,
		`sum by (stream, consumer) (sequin_subscriber_known)`: true,
		`max by (topic) (sequin_subscriber_known)`:            false,
		`up`: false,
		`rate(sequin_subscriber_known{job="a"}[$__rate_interval])`: true,
	} {
		require.Equal(t, right, problemsOf(query, "", known) == nil, query)
	}
	require.NotEmpty(t, problemsOf("sequin_publisher_known", "{{consumer}}", known))
}
