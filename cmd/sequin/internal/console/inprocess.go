package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// inProcess is a transport to the handler of this process. Requests run on the goroutine of the caller.
type inProcess struct{ console *Console }

// RoundTrip returns the whole answer of the handler.
func (t inProcess) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	r = r.Clone(r.Context())
	r.RequestURI = r.URL.RequestURI()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	answer := &recorder{header: http.Header{}}
	defer func() {
		// The handler ends an answer in this way that it cannot complete. net/http would close the connection.
		if p := recover(); p == http.ErrAbortHandler {
			err = errors.New("the answer was cut off")
		} else if p != nil {
			panic(p)
		}
	}()
	t.console.api.ServeHTTP(answer, r)
	_ = r.Body.Close()
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	answer.WriteHeader(http.StatusOK) // of an answer without a body
	return &http.Response{
		Status: http.StatusText(answer.status), StatusCode: answer.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.header, Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len()), Request: r,
	}, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// baseURL is the address that the API sees. No request leaves the process.
const baseURL = "http://localhost"

// newClient returns a client for a token. A request is made once: a person who sees an error can ask again.
func (c *Console) newClient(token string) *sequin.Client {
	client, err := sequin.NewClient(sequin.Config{
		BaseURL: baseURL, HTTPClient: &http.Client{Transport: inProcess{c}}, UserAgent: "sequin-console/" + sequin.Version,
		TokenSource: func(context.Context) (string, error) { return token, nil }, // also for no token: Config.Token would read the environment
		Retry:       sequin.RetryConfig{MaxAttempts: 1},
	})
	if err != nil {
		panic(err) // the configuration is constant
	}
	return client
}

// asked is what the pages of one token share: a client, and what is known of the server.
type asked struct {
	client *sequin.Client
	watch  *overview.Watcher
	used   time.Time
}

// watchers keeps them by the hash of the token. The history of the rates is lost when nobody has looked for keepFor.
type watchers struct {
	mu      sync.Mutex
	byToken map[[sha256.Size]byte]*asked
}

// keepFor is how long the rates are kept that no page shows.
const keepFor = time.Hour

func (w *watchers) init() { w.byToken = map[[sha256.Size]byte]*asked{} }

// of returns what the pages of a token share. The token must be one of the server: each takes memory.
func (c *Console) of(token string, now time.Time) *asked {
	w := &c.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	for sum, a := range w.byToken {
		if now.Sub(a.used) > keepFor {
			delete(w.byToken, sum)
		}
	}
	sum := sha256.Sum256([]byte(token))
	a := w.byToken[sum]
	if a == nil {
		metrics := overview.HTTPMetrics(&http.Client{Transport: inProcess{c}}, baseURL, func() (string, error) { return token, nil })
		a = &asked{client: c.newClient(token)}
		a.watch = overview.New(overview.Config{Client: a.client, Metrics: metrics})
		w.byToken[sum] = a
	}
	a.used = now
	return a
}
