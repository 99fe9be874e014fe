package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// someID is an ack id that no delivery has.
const someID = `"7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"`

// bodyRoute is a route that reads a JSON object. Requests go to a server with a stream s and a consumer c.
type bodyRoute struct {
	method, path string
	valid        string // without the braces
	wrong        []string
}

// bodyRoutes are all of them, with members of wrong types.
var bodyRoutes = []bodyRoute{
	{"POST", "/api/streams", `"name":"n"`, []string{
		`"name":null`, `"name":5`, `"name":[]`, `"name":{}`, `"name":true`, `"name":"n","one_message_per_key":[]`,
		`"name":"n","one_message_per_key":2`, `"name":"n","process_unmodified":{}`, `"name":"n","max_storage_gb":"many"`,
		`"name":"n","retain_up_to":1.5`, `"name":"n","retain_up_to":[1]`, `"name":"n","retain_at_least":-1`, `"name":"n","retain_at_least":1e400`,
	}},
	{"POST", "/api/streams/s/consumers", `"name":"n","filter_key_pattern":">"`, []string{
		`"name":5,"filter_key_pattern":">"`, `"name":"n"`, `"name":"n","filter_key_pattern":5`, `"name":"n","filter_key_pattern":[">"]`,
		`"name":"n","filter_key_pattern":">","kind":"push"`, `"name":"n","filter_key_pattern":">","ack_wait_ms":"soon"`,
		`"name":"n","filter_key_pattern":">","max_ack_pending":1.5`, `"name":"n","filter_key_pattern":">","max_deliver":{}`,
		`"name":"n","filter_key_pattern":">","max_waiting":99999999999999999999`,
	}},
	{"PUT", "/api/streams/s/consumers/c", `"ack_wait_ms":1000`, []string{
		`"ack_wait_ms":"1s"`, `"max_ack_pending":[]`, `"max_deliver":true`, `"max_waiting":-1`, `"max_waiting":2147483648`,
	}},
	{"PATCH", "/api/streams/s/consumers/c", `"ack_wait_ms":1000`, []string{`"ack_wait_ms":{}`, `"max_deliver":"x"`}},
	{"POST", "/api/streams/s/messages", `"messages":[{"key":"a","data":"x"}]`, []string{
		``, `"messages":null`, `"messages":{}`, `"messages":"x"`, `"messages":[null]`, `"messages":[[]]`, `"messages":["a"]`, `"messages":[{}]`,
		`"messages":[{"key":"a"}]`, `"messages":[{"data":"x"}]`, `"messages":[{"key":5,"data":"x"}]`, `"messages":[{"key":"a","data":5}]`,
		`"messages":[{"key":"a","data":{}}]`, `"messages":[{"key":null,"data":"x"}]`, `"messages":[{"key":"a","data":"x"},{"key":"b","data":null}]`,
	}},
	{"POST", "/api/streams/s/consumers/c/receive", `"batch_size":1`, []string{
		`"batch_size":0`, `"batch_size":1001`, `"batch_size":-1`, `"batch_size":1.5`, `"batch_size":"many"`, `"batch_size":[]`, `"batch_size":true`,
		`"batch_size":1e400`, `"batch_size":99999999999999999999`, `"wait_for":[]`, `"wait_for":true`, `"wait_for":{}`,
		`"wait_for":99999999999999999999`, `"wait_for":"99999999999999999999s"`, `"wait_for":9223372036854775807`, `"wait_for":"-1s"`, `"wait_for":"1h"`,
	}},
	{"POST", "/api/streams/s/consumers/c/ack", `"ack_ids":[` + someID + `]`, []string{
		``, `"ack_ids":null`, `"ack_ids":{}`, `"ack_ids":` + someID, `"ack_ids":[]`, `"ack_ids":[5]`, `"ack_ids":[null]`, `"ack_ids":["x"]`, `"ack_ids":[` + someID + `,[]]`,
	}},
	{"POST", "/api/streams/s/consumers/c/nack", `"ack_ids":[` + someID + `]`, []string{
		``, `"ack_ids":null`, `"ack_ids":{}`, `"ack_ids":[]`, `"ack_ids":[true]`, `"ack_ids":["` + strings.Repeat("f", 36) + `"]`,
	}},
}

// each runs f with every route that reads a body, each with a server of its own.
func each(t *testing.T, f func(t *testing.T, a *api, r bodyRoute)) {
	t.Helper()
	for _, r := range bodyRoutes {
		t.Run(r.method+" "+r.path, func(t *testing.T) { f(t, newAPI(t, server.Config{}).withStream("", ""), r) })
	}
}

// contents is everything that a server holds, apart from times.
func contents(t *testing.T, a *api) string {
	t.Helper()
	state, _ := a.Inspect("s")
	text, err := json.Marshal(state)
	require.NoError(t, err)
	return fmt.Sprint(a.Streams(), string(text), a.ok("GET", "/api/streams/s/consumers", ""))
}

func TestWrongTypesAreRefusedWithASummaryAndChangeNothing(t *testing.T) {
	each(t, func(t *testing.T, a *api, r bodyRoute) {
		before := contents(t, a)
		for _, wrong := range r.wrong {
			got := a.call(r.method, r.path, "{"+wrong+"}")
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, got.status, "%s: %s", wrong, got.body)
			var answer struct {
				Summary string
				Invalid map[string][]string `json:"validation_errors"`
			}
			require.NoError(t, json.Unmarshal([]byte(got.body), &answer))
			require.NotEmpty(t, answer.Summary, wrong)
			require.Equal(t, got.status == http.StatusUnprocessableEntity, answer.Invalid != nil, "a 422 names the fields")
			require.Equal(t, before, contents(t, a), wrong)
		}
	})
}

func TestAnotherValueThanAnObjectIsNoServerError(t *testing.T) {
	each(t, func(t *testing.T, a *api, r bodyRoute) {
		for _, body := range []string{`[]`, `[{}]`, `"x"`, `5`, `null`, `true`, ``, ` `} {
			require.Less(t, a.call(r.method, r.path, body).status, 500, body)
		}
		require.Equal(t, []string{"s"}, a.Streams())
		require.Empty(t, messages(t, a))
	})
}

func TestUnknownMembersAreIgnoredAndTheLastOfTwoCounts(t *testing.T) {
	each(t, func(t *testing.T, a *api, r bodyRoute) {
		name, _, _ := strings.Cut(r.valid, ":")
		deep := strings.Repeat(`{"a":[`, 100) + strings.Repeat(`]}`, 100)
		a.ok(r.method, r.path, `{"unknown":`+deep+`,`+name+`:[[5]],`+r.valid+`,"":null,"__proto__":{}}`)
	})
}

// TestABodyAboveTheLimitIsRefusedByEveryRoute sends a body that is valid apart from its size.
func TestABodyAboveTheLimitIsRefusedByEveryRoute(t *testing.T) {
	each(t, func(t *testing.T, a *api, r bodyRoute) {
		before := contents(t, a)
		body := "{" + r.valid + "}"
		got := a.call(r.method, r.path, body+strings.Repeat(" ", 8_000_001-len(body)))
		require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
		require.Contains(t, got.body, `"summary":"Request body is too large`)
		require.Equal(t, before, contents(t, a))
		a.ok(r.method, r.path, body+strings.Repeat(" ", 8_000_000-len(body)))
	})
}

// eachServed runs f in virtual time with every route that reads a body, over a connection.
func eachServed(t *testing.T, f func(t *testing.T, s *served, a *api, r bodyRoute)) {
	t.Helper()
	for _, r := range bodyRoutes {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, server.Config{})
				f(t, s, (&api{t, s.Server}).withStream("", ""), r)
			})
		})
	}
}

// begin sends a request without the last byte of its body.
func (s *served) begin(t *testing.T, r bodyRoute) io.ReadWriteCloser {
	t.Helper()
	conn, err := s.listener.dial(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	body := "{" + r.valid + "}"
	write(t, conn, r.method+" "+r.path+" HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\n\r\n"+body[:len(body)-1])
	synctest.Wait()
	return conn
}

func TestABodyThatTakesTooLongIsRefusedByEveryRoute(t *testing.T) {
	eachServed(t, func(t *testing.T, s *served, a *api, r bodyRoute) {
		before := contents(t, a)
		begin := time.Now()
		answer, err := io.ReadAll(s.begin(t, r))
		require.NoError(t, err)
		require.Contains(t, string(answer), "408 Request Timeout")
		require.Equal(t, time.Minute, time.Since(begin).Truncate(time.Second))
		require.Equal(t, before, contents(t, a))
	})
}

func TestABodyThatIsCutOffChangesNothing(t *testing.T) {
	eachServed(t, func(t *testing.T, s *served, a *api, r bodyRoute) {
		before := contents(t, a)
		require.NoError(t, s.begin(t, r).Close())
		synctest.Wait()
		require.Equal(t, before, contents(t, a))
		require.Zero(t, s.Load().Requests)
		require.Zero(t, s.Load().BytesInFlight)
	})
}

// TestEveryRouteAnswersOverHTTP2WithoutTLS sends what is valid and what is not.
func TestEveryRouteAnswersOverHTTP2WithoutTLS(t *testing.T) {
	if len(bubbleProtocols) < 2 {
		t.Skip("HTTP/2 does not run in a bubble before Go 1.26")
	}
	eachServed(t, func(t *testing.T, s *served, _ *api, r bodyRoute) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := s.newClient(t, protocols)
		for body, want := range map[string]int{"{" + r.valid + "}": http.StatusOK, "{": http.StatusBadRequest} {
			request, err := http.NewRequest(r.method, "http://pipe"+r.path, strings.NewReader(body))
			require.NoError(t, err)
			request.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(request)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 2, resp.ProtoMajor)
			require.Equal(t, want, resp.StatusCode)
		}
	})
}

// TestWrongQueriesAreRefusedWithASummary covers the routes without a body.
func TestWrongQueriesAreRefusedWithASummary(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, path := range []string{"/api/streams/s/messages", "/api/streams/s/consumers/c/messages"} {
		for _, query := range []string{"limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=", "limit=99999999999999999999", "limit=1&limit=x", "sort=up", "sort=", "key_pattern=%20", "key_pattern=a..b", "key_pattern=%FF"} {
			got := a.call("GET", path+"?"+query, "")
			require.Equal(t, http.StatusBadRequest, got.status, query)
			require.Contains(t, got.body, `"summary":"Invalid`)
		}
		a.ok("GET", path+"?limit=x&limit=1&unknown=1", "")
	}
	got := a.call("GET", "/api/streams/s/consumers/c/messages?visible=maybe", "")
	require.Equal(t, http.StatusBadRequest, got.status)
	for _, query := range []string{"batch_size=x", "batch_size=0", "wait_for=99999999999999999999", "wait_for=1h"} {
		got := a.call("GET", "/api/streams/s/consumers/c/receive?"+query, "")
		require.Equal(t, http.StatusBadRequest, got.status, query)
		require.Contains(t, got.body, `"summary":"Invalid`)
	}
}
