package serve

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestOnlyRequestsOfMuchOwnWorkAreWarnedOf(t *testing.T) {
	var log bytes.Buffer
	m := newMetrics("v0", slog.New(slog.NewTextHandler(&log, nil)))
	m.observe(server.RequestInfo{Route: "GET api/streams", Status: 200, Duration: time.Second})
	m.observe(server.RequestInfo{Route: "GET api/streams", Status: 200, Duration: time.Minute, Waited: 59 * time.Second})
	require.Empty(t, log.String())
	m.observe(server.RequestInfo{
		Route: "POST api/streams/*/messages", Status: 200, Duration: 4 * time.Second, Waited: 1500 * time.Millisecond, BytesIn: 7,
	})
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(),
		`route="POST api/streams/*/messages" status=200 duration=4s own_work=2.5s bytes_in=7 bytes_out=0`)
}
