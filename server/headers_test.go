package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/internal/store"
)

// headersOf returns the headers of all messages in the answer to a request, in its order; "-" for one without.
func (a *api) headersOf(method, path, body string) (all []string) {
	a.t.Helper()
	for _, part := range strings.Split(a.ok(method, path, body), `"updated_at":"`)[1:] {
		_, after, _ := strings.Cut(part, `"`)
		object, found := strings.CutPrefix(after, `,"headers":`)
		if object, _, _ = strings.Cut(object, "}"); !found {
			object = "-"
		}
		all = append(all, strings.TrimPrefix(object, "{"))
	}
	return all
}

func TestHeadersAreInReceivesAndListsAsSent(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", messagesRoute, `{"messages":[
		{"key":"a","headers":{"b":"2","\u0061":"\"\u00e9\\"},"data":"x"},
		{"key":"b","data":"y","headers":{}},
		{"headers":null,"key":"c","data":"z"},
		{"headers":{"n":"1"},"data":"x\ny","key":"d"},
		{"headers":{"n":1},"data":"x","key":"e","headers":{"n":"the last one counts"}}]}`)
	want := []string{`"a":"\"é\\","b":"2"`, "-", "-", `"n":"1"`, `"n":"the last one counts"`}
	require.Equal(t, want, a.headersOf("GET", messagesRoute, ""))
	require.Equal(t, want, a.headersOf("GET", "/api/streams/s/consumers/c/messages", ""))
	require.Equal(t, want[:1], a.headersOf("GET", messagesRoute+"/a", ""))
	require.Equal(t, want[:1], a.headersOf("GET", messagesRoute+"/a/consumer_info", ""))
	require.Equal(t, want, a.headersOf("POST", receiveRoute, `{"batch_size":10}`))

	state, _ := a.Inspect("s")
	require.Equal(t, map[string]string{"a": `"é\`, "b": "2"}, state.Messages[0].Headers)
	require.Nil(t, state.Messages[1].Headers)
}

func TestHeadersOfABareReceiveAreTheSame(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", messagesRoute, `{"messages":[{"key":"a","data":"x","headers":{"n":"1"}}]}`)
	require.Equal(t, []string{`"n":"1"`}, a.headersOf("POST", receiveRoute, `{"bare":true}`))
}

func TestAMessageWithOtherHeadersIsModified(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true`, "")
	for _, x := range []struct {
		messages  string
		published int
	}{
		{`{"key":"a","data":"x"}`, 1},
		{`{"key":"a","data":"x"}`, 0},
		{`{"key":"a","data":"x","headers":{"n":"1"}}`, 1},
		{`{"key":"a","data":"x","headers":{"n":"1"}}`, 0},
		{`{"key":"a","data":"x","headers":{"n":"2"}},{"key":"a","data":"x","headers":{"n":"2"}},{"key":"a","data":"x"}`, 2},
		{`{"key":"a","data":"xn","headers":{}}`, 1},
	} {
		require.Equal(t, fmt.Sprintf(`{"data":{"published":%d}}`, x.published), a.ok("POST", messagesRoute, `{"messages":[`+x.messages+`]}`), x.messages)
	}
}

func TestInvalidHeadersFailTheWholeSend(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf(`"h%d":""`, i)
	}
	long := func(n int) string { return `{"ab":"` + strings.Repeat(`\"`, n) + `"}` }
	for headers, says := range map[string]string{
		`[]`:                                "must be an object with a string for each name",
		`"a"`:                               "must be an object",
		`{"a":1}`:                           "must be an object",
		`{"a":null}`:                        "must be an object",
		`{"a":{"b":"c"}}`:                   "must be an object",
		`{"a b":"x"}`:                       `letters, digits and `,
		`{"":"x"}`:                          `this one is \"\"`,
		`{"a":"1","\u0061":"2"}`:            `the name \"a\" is there twice`,
		`{"a":"x\u0000"}`:                   "null character",
		long(16_383):                        "at most 16384 bytes together",
		`{` + strings.Join(many, ",") + `}`: "at most 64, this one has 65",
	} {
		got := a.call("POST", messagesRoute, `{"messages":[{"key":"a","data":"x"},{"headers":`+headers+`,"key":"k.1","data":"x"}]}`)
		require.Equal(t, http.StatusBadRequest, got.status, headers)
		require.Contains(t, got.body, "Invalid message headers: ")
		require.Contains(t, got.body, says)
		require.Contains(t, got.body, `(key \"k.1\")`)
	}
	require.Empty(t, messages(t, a))
	a.ok("POST", messagesRoute, `{"messages":[{"key":"a","data":"x","headers":`+long(16_382)+`},{"key":"b","data":"x","headers":{`+strings.Join(many[1:], ",")+`}}]}`)
}

func TestARepeatOfASendWithOtherHeadersIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	send := func(headers string) int {
		return a.call("POST", messagesRoute, `{"messages":[{"key":"a","data":"x","headers":`+headers+`}]}`, "Idempotency-Key", "once").status
	}
	require.Equal(t, 200, send(`{"n":"1"}`))
	require.Equal(t, 200, send(`{"n":"1"}`))
	require.Equal(t, 422, send(`{"n":"2"}`))
	require.Equal(t, []string{`"n":"1"`}, a.headersOf("GET", messagesRoute, ""))
}

func TestHeadersCountWithTheData(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", messagesRoute, `{"messages":[{"key":"a","data":"xy","headers":{"n":"123","o":""}}]}`)
	require.Contains(t, a.ok("GET", "/api/streams/s", ""), `"storage_size":12`, "3 bytes of key and data, 5 of headers, and 2 for each")
}

// Large headers with small data must not make an answer larger than it may be.
func TestAReceiveStopsAtEightMegabytesOfHeaders(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for half := range 2 {
		all := make([]string, 400)
		for i := range all {
			all[i] = fmt.Sprintf(`{"key":"%d.%03d","data":"","headers":{"n":"%s"}}`, half, i, strings.Repeat("x", 16_000))
		}
		a.ok("POST", messagesRoute, `{"messages":[`+strings.Join(all, ",")+`]}`)
	}
	require.Len(t, a.receive(`{"batch_size":1000}`), 8_000_000/16_008)
	require.Len(t, a.headersOf("GET", messagesRoute+"?limit=800", ""), 800)
}

func TestAServerWithoutHeadersIgnoresThem(t *testing.T) {
	older := struct{ store.Store }{store.NewMemory()}
	for _, cfg := range []server.Config{{Compat: server.Aug2024}, {WithoutExtensions: []string{"headers"}}, {Store: older}} {
		a := newAPI(t, cfg).withStream("", "")
		require.NotContains(t, a.call("GET", "/api/streams", "").header.Get(extensionsHeader), "headers")
		a.ok("POST", messagesRoute, `{"messages":[{"key":"a","data":"x","headers":{"n":"1"}},{"key":"b","data":"x","headers":[7]}]}`)
		require.NotContains(t, a.ok("GET", messagesRoute, ""), "headers")
		require.NotContains(t, a.ok("POST", receiveRoute, `{"batch_size":10}`), "headers")
	}
}
