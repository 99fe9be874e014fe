package sequin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// instant starts a server on the loopback interface that answers every send and every receive immediately with the same
// bytes, so that a benchmark measures the client and net/http.
func instant(b *testing.B, received []byte) *httptest.Server {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/receive") {
			_, _ = w.Write(received)
			return
		}
		_, _ = io.WriteString(w, `{"data":{"published":1}}`)
	}))
	b.Cleanup(srv.Close)
	return srv
}

// plainPost makes a request as a careful program without this library would: it encodes the body once, and reads the
// answer to its end.
func plainPost(b *testing.B, hc *http.Client, url string, body []byte) []byte {
	resp, err := hc.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatal(resp.Status, err)
	}
	return answer
}

func BenchmarkSendMessage(b *testing.B) {
	srv := instant(b, nil)
	data := strings.Repeat("x", 100)
	b.Run("net-http", func(b *testing.B) {
		body := []byte(`{"messages":[{"key":"orders.1","data":"` + data + `"}]}`)
		b.ReportAllocs()
		for b.Loop() {
			plainPost(b, srv.Client(), srv.URL+"/api/streams/s/messages", body)
		}
	})
	b.Run("sequin", func(b *testing.B) {
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
		require.NoError(b, err)
		defer client.Close()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.SendMessage(context.Background(), "s", "orders.1", data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// receivedJSON is the answer to a receive, for encoding/json.
type receivedJSON struct {
	Data *[]struct {
		AckID        string `json:"ack_id"`
		DeliverCount int    `json:"deliver_count"`
		Message      struct {
			Key        string    `json:"key"`
			Data       string    `json:"data"`
			StreamID   string    `json:"stream_id"`
			DataHash   string    `json:"data_hash"`
			Seq        int64     `json:"seq"`
			InsertedAt time.Time `json:"inserted_at"`
			UpdatedAt  time.Time `json:"updated_at"`
		} `json:"message"`
	} `json:"data"`
}

func BenchmarkReceiveMessages(b *testing.B) {
	const n = 100
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"ack_id":%q,"deliver_count":1,"message":{"key":"orders.%d","stream_id":%q,"data_hash":"5/bAEXdujbfNMwtUF0/Xb30CFrYSOHpf/PuB5vCRloM=",`+
			`"data":"{\"qty\":%d,\"note\":\"a hundred bytes or so of what somebody ordered\"}","seq":%d,"inserted_at":"2026-11-23T12:36:41.228958Z","updated_at":"2026-11-23T12:36:41.228958Z"}}`,
			someID, i, someID, i, i))
	}
	srv := instant(b, []byte(`{"data":[`+strings.Join(list, ",")+`]}`))
	b.Run("net-http", func(b *testing.B) {
		body := []byte(`{"batch_size":100}`)
		b.ReportAllocs()
		for b.Loop() {
			var answer receivedJSON
			if err := json.Unmarshal(plainPost(b, srv.Client(), srv.URL+"/api/streams/s/consumers/c/receive", body), &answer); err != nil || len(*answer.Data) != n {
				b.Fatal(err)
			}
		}
	})
	b.Run("sequin", func(b *testing.B) {
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
		require.NoError(b, err)
		defer client.Close()
		b.ReportAllocs()
		for b.Loop() {
			got, err := client.ReceiveMessages(context.Background(), "s", "c", sequin.ReceiveOptions{BatchSize: n})
			if err != nil || len(got) != n {
				b.Fatal(err)
			}
		}
	})
}
