package sequin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// What the trace reports about other dials proves nothing about the attempt's own connection. net/http dials while another
// connection may come free, and reports the end of that dial to the attempt that began it.
func TestOnlyTheAttemptsOwnConnectionCounts(t *testing.T) {
	broken := errors.New("broken handshake")
	failedHandshake := func(tr *httptrace.ClientTrace) {
		if tr.TLSHandshakeStart != nil {
			tr.TLSHandshakeStart()
		}
		if tr.TLSHandshakeDone != nil {
			tr.TLSHandshakeDone(tls.ConnectionState{}, broken)
		}
	}
	noConnection := func(tr *httptrace.ClientTrace) { tr.GetConn(""); failedHandshake(tr) }
	sent := func(tr *httptrace.ClientTrace) {
		tr.GetConn("")
		tr.GotConn(httptrace.GotConnInfo{})
		tr.WroteHeaders()
		tr.WroteRequest(httptrace.WroteRequestInfo{})
	}
	for _, row := range []struct {
		name     string
		attempts []func(tr *httptrace.ClientTrace) // what happens before the connection breaks
		unknown  bool
	}{
		{"no connection", []func(*httptrace.ClientTrace){noConnection, noConnection, noConnection, noConnection}, false},
		{"an earlier attempt had none", []func(*httptrace.ClientTrace){noConnection, sent}, true},
		{"another dial lost the race", []func(*httptrace.ClientTrace){func(tr *httptrace.ClientTrace) { sent(tr); failedHandshake(tr) }}, true},
		{"another dial failed before the race was over", []func(*httptrace.ClientTrace){func(tr *httptrace.ClientTrace) {
			tr.GetConn("")
			failedHandshake(tr)
			tr.GotConn(httptrace.GotConnInfo{})
			tr.WroteHeaders()
		}}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				hc := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					row.attempts[n](httptrace.ContextClientTrace(r.Context()))
					n++
					return nil, io.EOF
				})}
				c, err := sequin.NewClient(sequin.Config{HTTPClient: hc, Retry: sequin.RetryConfig{MaxWait: 200 * time.Millisecond}})
				require.NoError(t, err)
				err = c.AckMessage(t.Context(), "s", "all", someID)
				require.Equal(t, row.unknown, errors.Is(err, sequin.ErrOutcomeUnknown), "%v", err)
				require.Equal(t, !row.unknown, errors.Is(err, sequin.ErrUnreachable))
				require.Len(t, row.attempts, n)
			})
		})
	}
}

// gate is a listener whose next connection may be kept from its handshake.
type gate struct {
	net.Listener
	hold atomic.Bool
	held chan net.Conn
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || !g.hold.CompareAndSwap(true, false) {
			return c, err
		}
		g.held <- c
	}
}

// An ack dials because the only connection is busy, gets that connection after all, and is cut after the server has acted.
// Meanwhile the dial fails.
func TestTheLoserOfTwoRacingDialsSaysNothingOfAnAck(t *testing.T) {
	api := server.New(server.Config{Compat: server.Aug2024})
	defer api.Close()
	busy, free, handshakeFailed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var held net.Conn
	var acks atomic.Int32
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			busy <- struct{}{}
			<-free
		case strings.HasSuffix(r.URL.Path, "/ack"):
			acks.Add(1)
			_ = held.Close()
			<-handshakeFailed
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	}))
	door := &gate{Listener: web.Listener, held: make(chan net.Conn)}
	web.Listener, web.Config.ErrorLog = door, quiet()
	web.StartTLS()
	defer web.Close()
	c, err := sequin.NewClient(sequin.Config{BaseURL: web.URL, HTTPClient: web.Client(), Retry: sequin.RetryConfig{MinWait: 1, MaxWait: 1}})
	require.NoError(t, err)

	listed := make(chan error, 1)
	go func() { _, err := c.ListStreams(t.Context()); listed <- err }()
	<-busy
	door.hold.Store(true)
	acked := make(chan error, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
		if err != nil {
			close(handshakeFailed)
		}
	}})
	go func() { acked <- c.AckMessage(ctx, "s", "all", someID) }()
	held = <-door.held
	close(free)
	require.NoError(t, <-listed)
	require.ErrorIs(t, <-acked, sequin.ErrOutcomeUnknown)
	require.EqualValues(t, 1, acks.Load())
}

// Proxies and gateways refuse GET and DELETE requests with a body, and a body of unknown length counts as one.
func TestOverHTTP2GetAndDeleteHaveNoBody(t *testing.T) {
	api := server.New(server.Config{})
	defer api.Close()
	var mu sync.Mutex
	bodies, seen := []string{}, 0
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if r.ProtoMajor == 2 && r.Method != http.MethodPost {
			seen++
			if r.ContentLength != 0 {
				bodies = append(bodies, r.Method+" "+r.URL.Path)
			}
		}
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	c, err := sequin.NewClient(sequin.Config{BaseURL: web.URL, HTTPClient: web.Client()})
	require.NoError(t, err)
	ctx := t.Context()
	_, err = c.ListStreams(ctx) // the first request of the Client, which does not know that it speaks HTTP/2
	require.NoError(t, err)
	_, err = c.CreateStream(ctx, "s", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = c.GetStream(ctx, "s")
	require.NoError(t, err)
	require.NoError(t, c.DeleteStream(ctx, "s"))
	require.Equal(t, 3, seen)
	require.Empty(t, bodies)
}

// The 2024 server closes the connection after a 500 without a summary and after a 413, and does not say so.
func TestAConnectionIsNotUsedAgainAfterAnAnswerThatSpoilsIt(t *testing.T) {
	const crash = `{"errors":{"detail":"Internal Server Error"}}`
	for name, row := range map[string]struct {
		fault sequintest.Fault
		again bool
	}{
		"Sequin's own 404":     {sequintest.Fault{Status: 404, Body: ownRefusal}, true},
		"Sequin's own 503":     {sequintest.Fault{Status: 503, Body: ownRefusal}, true},
		"a crash":              {sequintest.Fault{Status: 500, Body: crash}, false},
		"a 413":                {sequintest.Fault{Status: 413, Body: "Request Entity Too Large"}, false},
		"a 413 as JSON":        {sequintest.Fault{Status: 413, Body: `{"errors":{"detail":"Request Entity Too Large"}}`}, false},
		"a 500 without a body": {sequintest.Fault{Status: 500}, false},
		"a foreign 403":        {sequintest.Fault{Status: 403, Body: "<html>"}, false},
		"a foreign 429":        {sequintest.Fault{Status: 429}, false},
		"a foreign 200":        {sequintest.Fault{Status: 200, Body: "<html>"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
				hc, dials := countingDials(w.Server)
				c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
				require.NoError(t, err)
				row.fault.Count = 2 // on two connections, which come free again
				row.fault.Delay = time.Second
				w.Fault(row.fault)
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() { _, _ = c.ListStreams(w.ctx) })
				}
				both.Wait()
				require.EqualValues(t, 2, dials.Load())
				before, began := w.Count(sequintest.Any), time.Now()
				require.NoError(t, o.call(w.ctx, c))
				requests := 1
				if o.op == sequintest.Extend || o.op == sequintest.PurgeStream {
					requests = 2 // no answer has named the extensions of the server, so that it reads the stream first
				}
				require.Equal(t, requests, w.Count(sequintest.Any)-before)
				require.Equal(t, row.again, dials.Load() == 2)
				require.Zero(t, time.Since(began), "without a backoff")
			})
		})
	}
}

// An attempt that was given a connection to avoid gets another one, from net/http or from the loop of Attempts. What happens on
// that one counts: an ack whose answer was lost there is not repeated.
func TestAnAckThatLeftASpoiltConnectionIsNotRepeated(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		for range 50 { // which of the two gives it another connection is up to the scheduler
			hc, dials := countingDials(w.Server)
			c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc})
			require.NoError(t, err)
			w.Fault(sequintest.Fault{Op: sequintest.ListStreams, Status: 413, Count: 1})
			_, err = c.ListStreams(w.ctx)
			require.Error(t, err)
			w.Fault(sequintest.Fault{Op: sequintest.Ack, CutAfter: true, Count: 1})
			before := w.Count(sequintest.Ack)
			require.ErrorIs(t, c.AckMessage(w.ctx, "s", "all", someID), sequin.ErrOutcomeUnknown)
			require.Equal(t, 1, w.Count(sequintest.Ack)-before)
			require.EqualValues(t, 2, dials.Load())
		}
	})
}

// A caller's dialer may return connections of a type that cannot be compared.
func TestAConnectionOfAnUncomparableTypeIsUsed(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		client := w.overWire(t, func(c net.Conn, b []byte) (int, error) { return c.Write(b) })
		w.Fault(sequintest.Fault{Status: 500, Count: 1})
		_, err := client.ListStreams(w.ctx)
		require.NoError(t, err)
	})
}

// A dial that hangs is noticed by the end of the attempt only, and says that no connection was made.
func TestAnAttemptThatGetsNoConnectionInTimeIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
			time.Sleep(time.Minute)
			return nil, errors.New("at last")
		}
		c, err := sequin.NewClient(sequin.Config{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: hang}}})
		require.NoError(t, err)
		began := time.Now()
		err = c.AckMessage(t.Context(), "s", "all", someID)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Equal(t, 30*time.Second, time.Since(began))
		time.Sleep(time.Minute) // until the dial has ended
	})
}

// Behind a balancer that spreads connections, an HTTP/2 connection to a broken server would otherwise be used for ever.
func TestAnHTTP2ConnectionGetsOneMoreRequestAfterAnAnswerThatSpoilsIt(t *testing.T) {
	for body, want := range map[string]int{"": 3, ownRefusal: 1} {
		connections := map[string]bool{}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			connections[r.RemoteAddr] = true // one request runs at a time
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(body))
		}))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		for range 6 {
			require.Error(t, client.AckMessage(t.Context(), "s", "c", "00000000-0000-4000-8000-000000000000"))
		}
		require.Len(t, connections, want, "of 6 answers with the body %q", body)
	}
}
