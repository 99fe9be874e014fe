package server_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// api calls a server without a network.
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

// withStream creates a stream s with the options, and a consumer c of all its messages.
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

// ok is call for a request that must succeed. It returns the body.
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

// send sends key=data pairs and returns how many the server counted as published.
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

// ids returns the body of an ack or a nack; more is appended to it.
func (d deliveries) ids(more string) string {
	ids := []string{}
	for _, one := range d {
		ids = append(ids, `"`+one.AckID+`"`)
	}
	return `{"ack_ids":[` + strings.Join(ids, ",") + `]` + more + `}`
}

// pairs returns the deliveries as key=data.
func (d deliveries) pairs() []string {
	out := []string{}
	for _, one := range d {
		out = append(out, one.Message.Key+"="+one.Message.Data)
	}
	return out
}

// consumer returns the state of the stream's first consumer.
func (a *api) consumer() server.ConsumerState {
	a.t.Helper()
	state, ok := a.Inspect("s")
	require.True(a.t, ok)
	require.NotEmpty(a.t, state.Consumers)
	return state.Consumers[0]
}

// pipeListener accepts connections in memory, so that a whole server runs inside synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, srv := net.Pipe()
	select {
	case l.conns <- srv:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// served is a Server behind net/http, with connections in memory.
type served struct {
	*server.Server
	listener *pipeListener
	http     *http.Server
	client   *http.Client
}

// serve starts a server in a synctest bubble and stops it at the end of the test.
func serve(t *testing.T, cfg server.Config) *served {
	t.Helper()
	s := &served{
		Server:   server.New(cfg),
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	s.http = s.HTTPServer()
	s.client = s.newClient(t, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.http.Serve(s.listener)
	}()
	t.Cleanup(func() {
		s.Close()
		s.client.CloseIdleConnections()
		_ = s.http.Close()
		<-done
		// After an answer that was sent before the end of the request, net/http keeps the connection for half a second.
		time.Sleep(time.Second)
	})
	return s
}

// newClient returns a client that speaks the given protocols, HTTP/1 by default.
func (s *served) newClient(t *testing.T, protocols *http.Protocols) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: s.listener.dial, Protocols: protocols, ExpectContinueTimeout: time.Hour}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// messages returns the messages of stream s as key=data.
func messages(t *testing.T, a *api) []string {
	t.Helper()
	state, ok := a.Inspect("s")
	require.True(t, ok)
	out := []string{}
	for _, m := range state.Messages {
		out = append(out, m.Key+"="+m.Data)
	}
	return out
}

// inBubble runs a test in virtual time, with a stream s and a consumer c whose leases last ten seconds.
func inBubble(t *testing.T, streamOptions, consumerOptions string, f func(t *testing.T, a *api)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, newAPI(t, server.Config{}).withStream(streamOptions, `,"ack_wait_ms":10000`+consumerOptions))
	})
}
