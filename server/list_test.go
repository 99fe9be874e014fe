package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// withLargeMessages returns a server whose stream s holds n messages of a megabyte each, k.0 to k.n-1.
func withLargeMessages(t *testing.T, n int) *api {
	t.Helper()
	a := newAPI(t, server.Config{}).withStream("", "")
	for i := range n {
		a.send(fmt.Sprintf("k.%d=%s", i, strings.Repeat("x", 1_000_000)))
	}
	return a
}

// TestALargeListIsSentInParts lists more than one answer of bounded size may hold.
func TestALargeListIsSentInParts(t *testing.T) {
	a := withLargeMessages(t, 20)
	for _, path := range []string{"/api/streams/s/messages", "/api/streams/s/consumers/c/messages"} {
		for _, query := range []string{"?limit=19&sort=seq_desc", "?limit=19", ""} {
			got := a.call("GET", path+query, "")
			require.Equal(t, http.StatusOK, got.status)
			require.Empty(t, got.header.Get("Content-Length"))
			require.Equal(t, "application/json; charset=utf-8", got.header.Get("Content-Type"))
			var list struct {
				Data []struct {
					Key     string
					Message struct{ Key string }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(got.body), &list))
			want := 19
			if query == "" {
				want = 20
			}
			require.Len(t, list.Data, want, path+query)
			for i, item := range list.Data {
				if strings.Contains(query, "desc") {
					i = 19 - i
				}
				require.Equal(t, fmt.Sprintf("k.%d", i), item.Key+item.Message.Key)
			}
		}
	}
	require.NotEmpty(t, a.call("GET", "/api/streams/s/messages?limit=7", "").header.Get("Content-Length"), "a list that fits is sent at once")
}

func TestAReceiveStopsAtEightMegabytesOfMessages(t *testing.T) {
	a := withLargeMessages(t, 10)
	first := a.receive(`{"batch_size":1000}`)
	require.Len(t, first, 7, "eight messages are a little more than eight megabytes, with their keys")
	require.Len(t, a.receive(`{"batch_size":1000,"wait_for":500}`), 3)
}

func TestInspectReturnsEveryMessage(t *testing.T) {
	require.Len(t, messages(t, withLargeMessages(t, 20)), 20)
}
