package transport

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// roundTripper is a RoundTripper made of a function. It calls no trace by itself.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// attempt makes one attempt at a POST of p by way of rt.
func attempt(t *testing.T, rt http.RoundTripper, url string, p *Payload) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	require.NoError(t, err)
	return (&Attempts{RoundTripper: rt, Peer: NewPeer(1), Body: p, Timeout: time.Minute}).RoundTrip(req)
}

func TestAPayloadSentByNetHTTPIsReused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer srv.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var bodies Bodies
	p := bodies.Get(10)
	require.GreaterOrEqual(t, cap(p.JSON), 10)
	p.JSON = append(p.JSON, `{"a":1}`...)
	require.False(t, p.released(), "no attempt was made")
	for range 2 { // each attempt sends all of it
		resp, err := attempt(t, transport, srv.URL, p)
		require.NoError(t, err)
		echo, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, `{"a":1}`, string(echo))
		require.True(t, p.Sent())
		require.True(t, p.released())
	}
	bodies.Put(p)
	require.Empty(t, bodies.Get(5).JSON)
}

func TestAPayloadThatMayStillBeReadIsNotReused(t *testing.T) {
	trace := func(r *http.Request) *httptrace.ClientTrace { return httptrace.ContextClientTrace(r.Context()) }
	broken := errors.New("broken")
	for _, row := range []struct {
		name                      string
		attempt                   func(r *http.Request)
		connected, sent, released bool
	}{
		{"a RoundTripper that calls no trace", func(*http.Request) {}, true, true, false},
		{"no connection", func(r *http.Request) { trace(r).GetConn("") }, false, false, true},
		{"a connection, nothing written", func(r *http.Request) { trace(r).GetConn(""); trace(r).GotConn(httptrace.GotConnInfo{}) }, true, false, false},
		{"no second connection", func(r *http.Request) {
			trace(r).GetConn("")
			trace(r).GotConn(httptrace.GotConnInfo{})
			trace(r).WroteHeaders()
			trace(r).WroteRequest(httptrace.WroteRequestInfo{})
			trace(r).GetConn("")
		}, false, false, true},
		{"no second connection, and a late report of the first one", func(r *http.Request) {
			trace(r).GetConn("")
			trace(r).GotConn(httptrace.GotConnInfo{})
			trace(r).GetConn("")
			trace(r).WroteHeaders()
		}, false, false, false},
		{"a second connection, nothing written", func(r *http.Request) {
			for range 2 {
				trace(r).GetConn("")
				trace(r).GotConn(httptrace.GotConnInfo{})
				trace(r).WroteRequest(httptrace.WroteRequestInfo{})
			}
		}, true, false, true},
		{"the header is written", func(r *http.Request) {
			trace(r).GetConn("")
			trace(r).GotConn(httptrace.GotConnInfo{})
			trace(r).WroteHeaders()
		}, true, true, false},
		{"all is written", func(r *http.Request) {
			trace(r).GetConn("")
			trace(r).GotConn(httptrace.GotConnInfo{})
			trace(r).WroteHeaders()
			trace(r).WroteRequest(httptrace.WroteRequestInfo{})
		}, true, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := &Payload{JSON: []byte("{}")}
			_, err := attempt(t, roundTripper(func(r *http.Request) (*http.Response, error) { row.attempt(r); return nil, broken }), "http://x", p)
			require.ErrorIs(t, err, broken)
			require.Equal(t, row.sent, p.Sent())
			require.Equal(t, row.connected, p.Connected())
			require.Equal(t, row.released, p.released())
			_, err = attempt(t, roundTripper(func(r *http.Request) (*http.Response, error) { trace(r).GetConn(""); return nil, broken }), "http://x", p)
			require.ErrorIs(t, err, broken)
			require.False(t, p.Sent(), "the next attempt starts anew")
			require.False(t, p.Connected())
		})
	}
}

func TestALargePayloadIsNotKept(t *testing.T) {
	var bodies Bodies
	p := bodies.Get(maxPooled + 1)
	p.asked.Store(true)
	require.True(t, p.released())
	bodies.Put(p)
	require.Nil(t, bodies.pool.Get())
}

func TestAnAttemptEndsWithItsTimeoutUntilTheBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ctx context.Context
		a := Attempts{Peer: NewPeer(1), Body: new(Payload), Timeout: 3 * time.Second, RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
			ctx = r.Context()
			if r.Method == http.MethodGet {
				return &http.Response{Body: io.NopCloser(strings.NewReader("x"))}, nil
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})}
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", nil)
		require.NoError(t, err)
		_, err = a.RoundTrip(req)
		require.EqualError(t, err, "no answer within 3s")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Equal(t, began, a.Began())

		req.Method = http.MethodGet
		resp, err := a.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, ctx.Err(), "the timeout covers the body")
		require.NoError(t, resp.Body.Close())
		require.Error(t, ctx.Err())
		require.Equal(t, began.Add(3*time.Second), a.Began(), "of the latest attempt")
	})
}

func TestAnAttemptReportsTheAnswerAndWhetherItHadAConnection(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the failed handshake
	srv.StartTLS()
	defer srv.Close()
	answers := 0
	a := Attempts{Peer: NewPeer(1), Body: new(Payload), Timeout: time.Minute, OnAnswer: func() { answers++ }}
	for _, row := range []struct {
		transport http.RoundTripper
		trusted   bool
	}{{&http.Transport{}, false}, {srv.Client().Transport, true}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		a.RoundTripper = row.transport
		resp, err := a.RoundTrip(req)
		require.Equal(t, row.trusted, err == nil)
		require.Equal(t, row.trusted, a.Body.Connected())
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
	}
	require.Equal(t, 1, answers)
}

func TestReadAnswerReadsUpToItsLimit(t *testing.T) {
	broken := errors.New("broken")
	response := func(text string, err error) *http.Response {
		body := io.Reader(strings.NewReader(text))
		if err != nil {
			body = io.MultiReader(body, errorReader{err})
		}
		return &http.Response{Body: io.NopCloser(body), ContentLength: int64(len(text))}
	}
	for _, row := range []struct {
		name string
		resp *http.Response
		want string
		err  error
	}{
		{"empty", response("", nil), "", nil},
		{"at the limit", response("12345", nil), "12345", nil},
		{"above the limit", response("123456", nil), "12345", ErrTooLong},
		{"broken off", response("123", broken), "123", broken},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, err := ReadAnswer(row.resp, 5)
			require.ErrorIs(t, err, row.err)
			require.Equal(t, row.want, string(a.Bytes()))
			a.Release()
		})
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
