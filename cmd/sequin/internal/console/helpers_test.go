package console

import (
	"context"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/server"
)

// world is a server with a console, and a browser without scripts.
type world struct {
	t       *testing.T
	console *Console
	api     *server.Server
	web     *httptest.Server
	client  *sequin.Client // may do everything
	browser *http.Client
	log     clitest.Buffer

	revoked, reduced atomic.Bool // no token counts any more; they may read only
}

const (
	adminToken = "s3cret-admin"
	readToken  = "s3cret-read"
)

// rights are those of the tokens of the tests.
func (w *world) rights(token string) server.Rights {
	known := map[string]server.Rights{adminToken: server.AllRights, readToken: server.CanRead}[token]
	switch {
	case w.revoked.Load():
		return 0
	case w.reduced.Load():
		return known & server.CanRead
	}
	return known
}

// newWorld starts a server. Without tokens it is one of loopback, as sequin serve makes it.
func newWorld(t *testing.T, tokens bool) *world { return newWorldOf(t, tokens, server.Documented) }

func newWorldOf(t *testing.T, tokens bool, compat server.Compat) *world {
	w := &world{t: t}
	cfg := Config{Version: "v0", Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	c := server.Config{LoopbackOnly: !tokens, Compat: compat}
	token := ""
	if tokens {
		cfg.Rights, cfg.Secret, c.Access, token = w.rights, func() []byte { return []byte("of the tests") }, w.rights, adminToken
	}
	w.console = New(cfg)
	c.Console = w.console
	w.api = server.New(c)
	w.console.Use(w.api)
	w.web = httptest.NewServer(w.api)
	t.Cleanup(func() {
		w.console.Close()
		w.api.Close()
		w.browser.CloseIdleConnections()
		w.web.Close()
	})
	var err error
	w.client, err = sequin.NewClient(sequin.Config{
		BaseURL: w.web.URL, HTTPClient: w.web.Client(), TokenSource: func(context.Context) (string, error) { return token, nil },
	})
	require.NoError(t, err)
	w.browse()
	return w
}

// browse begins with a browser that has no cookies.
func (w *world) browse() {
	jar, err := cookiejar.New(nil)
	require.NoError(w.t, err)
	w.browser = &http.Client{Jar: jar, Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// got is what the browser got.
type got struct {
	status int
	header http.Header
	body   string
}

// to is where the answer leads.
func (g got) to() string { return g.header.Get("Location") }

func (w *world) do(r *http.Request) got {
	w.t.Helper()
	resp, err := w.browser.Do(r)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.NotContains(w.t, string(body), "s3cret", "a page never has the token")
	return got{resp.StatusCode, resp.Header, string(body)}
}

func (w *world) request(method, path string, body io.Reader, headers ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest(method, w.web.URL+path, body)
	require.NoError(w.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	return r
}

// get gets a page. Headers come in pairs.
func (w *world) get(path string, headers ...string) got {
	w.t.Helper()
	return w.do(w.request(http.MethodGet, path, nil, headers...))
}

// see gets a page that must be there.
func (w *world) see(path string) string {
	w.t.Helper()
	g := w.get(path)
	require.Equalf(w.t, http.StatusOK, g.status, "%s: %s", path, g.body)
	return g.body
}

// post sends a form without its token.
func (w *world) post(path string, values url.Values, headers ...string) got {
	w.t.Helper()
	headers = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)
	return w.do(w.request(http.MethodPost, path, strings.NewReader(values.Encode()), headers...))
}

var (
	formTokenField = regexp.MustCompile(`name="form_token" value="([^"]+)"`)
	hiddenField    = regexp.MustCompile(`type="hidden" name="(\w+)" value="([^"]*)"`)
)

// submit gets the page of a form, fills values in, which come in pairs, and sends it.
func (w *world) submit(path string, values ...string) got {
	w.t.Helper()
	page := w.see(path)
	form := url.Values{}
	own := page[strings.Index(page, "<main"):]
	for _, hidden := range hiddenField.FindAllStringSubmatch(own, -1) {
		form.Add(hidden[1], html.UnescapeString(hidden[2]))
	}
	for i := 0; i < len(values); i += 2 {
		form.Add(values[i], values[i+1])
	}
	action, _, _ := strings.Cut(path, "?")
	return w.post(action, form)
}

// did is submit for an action that must succeed. It returns the page that it leads to.
func (w *world) did(path string, values ...string) string {
	w.t.Helper()
	g := w.submit(path, values...)
	require.Equalf(w.t, http.StatusSeeOther, g.status, "%s: %s", path, g.body)
	return w.see(g.to())
}

// login logs in.
func (w *world) login(token string) {
	w.t.Helper()
	g := w.submit(Path+"/login", "token", token)
	require.Equalf(w.t, http.StatusSeeOther, g.status, "%s", g.body)
}

// orders makes a stream with a consumer and messages.
func (w *world) orders(messages ...sequin.Message) {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.client.CreateStream(ctx, "orders", sequin.StreamOptions{})
	require.NoError(w.t, err)
	_, err = w.client.CreateConsumer(ctx, "orders", "billing", ">", sequin.ConsumerOptions{})
	require.NoError(w.t, err)
	if len(messages) > 0 {
		_, err = w.client.SendMessages(ctx, "orders", messages)
		require.NoError(w.t, err)
	}
}
