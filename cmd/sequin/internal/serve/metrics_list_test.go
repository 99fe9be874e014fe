package serve

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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

var update = flag.Bool("update", false, "write the list of metrics instead of comparing with it")

// TestTheListOfMetricsIsThatOfTheServer keeps the list that the module of the dashboards checks their queries against.
func TestTheListOfMetricsIsThatOfTheServer(t *testing.T) {
	var list strings.Builder
	metrics := allMetrics(t)
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if strings.HasPrefix(name, "sequin_") { // the others are those of the runtime
			fmt.Fprintln(&list, name, strings.Join(slices.Sorted(maps.Keys(metrics[name])), " "))
		}
	}
	file := filepath.Join("testdata", "metrics.txt")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(list.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), list.String(), "go test -run TestTheListOfMetrics -update . writes it")
}

var metricNames = regexp.MustCompile(`\bsequin_[a-z_]+`)

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
}
