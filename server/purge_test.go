package server_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const purgeRoute = "/api/streams/s/purge"

func TestAPurgeRemovesMessages(t *testing.T) {
	for body, want := range map[string]struct {
		answer string
		left   []int64
	}{
		`{"before_seq":3}`:                     {`{"data":{"purged":2}}`, []int64{3, 4}},
		`{"key_pattern":"a.*"}`:                {`{"data":{"purged":2}}`, []int64{2, 4}},
		`{"key_pattern":"a.>","before_seq":3}`: {`{"data":{"purged":1}}`, []int64{2, 3, 4}},
		`{"before_seq":1}`:                     {`{"data":{"purged":0}}`, []int64{1, 2, 3, 4}},
		`{"all":true}`:                         {`{"data":{"purged":4}}`, nil},
	} {
		a := newAPI(t, server.Config{}).withStream("", "")
		a.send("a.1=1", "b.1=2", "a.2=3", "b.2=4")
		require.JSONEq(t, want.answer, a.ok("POST", purgeRoute, body), body)
		require.Equal(t, want.left, a.seqsOf(messagesRoute), body)
		require.Equal(t, want.left, a.seqsOf(peekRoute), body)
	}
}

// TestAPurgeIsRefusedWithBadInput has bodies that would remove more than was meant if they were read half.
func TestAPurgeIsRefusedWithBadInput(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2")
	const needs = "A purge needs `before_seq`, `key_pattern` or both, or `\\\"all\\\":true` alone"
	for body, summary := range map[string]string{
		"": needs, `{}`: needs, `[]`: needs, `null`: needs, `true`: needs,
		`{"all":true,"before_seq":1}`:             needs,
		`{"all":true,"key_pattern":"a"}`:          needs,
		`{"all":false}`:                           "Invalid `all`",
		`{"all":"true"}`:                          "Invalid `all`",
		`{"before_seq":0}`:                        "Invalid `before_seq`. Must be an integer from 1",
		`{"before_seq":-1}`:                       "Invalid `before_seq`",
		`{"before_seq":1.5}`:                      "Invalid `before_seq`",
		`{"before_seq":"2"}`:                      "Invalid `before_seq`",
		`{"before_seq":null}`:                     "Invalid `before_seq`",
		`{"before_seq":9223372036854775808}`:      "Invalid `before_seq`",
		`{"key_pattern":"a..b"}`:                  "Invalid key pattern",
		`{"key_pattern":""}`:                      "Invalid key pattern",
		`{"key_pattern":1}`:                       "Invalid `key_pattern`",
		`{"before_seq":2,"before":1}`:             "Unknown member `before`",
		`{"Before_Seq":2}`:                        "Unknown member `Before_Seq`",
		`{"before_seq":1,"before_seq":2}`:         "`before_seq` is there twice",
		`{"key_pattern":"a","key_pattern":"b.>"}`: "`key_pattern` is there twice",
	} {
		got := a.call("POST", purgeRoute, body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.body, summary, body)
	}
	for _, body := range []string{`{`, `{"all":true} x`, `{"all":true}{}`} {
		require.Equal(t, http.StatusBadRequest, a.call("POST", purgeRoute, body).status, body)
	}
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		require.Equal(t, http.StatusBadRequest, a.call("POST", purgeRoute, `{"all":true}`, "Content-Type", media).status, media)
	}
	require.Equal(t, http.StatusBadRequest, a.call("POST", purgeRoute+"?all=true", "").status, "a query is not read")
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/nope/purge", `{"all":true}`).status)
	require.Equal(t, http.StatusNotFound, a.call("GET", purgeRoute, "").status)
	require.Equal(t, []int64{1, 2}, a.seqsOf(messagesRoute))
}

func TestWithoutPurgeThereIsNoSuchRoute(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"switched off": {WithoutExtensions: []string{"purge"}}, "2024": {Compat: server.Aug2024},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, cfg).withStream("", "")
			a.send("a=1")
			answer, unknown := a.call("POST", purgeRoute, `{"all":true}`), a.call("POST", purgeRoute+"s", `{}`)
			require.Equal(t, http.StatusNotFound, answer.status)
			require.Equal(t, unknown.body, answer.body)
			require.Len(t, a.receive(`{}`), 1)
		})
	}
}
