package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// api calls a server without a network in between.
type api struct {
	t *testing.T
	*server.Server
}

func newAPI(t *testing.T, cfg server.Config) *api {
	t.Helper()
	s := server.New(cfg)
	t.Cleanup(s.Close)
	return &api{t, s}
}

// withStream makes a stream s with the options, and a consumer c of all of it.
func (a *api) withStream(streamOptions, consumerOptions string) *api {
	a.t.Helper()
	a.ok("POST", "/api/streams", `{"name":"s"`+streamOptions+`}`)
	a.ok("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"`+consumerOptions+`}`)
	return a
}

type reply struct {
	status int
	header http.Header
	body   string
}

// call sends a request with a JSON body; headers come in pairs.
func (a *api) call(method, path, body string, headers ...string) reply {
	return a.callContext(context.Background(), method, path, body, headers...)
}

func (a *api) callContext(ctx context.Context, method, path, body string, headers ...string) reply {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

// ok is call for what has to succeed.
func (a *api) ok(method, path, body string) string {
	a.t.Helper()
	got := a.call(method, path, body)
	require.Equalf(a.t, http.StatusOK, got.status, "%s %s: %s", method, path, got.body)
	return got.body
}

type delivery struct {
	AckID        string `json:"ack_id"`
	DeliverCount int    `json:"deliver_count"`
	Message      struct {
		Key, Data  string
		Seq        int64
		InsertedAt time.Time `json:"inserted_at"`
	}
}

type deliveries []delivery

func parseDeliveries(t *testing.T, body string) deliveries {
	t.Helper()
	var got struct{ Data deliveries }
	require.NoErrorf(t, json.Unmarshal([]byte(body), &got), "%s", body)
	return got.Data
}

func (a *api) receive(params string) deliveries {
	a.t.Helper()
	return parseDeliveries(a.t, a.ok("POST", "/api/streams/s/consumers/c/receive", params))
}

// send publishes key=data pairs and returns how many the server counted.
func (a *api) send(pairs ...string) int {
	a.t.Helper()
	var got struct{ Data struct{ Published int } }
	require.NoError(a.t, json.Unmarshal([]byte(a.ok("POST", "/api/streams/s/messages", sendBody(pairs...))), &got))
	return got.Data.Published
}

func sendBody(pairs ...string) string {
	messages := []map[string]string{}
	for _, pair := range pairs {
		key, data, _ := strings.Cut(pair, "=")
		messages = append(messages, map[string]string{"key": key, "data": data})
	}
	text, err := json.Marshal(map[string]any{"messages": messages})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (a *api) ack(d deliveries) {
	a.t.Helper()
	a.ok("POST", "/api/streams/s/consumers/c/ack", d.ids(""))
}
func (a *api) nack(d deliveries) {
	a.t.Helper()
	a.ok("POST", "/api/streams/s/consumers/c/nack", d.ids(""))
}

func (d deliveries) ids(more string) string {
	ids := []string{}
	for _, one := range d {
		ids = append(ids, `"`+one.AckID+`"`)
	}
	return `{"ack_ids":[` + strings.Join(ids, ",") + `]` + more + `}`
}

// pairs shows deliveries as key=data.
func (d deliveries) pairs() []string {
	out := []string{}
	for _, one := range d {
		out = append(out, one.Message.Key+"="+one.Message.Data)
	}
	return out
}

func (a *api) consumer() server.ConsumerState {
	a.t.Helper()
	state, ok := a.Inspect("s")
	require.True(a.t, ok)
	require.NotEmpty(a.t, state.Consumers)
	return state.Consumers[0]
}
