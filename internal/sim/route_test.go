package sim

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

// byRoute makes a request with a body of that many bytes by a route with one fault, to a server that answers all sends with as
// many bytes, and returns what the client gets and how long it took.
func byRoute(t *testing.T, f faultPlan, size int, trace *httptrace.ClientTrace) (status int, body string, took time.Duration, err error) {
	t.Helper()
	srv := sequintest.NewServer(t, sequintest.Config{})
	srv.Fault(sequintest.Fault{Status: http.StatusOK, Body: strings.Repeat("a", size), Op: sequintest.Send})
	r := newRoute(&weather{}, srv.Client().Transport.(*http.Transport))
	end := r.weather.begin(f)
	began := time.Now()
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, srv.URL+"/api/streams/s/messages",
		strings.NewReader(strings.Repeat("q", size)))
	require.NoError(t, err)
	resp, err := r.RoundTrip(req)
	var answer []byte
	if err == nil {
		status = resp.StatusCode
		answer, err = io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
	}
	took = time.Since(began)
	r.next.CloseIdleConnections()
	end()
	_, active := r.weather.is(f.Kind)
	require.False(t, active)
	return status, string(answer), took, err
}

func TestARouteHasTheFaultsOfTheWeather(t *testing.T) {
	for _, row := range []struct {
		name   string
		fault  faultPlan
		size   int
		status int
		answer int // bytes
		took   time.Duration
		err    error
	}{
		{"none", faultPlan{Kind: down}, 5000, 200, 5000, 0, nil},
		{"an answer within the limit", faultPlan{Kind: answerLimitCut, Limit: 5000}, 5000, 200, 5000, 0, nil},
		{"an answer over the limit is cut", faultPlan{Kind: answerLimitCut, Limit: 4999}, 5000, 200, 4999, 0, io.ErrUnexpectedEOF},
		{"an answer over the limit is replaced", faultPlan{Kind: answerLimit502, Limit: 4999}, 5000, 502, 25, 0, nil},
		{"a read time-out", faultPlan{Kind: readTimeout504, Delay: time.Second}, 5000, 200, 5000, 0, nil},
		// The header of a request takes about 150 bytes, that of the answer about as much.
		{"a slow link", faultPlan{Kind: slowLink, Limit: 10_000}, 50_000, 200, 50_000, 10 * time.Second, nil},
		{"a slow dial", faultPlan{Kind: slowDial, Share: 100, Delay: 2 * time.Second}, 10, 200, 10, 2 * time.Second, nil},
		{"another dial is slow", faultPlan{Kind: slowDial, Share: 0, Delay: 2 * time.Second}, 10, 200, 10, 0, nil},
		{"a broken backend", faultPlan{Kind: brokenBackend, Share: 100, Status: 500}, 10, 500, len(bare500), 0, nil},
		{"a broken backend behind a proxy", faultPlan{Kind: brokenBackend, Share: 100, Status: 502}, 10, 502, 25, 0, nil},
		{"another connection has the broken backend", faultPlan{Kind: brokenBackend, Share: 0, Status: 500}, 10, 200, 10, 0, nil},
		{"a failed handshake", faultPlan{Kind: failedHandshake, Share: 100, Delay: time.Second}, 10, 0, 0, time.Second, tls.AlertError(handshakeFailure)},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status, answer, took, err := byRoute(t, row.fault, row.size, &httptrace.ClientTrace{})
				require.ErrorIs(t, err, row.err)
				require.Equal(t, row.status, status)
				require.Len(t, answer, row.answer)
				require.InDelta(t, row.took, took, float64(100*time.Millisecond))
			})
		})
	}
}

func TestAProxyGivesUpAfterItsReadTimeout(t *testing.T) {
	for _, kind := range []faultKind{readTimeout504, readTimeoutCut} {
		synctest.Test(t, func(t *testing.T) {
			// The link is much slower than the proxy's patience.
			srv := sequintest.NewServer(t, sequintest.Config{})
			srv.Fault(sequintest.Fault{Delay: time.Hour})
			r := newRoute(&weather{}, srv.Client().Transport.(*http.Transport))
			defer r.weather.begin(faultPlan{Kind: kind, Delay: 3 * time.Second})()
			began := time.Now()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/api/streams", nil)
			require.NoError(t, err)
			resp, err := r.RoundTrip(req)
			require.Equal(t, 3*time.Second, time.Since(began))
			if kind == readTimeoutCut {
				require.ErrorIs(t, err, errReset)
				return
			}
			require.NoError(t, err)
			require.Equal(t, http.StatusGatewayTimeout, resp.StatusCode)
		})
	}
}

func TestAFailedHandshakeIsReportedToTheTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported error
		trace := &httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) { reported = err }}
		_, _, _, err := byRoute(t, faultPlan{Kind: failedHandshake, Share: 100}, 1, trace)
		require.Error(t, err)
		require.True(t, errors.Is(reported, tls.AlertError(handshakeFailure)))
	})
}

func TestEveryKindOfFaultIsDrawn(t *testing.T) {
	drawn, statuses, without := map[faultKind]bool{}, map[int]bool{}, map[string]bool{}
	purges, withHeaders := 0, 0
	for seed := range uint64(500) {
		s := draw(seed)
		for _, f := range s.Faults {
			drawn[f.Kind] = true
			if f.Kind == foreign {
				statuses[f.Status] = true
			}
		}
		for _, name := range s.Without {
			without[name] = true
		}
		purges += len(s.Purges)
		for _, p := range s.Publishers {
			for _, st := range p.Steps {
				if st.Headers {
					withHeaders++
				}
			}
		}
	}
	require.Len(t, drawn, len(faultForms))
	require.Len(t, statuses, len(foreignStatuses))
	require.Len(t, without, 8)
	require.Greater(t, purges, 100)
	require.Greater(t, withHeaders, 500)
}
