package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// guardedRoute is a route with the rights of which a token needs one.
type guardedRoute struct {
	method, path string
	allowed      server.Rights
}

func guardedRoutes() []guardedRoute {
	const all = server.AllRights
	const read, send, consume, admin = server.CanRead, server.CanSend, server.CanConsume, server.CanAdmin
	return []guardedRoute{

		{"GET", "/api/streams", read},
		{"POST", "/api/streams", admin},
		{"GET", "/api/streams/s", all},
		{"PUT", "/api/streams/s", admin},
		{"PATCH", "/api/streams/s", admin},
		{"DELETE", "/api/streams/other", admin},
		{"POST", "/api/streams/s/messages", send},
		{"GET", "/api/streams/s/messages", read},
		{"GET", "/api/streams/s/messages/k", read},
		{"GET", "/api/streams/s/messages/k/consumer_info", read},
		{"POST", "/api/streams/s/purge", admin},
		{"GET", "/api/streams/s/consumers", read},
		{"POST", "/api/streams/s/consumers", admin},
		{"GET", "/api/streams/s/consumers/c", all},
		{"PUT", "/api/streams/s/consumers/c", admin},
		{"PATCH", "/api/streams/s/consumers/c", admin},
		{"DELETE", "/api/streams/s/consumers/other", admin},
		{"GET", "/api/streams/s/consumers/c/receive", consume},
		{"POST", "/api/streams/s/consumers/c/receive", consume},
		{"POST", "/api/streams/s/consumers/c/ack", consume},
		{"POST", "/api/streams/s/consumers/c/nack", consume},
		{"POST", "/api/streams/s/consumers/c/extend", consume},
		{"POST", "/api/streams/s/consumers/c/end_receive", consume},
		{"GET", "/api/streams/s/consumers/c/messages", read | consume},
		{"GET", "/api/sequin_streams/s/receive", consume},
		{"POST", "/api/sequin_streams/s/receive", consume},
		{"POST", "/api/sequin_streams/s/ack", consume},
		{"POST", "/api/sequin_streams/s/nack", consume},
		{"GET", "/api/http_pull_consumers/s/receive", consume},
		{"POST", "/api/http_pull_consumers/s/receive", consume},
		{"POST", "/api/http_pull_consumers/s/ack", consume},
		{"POST", "/api/http_pull_consumers/s/nack", consume},
		{"GET", "/api/sinks/s", all},
		{"PATCH", "/api/sinks/s", admin},
		{"PUT", "/api/sinks/s", admin},
		{"GET", "/metrics", all},
		{"GET", "/nowhere", all},
	}
}

// TestEveryRouteHasACaseWithTokens compares the cases with the table of routes. The page of the 2024 server is not there in the
// documented mode, and needs what a path without a route needs.
func TestEveryRouteHasACaseWithTokens(t *testing.T) {
	cases := map[string]bool{"GET ": true}
	for _, route := range guardedRoutes() {
		path := strings.Split(strings.TrimPrefix(route.path, "/"), "/")
		for i, element := range path {
			if i > 0 && (element == "s" || element == "k" || element == "c" || element == "other") {
				path[i] = "*"
			}
		}
		cases[route.method+" "+strings.Join(path, "/")] = true
	}
	for _, shape := range server.RouteShapes() {
		require.True(t, cases[shape], "%q has no case in guardedRoutes", shape)
	}
}

// TestProbesAndTheConsoleNeedNoToken holds that what asks whether the server is up needs to know no secret. The console asks for
// a token itself. Both are answered also with a token that has no rights.
func TestProbesAndTheConsoleNeedNoToken(t *testing.T) {
	a := newAPI(t, server.Config{Access: func(string) server.Rights { return 0 }, Console: console})
	for _, path := range []string{"/healthz", "/readyz", "/console/"} {
		require.Equal(t, 200, a.call("GET", path, "").status, path)
		require.Equal(t, 200, a.call("GET", path, "", "Authorization", "Bearer some").status, path)
	}
}

// TestEveryRouteWithEveryKindOfToken tries each route with each right alone. A request that is let through may still fail for
// other reasons, but not with 401 or 403.
func TestEveryRouteWithEveryKindOfToken(t *testing.T) {
	const all = server.AllRights
	for _, route := range guardedRoutes() {
		for _, rights := range []server.Rights{0, server.CanRead, server.CanSend, server.CanConsume, server.CanAdmin, all} {
			name := fmt.Sprintf("%s %s with %v", route.method, route.path, rights)
			a := newAPI(t, server.Config{
				Access:  func(token string) server.Rights { return map[string]server.Rights{"some": rights, "root": all}[token] },
				Metrics: http.NotFoundHandler(),
			})
			require.Equal(t, 200, a.call("POST", "/api/streams", `{"name":"s"}`, "Authorization", "Bearer root").status)
			require.Equal(t, 200, a.call("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`, "Authorization", "Bearer root").status)
			got := a.call(route.method, route.path, "{}", "Authorization", "Bearer some")
			switch {
			case rights == 0:
				require.Equal(t, 401, got.status, name)
			case rights&route.allowed == 0:
				require.Equal(t, 403, got.status, name)
				require.Contains(t, got.body, "this token has the rights "+rights.String()+", and the request needs ", name)
			default:
				require.NotContains(t, []int{401, 403}, got.status, name)
			}
			for _, header := range []string{"", "some", "Bearer ", "Bearer nope", "bearer some"} {
				require.Equal(t, 401, a.call(route.method, route.path, "{}", "Authorization", header).status, name)
			}
		}
	}
}

// TestAReceiveThatWaitsGetsNothingOnceItsTokenIsTakenAway also checks that the next receive in the queue gets the message.
func TestAReceiveThatWaitsGetsNothingOnceItsTokenIsTakenAway(t *testing.T) {
	for rights, status := range map[server.Rights]int{0: http.StatusUnauthorized, server.CanSend: http.StatusForbidden} {
		synctest.Test(t, func(t *testing.T) {
			tokens := map[string]server.Rights{"old": server.AllRights, "new": server.AllRights}
			a := newAPI(t, server.Config{Access: func(token string) server.Rights { return tokens[token] }})
			k := a.Sink("rows", server.SinkOptions{})
			as := func(token, path, body string) <-chan reply {
				done := make(chan reply, 1)
				go func() { done <- a.call("POST", path, body, "Authorization", "Bearer "+token) }()
				synctest.Wait()
				return done
			}
			require.Equal(t, 200, (<-as("new", "/api/streams", `{"name":"s"}`)).status)
			require.Equal(t, 200, (<-as("new", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)).status)
			const receive, sink = "/api/streams/s/consumers/c/receive", "/api/sequin_streams/rows/receive"
			old, next, change := as("old", receive, `{"wait_for":5000}`), as("new", receive, `{"wait_for":5000}`), as("old", sink, `{"wait_for":5000}`)
			tokens["old"] = rights
			require.Equal(t, 200, (<-as("new", "/api/streams/s/messages", `{"messages":[{"key":"k","data":"secret"}]}`)).status)
			require.NoError(t, k.Insert(order{1, "secret"}))
			for _, got := range []reply{<-old, <-change} {
				require.Equal(t, status, got.status)
				require.NotContains(t, got.body, "secret")
			}
			require.Contains(t, (<-next).body, "secret")
		})
	}
}

func TestRightsHaveNames(t *testing.T) {
	for text, want := range map[string]server.Rights{
		"read": server.CanRead, "send,consume": server.CanSend | server.CanConsume, "read,send,consume,admin": server.AllRights,
	} {
		got, ok := server.ParseRights(text)
		require.True(t, ok)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "none", "read,", "Read", "read send"} {
		_, ok := server.ParseRights(text)
		require.False(t, ok, text)
	}
	require.Equal(t, "none", server.Rights(0).String())
}

func TestATokenAndAccessExcludeEachOther(t *testing.T) {
	access := func(string) server.Rights { return server.AllRights }
	require.PanicsWithValue(t, "server: Config.Token and Config.Access exclude each other: set one of them", func() {
		server.New(server.Config{Token: "x", Access: access})
	})
	require.Panics(t, func() { server.New(server.Config{Access: access, CORS: server.CORS{Origins: []string{"*"}}}) }, "a page could learn a token")
}

// A preflight has no token, and needs none.
func TestAPreflightNeedsNoRights(t *testing.T) {
	a := newAPI(t, server.Config{Access: func(string) server.Rights { return 0 }, CORS: server.CORS{Origins: []string{"https://page.example"}}})
	got := a.call("OPTIONS", "/api/streams", "", "Origin", "https://page.example", "Access-Control-Request-Method", "POST")
	require.Equal(t, http.StatusNoContent, got.status, strings.TrimSpace(got.body))
}
