package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestALoginIsNeededWhereThereAreTokens(t *testing.T) {
	w := newWorld(t, true)
	w.orders()
	for _, path := range []string{"/console/", "/console/streams/orders", "/console/streams/orders/data?key=a", "/console/new-stream", "/console/no/page"} {
		g := w.get(path)
		require.Equal(t, http.StatusSeeOther, g.status, path)
		require.Contains(t, g.to(), "/console/login", path)
		require.NotContains(t, g.body, "billing")
	}
	g := w.get("/console/streams/orders", "Accept", eventType)
	require.Contains(t, g.body, "event: over")
	require.NotContains(t, g.body, "billing")
	g = w.submit("/console/login", "token", "s3cret-other")
	require.Equal(t, http.StatusForbidden, g.status)
	require.Contains(t, g.body, "This is not a token of this server.")
	require.Contains(t, w.log.String(), "a login was refused")

	w.login(adminToken)
	require.Contains(t, w.see("/console/"), "orders")
	require.Contains(t, w.see("/console/streams/orders"), "billing")
	require.NotContains(t, w.log.String(), "s3cret")
}

func TestAnAddressMayGuessTenTokensAMinute(t *testing.T) {
	w := newWorld(t, true)
	for range maxRefused {
		require.Equal(t, http.StatusForbidden, w.submit("/console/login", "token", "guess").status)
	}
	g := w.submit("/console/login", "token", adminToken)
	require.Equal(t, http.StatusTooManyRequests, g.status)
	require.Equal(t, "60", g.header.Get("Retry-After"))
	require.Contains(t, g.body, "Too many logins were refused.")

	l, now := &w.console.logins, time.Now()
	require.False(t, l.begin("127.0.0.1:9", now), "the port is that of a connection")
	require.True(t, l.begin("192.0.2.1:9", now), "others may log in")
	require.True(t, l.begin("127.0.0.1:9", now.Add(loginWindow)))
	for i := range maxAddresses {
		l.refused(strconv.Itoa(i))
	}
	for range maxRefused {
		require.True(t, l.begin("one", now.Add(loginWindow)))
		l.refused("one")
	}
	require.False(t, l.begin("another", now.Add(loginWindow)), "addresses without room count as one")
	require.True(t, l.begin("7", now.Add(loginWindow)))
	require.LessOrEqual(t, len(l.count), maxAddresses+1)
}

// A client of HTTP/1.0 need not say which host it means.
func TestALoginNeedsNoHost(t *testing.T) {
	w := newWorld(t, true)
	for _, host := range []string{"", "[", ":"} {
		r, answer := httptest.NewRequest("GET", "/console/login", nil), httptest.NewRecorder()
		r.Host = host
		w.console.ServeHTTP(answer, r)
		require.Equal(t, http.StatusOK, answer.Code, host)
	}
}

func TestALoginIsSentByOurOwnForm(t *testing.T) {
	w := newWorld(t, true)
	before := formTokenField.FindStringSubmatch(w.see("/console/login"))[1]
	g := w.post("/console/login", url.Values{"token": {adminToken}})
	require.Equal(t, http.StatusForbidden, g.status, "another site could log somebody in as somebody else")
	w.login(adminToken)
	g = w.post("/console/logout", url.Values{"form_token": {before}})
	require.Equal(t, http.StatusForbidden, g.status, "what was seen before the login is of no use afterwards")
}

func TestALogoutEndsTheLogin(t *testing.T) {
	w := newWorld(t, true)
	w.login(adminToken)
	page := w.see("/console/")
	g := w.post("/console/logout", url.Values{})
	require.Equal(t, http.StatusForbidden, g.status, "another site could have sent it")
	require.Equal(t, http.StatusOK, w.get("/console/").status)
	g = w.post("/console/logout", url.Values{"form_token": {formTokenField.FindStringSubmatch(page)[1]}})
	require.Equal(t, http.StatusSeeOther, g.status)
	require.Contains(t, w.get("/console/").to(), "/console/login")
}

func TestTheLoginLeadsBackToThePage(t *testing.T) {
	w := newWorld(t, true)
	w.orders()
	g := w.get("/console/streams/orders?pattern=a.%3E")
	g = w.submit(g.to(), "token", adminToken)
	require.Equal(t, "/console/streams/orders?pattern=a.%3E", g.to())
	for _, elsewhere := range []string{"https://evil.example", "//evil.example/console/", "https://evil.example/console/", "/console/../api", "/api", "\\\\evil.example", "javascript:alert(1)", "https:///console/", ":"} {
		require.Equal(t, home, nextPage(elsewhere), elsewhere)
	}
}

func TestTheCookieOfALoginIsSealed(t *testing.T) {
	w := newWorld(t, true)
	now := time.Now()
	sealed := w.console.seal(adminToken, now)
	token, ok := w.console.unseal(sealed, now)
	require.True(t, ok)
	require.Equal(t, adminToken, token)
	require.NotContains(t, sealed, "s3cret")
	require.NotEqual(t, sealed, w.console.seal(adminToken, now), "each login has a nonce of its own")

	_, ok = w.console.unseal(sealed, now.Add(sessionFor))
	require.False(t, ok, "a login ends after a day's work")
	for _, broken := range []string{"", "x", sealed[:20], sealed[:len(sealed)-2] + "AA", "AAAA" + sealed[4:]} {
		_, ok = w.console.unseal(broken, now)
		require.False(t, ok, broken)
	}
	w.console.cfg.Secret = func() []byte { return []byte("of other tokens") }
	_, ok = w.console.unseal(sealed, now)
	require.False(t, ok, "the tokens have changed")
}

func TestCookiesAreForTheConsoleAlone(t *testing.T) {
	w := newWorld(t, true)
	g := w.get("/console/login")
	require.Contains(t, g.header.Get("Set-Cookie"), "Path=/console; HttpOnly; SameSite=Strict")
	require.NotContains(t, g.header.Get("Set-Cookie"), "Secure")
	_, port, _ := strings.Cut(strings.TrimPrefix(w.web.URL, "http://"), ":")
	require.True(t, strings.HasPrefix(g.header.Get("Set-Cookie"), "sequin-form-"+port+"="), "servers on other ports have others")
	w.browse()
	g = w.get("/console/login", "X-Forwarded-Proto", "https")
	require.Contains(t, g.header.Get("Set-Cookie"), "Path=/console; HttpOnly; Secure; SameSite=Strict")
}

func TestATokenThatCountsNoLongerEndsTheLogin(t *testing.T) {
	w := newWorld(t, true)
	w.login(adminToken)
	w.revoked.Store(true)
	require.Contains(t, w.get("/console/").to(), "/console/login")
}

func TestALinkOfAnotherSiteFindsTheLogin(t *testing.T) {
	w := newWorld(t, true)
	w.login(adminToken)
	jar := w.browser.Jar
	w.browser.Jar = nil // as a browser does for a link of another site
	g := w.get("/console/streams/a?x=%22%3E", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusOK, g.status)
	require.Contains(t, g.body, `<meta http-equiv="refresh" content="0; url=/console/streams/a?x=%22%3E">`)
	w.browser.Jar = jar
	require.Equal(t, http.StatusOK, w.get("/console/", "Sec-Fetch-Site", "same-origin").status)
}

func TestNoLoginIsNeededWithoutTokens(t *testing.T) {
	w := newWorld(t, false)
	require.Contains(t, w.see("/console/"), "No streams yet")
	require.NotContains(t, w.see("/console/"), "Log out")
	require.Equal(t, home, w.get("/console/login").to())
	require.Equal(t, home, w.get("/console").to())
	g := w.get("/console/", "Host", "rebound.example")
	require.Equal(t, http.StatusForbidden, g.status, "a page of another site may have its name resolved to this machine")
}

func TestAFormOfAnotherSiteDoesNothing(t *testing.T) {
	w := newWorld(t, false)
	values := url.Values{"name": {"s"}}
	require.Equal(t, http.StatusForbidden, w.post("/console/new-stream", values).status, "it has no token")
	w.see("/console/new-stream")
	require.Equal(t, http.StatusForbidden, w.post("/console/new-stream", values).status, "it has no token, but the cookie")
	values.Set("form_token", formToken(newFormSecret()))
	require.Equal(t, http.StatusForbidden, w.post("/console/new-stream", values).status, "it has the token of another browser")
	values.Set("form_token", formTokenField.FindStringSubmatch(w.see("/console/new-stream"))[1])
	require.Equal(t, http.StatusForbidden, w.post("/console/new-stream", values, "Sec-Fetch-Site", "cross-site").status)
	require.Equal(t, http.StatusForbidden, w.post("/console/new-stream", values, "Origin", "https://evil.example").status)
	streams, err := w.client.ListStreams(t.Context())
	require.NoError(t, err)
	require.Empty(t, streams)
	require.Equal(t, http.StatusSeeOther, w.post("/console/new-stream", values).status)
}

func TestEveryAnswerHasThePolicies(t *testing.T) {
	w := newWorld(t, false)
	for _, path := range []string{"/console/", "/console/login", "/console/nothing", "/console/static/" + assetVersion + "/console.js"} {
		h := w.get(path).header
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
		require.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
	}
	require.Equal(t, "no-store", w.get("/console/").header.Get("Cache-Control"))
	require.Contains(t, w.get("/console/static/"+assetVersion+"/console.css").header.Get("Cache-Control"), "immutable")
	for _, path := range []string{"/console/static/old/console.css", "/console/static/" + assetVersion + "/none.css"} {
		require.Equal(t, http.StatusNotFound, w.get(path).status)
	}
}

func TestTheLookIsKept(t *testing.T) {
	w := newWorld(t, false)
	for _, want := range []string{"auto", "light", "dark", "auto"} {
		page := w.see("/console/")
		require.Contains(t, page, `data-theme="`+want+`"`)
		g := w.post("/console/theme", url.Values{"form_token": {formTokenField.FindStringSubmatch(page)[1]}, "next": {"/console/?q=a"}})
		require.Equal(t, "/console/?q=a", g.to())
	}
}
