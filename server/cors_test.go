package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const page = "https://app.example.com"

// preflight asks what a page of an origin may send to a receive.
func (a *api) preflight(origin string) reply {
	return a.call("OPTIONS", receiveRoute, "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization, content-type")
}

func TestWithoutCORSNoAnswerHasItsHeaders(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, got := range []reply{a.preflight(page), a.call("GET", "/api/streams", "", "Origin", page)} {
		for name := range got.header {
			require.NotContains(t, name, "Access-Control")
			require.NotEqual(t, "Vary", name)
		}
	}
	require.Equal(t, http.StatusNotFound, a.preflight(page).status)
}

func TestCORSLetsPagesOfItsOriginsCallTheServer(t *testing.T) {
	a := newAPI(t, server.Config{Token: "secret", CORS: server.CORS{Origins: []string{"http://localhost:5173", page}, MaxAge: time.Hour}})
	token := []string{"Authorization", "Bearer secret"}
	require.Equal(t, 200, a.call("POST", "/api/streams", `{"name":"s"}`, token...).status)
	require.Equal(t, 200, a.call("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`, token...).status)

	asked := a.preflight(page)
	require.Equal(t, http.StatusNoContent, asked.status, "a preflight has no token")
	require.Empty(t, asked.body)
	require.Equal(t, page, asked.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, asked.header.Get("Access-Control-Allow-Methods"), "POST")
	require.Contains(t, asked.header.Get("Access-Control-Allow-Headers"), "Authorization, Content-Type, Idempotency-Key, Sequin-Part-Of")
	require.Equal(t, "3600", asked.header.Get("Access-Control-Max-Age"))

	got := a.call("POST", receiveRoute, `{}`, append(token, "Origin", page, "Sec-Fetch-Site", "cross-site")...)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Equal(t, page, got.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "Origin", got.header.Get("Vary"))
	require.Contains(t, got.header.Get("Access-Control-Expose-Headers"), "Sequin-Extensions, Sequin-Waited-Ms")
	require.Empty(t, got.header.Get("Access-Control-Allow-Credentials"))

	refused := a.call("POST", receiveRoute, `{}`, "Origin", page)
	require.Equal(t, http.StatusUnauthorized, refused.status)
	require.Equal(t, page, refused.header.Get("Access-Control-Allow-Origin"), "a page may read a refusal")
}

func TestCORSKeepsOtherOriginsOut(t *testing.T) {
	a := newAPI(t, server.Config{CORS: server.CORS{Origins: []string{page}}}).withStream("", "")
	for _, origin := range []string{"http://app.example.com", page + ":8443", "https://example.org", "https://evil.test", "null"} {
		require.Equal(t, http.StatusNotFound, a.preflight(origin).status, origin)
		got := a.call("POST", receiveRoute, `{}`, "Origin", origin)
		require.Equal(t, http.StatusForbidden, got.status, origin)
		require.Empty(t, got.header.Get("Access-Control-Allow-Origin"), origin)
		require.Equal(t, "Origin", got.header.Get("Vary"), "a cache must not give a page the answer to another")
	}
}

// A page can read every answer, also one that refuses its request, and may use each method and header of the API.
func TestCORSLetsPagesUseAllOfTheAPI(t *testing.T) {
	a := newAPI(t, server.Config{CORS: server.CORS{Origins: []string{page}}, Limits: server.Limits{RequestBytes: 100}}).withStream("", "")
	asked := a.preflight(page)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		require.Contains(t, strings.Split(asked.header.Get("Access-Control-Allow-Methods"), ", "), method)
	}
	require.Equal(t, "Origin", asked.header.Get("Vary"))
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"HEAD", "/api/streams", "", http.StatusOK},
		{"PATCH", "/api/streams/s/consumers/c", `{"max_waiting":3}`, http.StatusOK},
		{"PUT", "/api/streams/s/consumers/c", `{"max_waiting":4}`, http.StatusOK},
		{"POST", "/api/streams", `{`, http.StatusBadRequest},
		{"GET", "/api/streams/none", "", http.StatusNotFound},
		{"GET", "/none", "", http.StatusNotFound},
		{"POST", "/api/streams", strings.Repeat(" ", 101), http.StatusRequestEntityTooLarge},
		{"POST", "/api/streams", `{}`, http.StatusUnprocessableEntity},
		{"DELETE", "/api/streams/s", "", http.StatusOK},
	} {
		got := a.call(tt.method, tt.path, tt.body, "Origin", page, "Sec-Fetch-Site", "cross-site")
		require.Equal(t, tt.status, got.status, "%s %s: %s", tt.method, tt.path, got.body)
		require.Equal(t, []string{page}, got.header.Values("Access-Control-Allow-Origin"), "%s %s", tt.method, tt.path)
		require.Empty(t, got.header.Get("Access-Control-Allow-Credentials"), "the API has no cookies")
	}
}

func TestCORSForEveryOrigin(t *testing.T) {
	a := newAPI(t, server.Config{Compat: server.Aug2024, CORS: server.CORS{Origins: []string{"*"}}}).withStream("", "")
	asked := a.preflight("null")
	require.Equal(t, http.StatusNoContent, asked.status, "in each mode")
	require.Equal(t, "600", asked.header.Get("Access-Control-Max-Age"))
	got := a.call("POST", receiveRoute, `{}`, "Origin", page)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "*", got.header.Get("Access-Control-Allow-Origin"))
}

func TestNewPanicsOnACORSThatIsNotAllowed(t *testing.T) {
	for _, origin := range []string{"app.example.com", page + "/", page + "/x", "HTTPS://app.example.com", "", "https://"} {
		require.Panics(t, func() { server.New(server.Config{CORS: server.CORS{Origins: []string{origin}}}) }, origin)
	}
	withToken := server.Config{Token: "secret", CORS: server.CORS{Origins: []string{"*"}}}
	require.PanicsWithValue(t, `server: Config.CORS.Origins has "*" and there is a token: list the origins, or set AnyOriginWithToken`, func() { server.New(withToken) })
	withToken.CORS.AnyOriginWithToken = true
	server.New(withToken).Close()
}
