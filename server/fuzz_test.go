package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/conformance"
	"github.com/sequin-go/sequin/server"
)

// FuzzHandlers sends one arbitrary request to a server with a stream s, a consumer c, three messages and one delivery. No
// handler panics, the documented mode never answers 5xx, and a request that is answered 4xx changes nothing.
func FuzzHandlers(f *testing.F) {
	for _, x := range conformance.Recording(f) {
		body := ""
		if x.Request.Body != nil {
			body = *x.Request.Body
		}
		path, query, _ := strings.Cut(x.Request.Path, "?")
		f.Add(x.Request.Method, path, query, body, x.Request.Headers["Content-Type"], "")
	}
	const json = "application/json"
	for _, seed := range [][4]string{
		{"POST", "/api/streams/s/messages", "", `{"messages":[{"key":"a.1","data":"x"},{"key":"a.1","data":"y"}]}`},
		{"POST", "/api/streams/s/consumers/c/ack", "", `{"ack_ids":["$ack"]}`},
		{"POST", "/api/streams/s/consumers/c/nack", "", `{"ack_ids":["$ack"],"undelivered":true}`},
		{"POST", "/api/streams/s/consumers/c/receive", "", `{"batch_size":10,"wait_for":"20s"}`},
		{"GET", "/api/streams/s/consumers/c/receive", "batch_size=10&wait_for=5m", ""},
		{"GET", "/api/streams/s/consumers/c/messages", "visible=true&sort=seq_desc&limit=1&key_pattern=a.*", ""},
		{"PUT", "/api/streams/s/consumers/c", "", `{"ack_wait_ms":1,"max_deliver":null,"max_ack_pending":1}`},
		{"POST", "/api/streams", "", `{"name":"n","one_message_per_key":true,"retain_up_to":1,"max_storage_gb":1}`},
		{"POST", "/api/streams/s/consumers", "", `{"name":"d","filter_key_pattern":"a.>"}`},
		{"POST", "/api/streams/s/purge", "", `{"before_seq":2,"key_pattern":"a.>"}`},
		{"POST", "/api/streams/s/purge", "", `{"all":true}`},
		{"POST", "/api/streams/s/consumers", "", `{"name":"d","filter_key_pattern":"a.>","start_from":"2026-08-01T00:00:00Z"}`},
		{"POST", "/api/streams/s/messages", "", `{"messages":[{"key":"a.1","headers":{"\u0061":"1","b":"\"\n"},"data":"y"},{"key":"a.2","data":"x","headers":null}]}`},
		{"DELETE", "/api/streams/s", "", ""},
		{"GET", "/api/streams/%2e%2e/messages/a%2Fb/consumer_info", "x=%zz", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], json, "key")
	}
	f.Fuzz(func(t *testing.T, method, path, query, body, contentType, idempotencyKey string) {
		target := &url.URL{Scheme: "http", Host: "fuzz", Path: path, RawPath: path, RawQuery: query}
		if unescaped, err := url.PathUnescape(path); err == nil {
			target.Path = unescaped
		}
		r, err := http.NewRequest(method, "http://fuzz/", nil)
		if err != nil {
			return // net/http accepts no such method
		}
		r.URL = target
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Idempotency-Key", idempotencyKey)
		if idempotencyKey != "" {
			r.Header.Set("Sequin-Part-Of", idempotencyKey)
		}
		for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
			synctest.Test(t, func(t *testing.T) { fuzzOne(t, mode, r, body) })
		}
	})
}

func fuzzOne(t *testing.T, mode server.Compat, r *http.Request, body string) {
	a := newAPI(t, server.Config{Compat: mode, Logger: slog.New(panics{t})}).withStream("", "")
	a.send("a.1=1", "a.2=2", "b.1=3")
	body = strings.ReplaceAll(body, "$ack", a.receive(`{}`)[0].AckID)
	before := everything(a)

	sent := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://fuzz/", strings.NewReader(body))
	sent.Method, sent.URL, sent.Header = r.Method, r.URL, r.Header.Clone()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, sent)
	if mode == server.Documented {
		require.Lessf(t, w.Code, 500, "%s", w.Body)
	}
	if w.Code/100 == 4 {
		require.Equal(t, before, everything(a), "a refusal changes nothing")
	}
}

// everything returns the whole state of a server as text.
func everything(a *api) string {
	var b strings.Builder
	for _, name := range a.Streams() {
		state, _ := a.Inspect(name)
		fmt.Fprintf(&b, "%+v\n", state)
	}
	return b.String()
}

// panics fails a test at every log line, because the server logs panics only.
type panics struct{ t *testing.T }

func (p panics) Enabled(context.Context, slog.Level) bool { return true }
func (p panics) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p panics) WithGroup(string) slog.Handler            { return p }

func (p panics) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	p.t.Error(text)
	return nil
}
