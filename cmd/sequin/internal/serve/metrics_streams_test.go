package serve

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestTheLargestStreamsHaveMetricsOfTheirOwn has 102 streams, one of them with the name that the others share.
func TestTheLargestStreamsHaveMetricsOfTheirOwn(t *testing.T) {
	api := server.New(server.Config{})
	defer api.Close()
	do := func(path, body string) {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body)
	}
	for i := range maxStreamLabels + 1 {
		do("/api/streams", fmt.Sprintf(`{"name":"s%03d"}`, i))
	}
	do("/api/streams", `{"name":"other"}`)
	do("/api/streams/other/messages", `{"messages":[{"key":"k","data":"data"}]}`)
	do("/api/streams/s100/messages", `{"messages":[{"key":"a","data":"d"},{"key":"b","data":"d"}]}`)

	m := newMetrics("v0", slog.New(slog.DiscardHandler))
	m.watch(api, false)
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	text := w.Body.String()
	for _, line := range []string{
		"sequin_streams 102\n",
		"sequin_stream_messages{stream=\"s100\"} 2\n", "sequin_stream_bytes{stream=\"s100\"} 4\n",
		"sequin_stream_messages{stream=\"other\"} 1\n", "sequin_stream_bytes{stream=\"other\"} 5\n",
		"sequin_stream_messages{stream=\"s098\"} 0\n",
	} {
		require.Contains(t, text, line)
	}
	require.NotContains(t, text, `"s099"`)
	require.Equal(t, maxStreamLabels+1, strings.Count(text, "sequin_stream_messages{"))
}
