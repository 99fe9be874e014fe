package sequin_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// roundTrip is a RoundTripper made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a client whose every request gets the same answer, without Response.Request and Header.
func answers(status int, body string) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
	})}
}

// listing lists streams with cfg and returns the request.
func listing(t *testing.T, cfg sequin.Config) *http.Request {
	t.Helper()
	var seen *http.Request
	cfg.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		seen = r
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"data":[]}`))}, nil
	})}
	c, err := sequin.NewClient(cfg)
	require.NoError(t, err)
	_, err = c.ListStreams(t.Context())
	require.NoError(t, err)
	return seen
}

func TestTheServersAddressIsBaseURLThenTheVariableThenTheDefault(t *testing.T) {
	for _, row := range []struct{ name, base, variable, want string }{
		{"zero config", "", "", "http://localhost:7376/api/streams"},
		{"variable", "", "http://streams.example:8080", "http://streams.example:8080/api/streams"},
		{"BaseURL before the variable", "https://a.example", "http://b.example", "https://a.example/api/streams"},
		{"path prefix", "http://a.example/sequin", "", "http://a.example/sequin/api/streams"},
		{"trailing slash", "http://a.example/sequin/", "", "http://a.example/sequin/api/streams"},
		{"lone slash", "http://a.example/", "", "http://a.example/api/streams"},
		{"escaped prefix", "http://a.example/x%2Fy", "", "http://a.example/x%2Fy/api/streams"},
		{"IPv6", "http://[::1]:7376", "", "http://[::1]:7376/api/streams"},
		{"last port", "http://a.example:65535", "", "http://a.example:65535/api/streams"},
		{"upper case", "HTTP://a.example", "", "http://a.example/api/streams"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("SEQUIN_URL", row.variable)
			require.Equal(t, row.want, listing(t, sequin.Config{BaseURL: row.base}).URL.String())
		})
	}
}

func TestAnInvalidConfigIsRefusedAndItsFieldIsNamed(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	for _, row := range []struct {
		name string
		cfg  sequin.Config
		says string
	}{
		{"no scheme", sequin.Config{BaseURL: "localhost:7376"}, "http://"},
		{"host only", sequin.Config{BaseURL: "localhost"}, "http://"},
		{"other scheme", sequin.Config{BaseURL: "postgres://localhost"}, "http://"},
		{"no host", sequin.Config{BaseURL: "http://"}, "has no host"},
		{"port only", sequin.Config{BaseURL: "http://:7376"}, "has no host"},
		{"bad port", sequin.Config{BaseURL: "http://localhost:http"}, "invalid port"},
		{"port too large", sequin.Config{BaseURL: "http://localhost:65536"}, "65536, must be 1 to 65535"},
		{"port of more than 64 bits", sequin.Config{BaseURL: "http://localhost:99999999999999999999"}, "must be 1 to 65535"},
		{"port zero", sequin.Config{BaseURL: "http://localhost:0"}, "must be 1 to 65535"},
		{"space", sequin.Config{BaseURL: "http://local host"}, "invalid character"},
		{"bad escape", sequin.Config{BaseURL: "http://localhost/%zz"}, "invalid URL escape"},
		{"newline", sequin.Config{BaseURL: "http://localhost\n"}, "control character"},
		{"query", sequin.Config{BaseURL: "http://localhost?x=1"}, "may have only a scheme"},
		{"empty query", sequin.Config{BaseURL: "http://localhost?"}, "may have only a scheme"},
		{"fragment", sequin.Config{BaseURL: "http://localhost#x"}, "may have only a scheme"},
		{"user", sequin.Config{BaseURL: "http://me:secret@localhost"}, "may have only a scheme"},
		{"user in an address that cannot be parsed", sequin.Config{BaseURL: "http://me:secret@local host"}, "invalid character"},
		{"Timeout", sequin.Config{Timeout: -1}, "Timeout"},
		{"Token with a newline", sequin.Config{Token: "secret\n"}, "Token"},
		{"UserAgent", sequin.Config{UserAgent: "a\r\nb"}, "UserAgent"},
		{"MaxAttempts", sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: -1}}, "MaxAttempts"},
		{"MinWait", sequin.Config{Retry: sequin.RetryConfig{MinWait: -1}}, "MinWait"},
		{"MaxWait", sequin.Config{Retry: sequin.RetryConfig{MaxWait: -1}}, "MaxWait"},
		{"MinWait above MaxWait", sequin.Config{Retry: sequin.RetryConfig{MinWait: 2, MaxWait: 1}}, "MinWait"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := sequin.NewClient(row.cfg)
			require.ErrorIs(t, err, sequin.ErrInvalidConfig)
			require.ErrorContains(t, err, row.says)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestAnInvalidServerAddressOfTheEnvironmentNamesTheVariable(t *testing.T) {
	t.Setenv("SEQUIN_URL", "localhost")
	_, err := sequin.NewClient(sequin.Config{})
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
	require.ErrorContains(t, err, "$SEQUIN_URL")
}

func TestTheTokenOfTheEnvironmentIsUsedIfTheConfigHasNone(t *testing.T) {
	source := func(context.Context) (string, error) { return "of the source", nil }
	for _, row := range []struct {
		name, variable string
		cfg            sequin.Config
		want           []string
	}{
		{"nothing", "", sequin.Config{}, nil},
		{"variable", "of the variable", sequin.Config{}, []string{"Bearer of the variable"}},
		{"Token before the variable", "of the variable", sequin.Config{Token: "of the config"}, []string{"Bearer of the config"}},
		{"TokenSource before the variable", "of the variable", sequin.Config{TokenSource: source}, []string{"Bearer of the source"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("SEQUIN_TOKEN", row.variable)
			require.Equal(t, row.want, listing(t, row.cfg).Header["Authorization"])
		})
	}
	t.Setenv("SEQUIN_TOKEN", "secret\n")
	_, err := sequin.NewClient(sequin.Config{})
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
	require.ErrorContains(t, err, "$SEQUIN_TOKEN")
	require.NotContains(t, err.Error(), "secret")
}

func TestEveryRequestHasItsHeader(t *testing.T) {
	t.Setenv("SEQUIN_TOKEN", "")
	r := listing(t, sequin.Config{})
	require.Equal(t, "application/json", r.Header.Get("Accept"))
	require.Equal(t, "sequin-go/"+sequin.Version, r.UserAgent())
	require.NotContains(t, r.Header, "Authorization")
	require.NotContains(t, r.Header, "Content-Type", "a request without a body has no content type")
	id, err := uuid.Parse(r.Header.Get("X-Request-Id"))
	require.NoError(t, err)
	require.NotEqual(t, uuid.Nil, id)

	r = listing(t, sequin.Config{Token: "s3cr3t", UserAgent: "billing/7"})
	require.Equal(t, "Bearer s3cr3t", r.Header.Get("Authorization"))
	require.Equal(t, "billing/7", r.UserAgent())
	require.NotEqual(t, id.String(), r.Header.Get("X-Request-Id"))
}

func TestTheTokenIsSentWithEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{Token: "s3cr3t"}, sequin.Config{})
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		for _, token := range []string{"", "other"} {
			c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), Token: token})
			require.NoError(t, err)
			_, err = c.ListStreams(w.ctx)
			require.ErrorIs(t, err, sequin.ErrUnauthorized)
		}
	})
}

// hanging is a world whose server never answers a receive, and whose client makes one attempt. limit is the Timeout of its
// http.Client.
func hanging(t *testing.T, cfg sequin.Config, limit time.Duration) *world {
	t.Helper()
	cfg.Retry.MaxAttempts = 1
	w := newWorld(t, sequintest.Config{}, sequin.Config{})
	w.stream(t, "s", sequin.ConsumerOptions{})
	hc := *w.Server.Client()
	hc.Timeout = limit
	cfg.BaseURL, cfg.HTTPClient = w.URL, &hc
	c, err := sequin.NewClient(cfg)
	require.NoError(t, err)
	w.client = c
	w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 24 * time.Hour})
	return w
}

func TestTimeoutLimitsEachAttemptAndAReceiveAddsItsWaitFor(t *testing.T) {
	const s = time.Second
	for _, row := range []struct {
		name                        string
		timeout, limit, wait, after time.Duration
	}{
		{"default", 0, 0, 0, 30 * s},
		{"set", 2 * s, 0, 0, 2 * s},
		{"with WaitFor", 2 * s, 0, 20 * s, 22 * s},
		{"HTTPClient.Timeout is the limit", 0, 5 * s, 0, 5 * s},
		{"HTTPClient.Timeout above Timeout changes nothing", 2 * s, 5 * s, 0, 2 * s},
		{"HTTPClient.Timeout limits the sum", 4 * s, 5 * s, 4 * s, 5 * s},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := hanging(t, sequin.Config{Timeout: row.timeout}, row.limit)
				began := time.Now()
				_, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{WaitFor: row.wait})
				require.Error(t, err)
				require.Equal(t, row.after, time.Since(began))
			})
		})
	}
}

func TestEveryAttemptHasATimeoutOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Timeout: time.Second})
		w.Fault(sequintest.Fault{Op: sequintest.ListStreams, Delay: time.Hour, Count: 3})
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		require.Equal(t, 4, w.Count(sequintest.ListStreams))
	})
}

func TestALongPollMayWaitLongerThanTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Timeout: time.Second})
		w.stream(t, "s", sequin.ConsumerOptions{})
		began := time.Now()
		got, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{WaitFor: 20 * time.Second})
		require.NoError(t, err)
		require.Empty(t, got)
		require.Equal(t, 20*time.Second, time.Since(began))
	})
}

func TestWaitForIsAtMostHTTPClientTimeoutMinusOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hanging(t, sequin.Config{}, 10*time.Second)
		_, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{WaitFor: 9001 * time.Millisecond})
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		require.ErrorContains(t, err, "9s")
		require.Zero(t, w.Count(sequintest.Receive))
		_, err = w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{WaitFor: 9 * time.Second})
		require.NotErrorIs(t, err, sequin.ErrInvalidArgument)
		require.Equal(t, 1, w.Count(sequintest.Receive))
	})
}

func TestTheCallersHTTPClientIsNotChangedOrClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		hc, dials := countingDials(w.Server)
		hc.Timeout = 7 * time.Second
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
		require.NoError(t, err)
		_, err = c.ListStreams(w.ctx)
		require.NoError(t, err)
		synctest.Wait() // the connection is idle again

		w.Fault(sequintest.Fault{Status: 503, Body: ownRefusal, Count: 1})
		_, err = c.ListStreams(w.ctx)
		require.Error(t, err, "after an error, go-retryablehttp calls CloseIdleConnections")
		synctest.Wait()
		c.Close()
		_, err = c.ListStreams(w.ctx)
		require.NoError(t, err)
		require.EqualValues(t, 1, dials.Load(), "one connection serves all three")
		require.Equal(t, 7*time.Second, hc.Timeout)
		require.Nil(t, hc.CheckRedirect)
	})
}

func TestCloseClosesTheIdleConnectionsOfItsOwnTransport(t *testing.T) {
	closed := make(chan struct{}, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[]}`))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	srv.Start()
	c, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
	require.NoError(t, err)
	_, err = c.ListStreams(context.Background())
	require.NoError(t, err)
	c.Close()
	<-closed
	srv.Close()
	require.GreaterOrEqual(t, c.IdleConnsPerHost(), 2*(64+16), "every lane and poller has a connection")
}

// The log of a Client, a Publisher and a Subscriber in trouble.
func TestTheTokenIsNotLogged(t *testing.T) {
	t.Setenv("SEQUIN_TOKEN", "s3cret")
	for _, trouble := range []sequintest.Fault{{Status: 401, Body: ownRefusal}, {Status: 503, Body: ownRefusal}, {Status: 403, Body: "<html>"}, {CutAfter: true}} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			all := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: all})
			w.stream(t, "orders", sequin.ConsumerOptions{})
			require.Equal(t, "Bearer s3cret", w.Requests(sequintest.CreateStream)[0].Header.Get("Authorization"))
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			fault := w.Fault(trouble)
			_ = pub.Send(w.ctx, "k", "x")
			_, err = w.client.ListStreams(w.ctx)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "s3cret")
			time.Sleep(20 * time.Second)
			fault.Remove()
			_, _ = sub.Close(w.ctx), pub.Close(w.ctx)
			require.NotEmpty(t, log.String())
			require.NotContains(t, log.String(), "s3cret")
		})
	}
}
