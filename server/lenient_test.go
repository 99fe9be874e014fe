package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestOptionsOfZeroAreNotSet creates a stream and a consumer as the official Go SDK does, which sends each option that its
// user has not set as a zero.
func TestOptionsOfZeroAreNotSet(t *testing.T) {
	a := newAPI(t, server.Config{})
	a.ok("POST", "/api/streams", `{"name":"s","one_message_per_key":false,"process_unmodified":false,"max_storage_gb":0,"retain_up_to":0,"retain_at_least":"0"}`)
	require.Contains(t, a.ok("GET", "/api/streams/s", ""), `"max_storage_gb":null,"retain_up_to":null,"retain_at_least":null`)
	require.Equal(t, 2, a.send("a=1", "b=2"))
	require.Len(t, messages(t, a), 2)

	settings := func(body string) any {
		var parsed map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &parsed))
		return []any{parsed["ack_wait_ms"], parsed["max_ack_pending"], parsed["max_deliver"], parsed["max_waiting"]}
	}
	const zeros = `"ack_wait_ms":0,"max_ack_pending":0,"max_deliver":0,"max_waiting":0`
	zero := a.ok("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">",`+zeros+`}`)
	plain := a.ok("POST", "/api/streams/s/consumers", `{"name":"d","filter_key_pattern":">"}`)
	require.Equal(t, settings(plain), settings(zero))
	require.Len(t, a.receive(`{"batch_size":10}`), 2)

	changed := a.ok("PUT", "/api/streams/s/consumers/c", `{"ack_wait_ms":5000,"max_deliver":3}`)
	require.Equal(t, settings(changed), settings(a.ok("PUT", "/api/streams/s/consumers/c", `{`+zeros+`}`)), "an update with zeros changes nothing")
}

func TestEveryUUIDMayBeAnAckID(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1")
	got := a.receive(`{}`)
	for _, id := range []string{
		"c232ab00-9414-11ec-b3c8-9f68deced846", "a0eebc99-9c0b-3ef8-bb6d-6bb9bd380a11", "74738FF5-5367-5958-9AEE-98FFFDCD1876",
		"018f3c9e-3a0f-7f0e-9d3a-0f6f2f1d2c3b", "00000000-0000-0000-0000-000000000000", "7b1e4c9e-3a0f-4f0e-cd3a-0f6f2f1d2c3b",
	} {
		for _, verb := range []string{"ack", "nack"} {
			require.JSONEq(t, `{"success":true}`, a.ok("POST", "/api/streams/s/consumers/c/"+verb, `{"ack_ids":["`+id+`"]}`), "%s %s", verb, id)
		}
	}
	a.nack(got)
	require.Len(t, a.receive(`{}`), 1, "no such ack has settled the message")
}

func TestTheSummaryOfA422NamesTheFirstReason(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, tt := range []struct{ path, body, want string }{
		{"/api/streams", `{}`, "Validation failed: name can't be blank"},
		{"/api/streams", `{"name":"a b"}`, "Validation failed: name must contain only alphanumeric characters, underscores or dashes"},
		{"/api/streams", `{"name":"s"}`, "Validation failed: name has already been taken"},
		{"/api/streams", `{"name":"n","retain_up_to":1,"retain_at_least":2}`, "Validation failed: retain_at_least must be less than or equal to retain_up_to"},
		{"/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`, "Validation failed: name has already been taken"},
		{"/api/streams/s/consumers", `{"name":"n","ack_wait_ms":"x"}`, "Validation failed: filter_key_pattern can't be blank"},
	} {
		got := a.call("POST", tt.path, tt.body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status)
		var parsed struct{ Summary string }
		require.NoError(t, json.Unmarshal([]byte(got.body), &parsed))
		require.Equal(t, tt.want, parsed.Summary)
	}
}

func TestAHeadOfAReceiveLeasesNothing(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1")
	require.Equal(t, http.StatusOK, a.call("HEAD", receiveRoute+"?wait_for=5m", "").status, "and it does not wait")
	require.Equal(t, http.StatusBadRequest, a.call("HEAD", receiveRoute+"?batch_size=0", "").status)
	require.Len(t, a.receive(`{}`), 1)
}

func TestABodyThatIsNotPlainJSONIsNamed(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, sendBody("a=1"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, path := range []string{messagesRoute, receiveRoute, "/api/streams", "/api/streams/s/consumers/c/ack"} {
		for body, want := range map[string]string{
			zipped.String():                 "The body is compressed",
			"\ufeff" + sendBody("a=1"):      "The body begins with a byte order mark",
			`{"messages":[{"key":"a"` + "}": "Bad Request",
		} {
			got := a.call("POST", path, body)
			require.Equal(t, http.StatusBadRequest, got.status)
			require.Contains(t, got.body, want, path)
		}
		got := a.call("POST", path, "\x28\xb5\x2f\xfd", "Content-Encoding", "zstd")
		require.Equal(t, http.StatusBadRequest, got.status)
		require.Contains(t, got.body, "The body is compressed", path)
	}
}

func TestAMissingContentTypeIsNamed(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	post := func(path, body string) reply {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		return reply{w.Code, w.Header(), w.Body.String()}
	}
	for _, path := range []string{messagesRoute, receiveRoute, "/api/streams", "/api/streams/s/consumers", "/api/streams/s/consumers/c/ack"} {
		got := post(path, `{}`)
		require.Equal(t, http.StatusBadRequest, got.status)
		require.JSONEq(t, "{\"summary\":\"The request has a body and no `Content-Type`: send `Content-Type: application/json`\"}", got.body, path)
	}
	require.Equal(t, http.StatusOK, post(receiveRoute, "").status, "a request without a body needs none")
}

// The status and the fields are those that the 2024 server was recorded to answer to a body of another type.
func TestTheRefusalOfABodyOfAnotherTypeNamesTheType(t *testing.T) {
	const unread = ". The body was not read: send `Content-Type: application/json`"
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, tt := range []struct {
		path, body, summary string
		status              int
	}{
		{"/api/streams", `{"name":"n"}`, "Validation failed: name can't be blank" + unread, http.StatusUnprocessableEntity},
		{messagesRoute, sendBody("a=1"), "Missing or invalid messages" + unread, http.StatusBadRequest},
		{"/api/streams", "", "Validation failed: name can't be blank", http.StatusUnprocessableEntity},
	} {
		got := a.call("POST", tt.path, tt.body, "Content-Type", "text/plain")
		require.Equal(t, tt.status, got.status, tt.path)
		var parsed struct{ Summary string }
		require.NoError(t, json.Unmarshal([]byte(got.body), &parsed))
		require.Equal(t, tt.summary, parsed.Summary)
	}
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/none/messages", sendBody("a=1"), "Content-Type", "text/plain").status)
	plain := newAPI(t, server.Config{Compat: server.Aug2024}).call("POST", "/api/streams", `{"name":"n"}`, "Content-Type", "text/plain")
	require.JSONEq(t, `{"summary":"Validation failed","validation_errors":{"name":["can't be blank"]}}`, plain.body, "as recorded")
}

// TestATooLargeBodyIsReadBeforeItIsRefused writes all of a body before it reads, as a plain client does.
func TestATooLargeBodyIsReadBeforeItIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, serve(t, server.Config{}))
		w.send("POST", "/api/streams", "", strings.Repeat(" ", 20_000_000))
		resp, err := http.ReadResponse(w.in, nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.JSONEq(t, `{"summary":"Request body is too large: it may have at most 8000000 bytes. Send fewer or smaller messages in a request"}`, string(body))
	})
}

// TestATooLargeBodyThatWasAnnouncedIsNotRead waits for 100 Continue, which does not come.
func TestATooLargeBodyThatWasAnnouncedIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, server.Config{})
		r, err := http.NewRequest("POST", "http://pipe/api/streams", panicking{})
		require.NoError(t, err)
		r.ContentLength = 8_000_001
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Expect", "100-continue")
		resp, err := s.client.Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	})
}

// panicking is a body that must not be read.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("the body is read") }
