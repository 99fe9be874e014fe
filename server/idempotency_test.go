package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func (a *api) sendWithKey(key string, pairs ...string) reply {
	return a.call("POST", "/api/streams/s/messages", sendBody(pairs...), "Idempotency-Key", key)
}

func TestARepeatedSendGetsTheFirstAnswerAndStoresNothing(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	first := a.sendWithKey("k", "a=1", "b=2")
	require.Equal(t, `{"data":{"published":2}}`, first.body)
	require.Equal(t, first.body, a.sendWithKey("k", "a=1", "b=2").body)
	require.Equal(t, []string{"a=1", "b=2"}, messages(t, a))
	a.sendWithKey("another", "a=1", "b=2")
	require.Len(t, messages(t, a), 4)
}

func TestARepeatedSendDoesNotUndoALaterReplacement(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true`, "")
	a.sendWithKey("k", "a=1")
	a.send("a=2")
	require.Equal(t, `{"data":{"published":1}}`, a.sendWithKey("k", "a=1").body)
	require.Equal(t, []string{"a=2"}, messages(t, a))
}

func TestAnotherBodyWithTheSameKeyIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.sendWithKey("k", "a=1")
	got := a.sendWithKey("k", "a=2")
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Contains(t, got.body, "Idempotency-Key")
	require.Equal(t, []string{"a=1"}, messages(t, a))
}

func TestATooLongIdempotencyKeyIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	require.Equal(t, http.StatusOK, a.sendWithKey(strings.Repeat("k", 255), "a=1").status)
	require.Equal(t, http.StatusBadRequest, a.sendWithKey(strings.Repeat("k", 256), "a=2").status)
	require.Equal(t, []string{"a=1"}, messages(t, a))
}

func TestARefusedSendIsForgotten(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	require.Equal(t, http.StatusBadRequest, a.sendWithKey("k", "a b=1").status)
	require.Equal(t, http.StatusOK, a.sendWithKey("k", "a=1").status)
}

func TestEachStreamHasItsOwnIdempotencyKeys(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", "/api/streams", `{"name":"other"}`)
	a.sendWithKey("k", "a=1")
	got := a.call("POST", "/api/streams/other/messages", sendBody("a=2"), "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, got.status)
	a.ok("DELETE", "/api/streams/s", "")
	a.withStream("", "")
	require.Equal(t, http.StatusOK, a.sendWithKey("k", "a=3").status, "a deleted stream leaves no keys")
}

func TestTheLastTenThousandSuccessfulSendsAreRemembered(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
	for i := range 10_001 {
		require.Equal(t, http.StatusOK, a.sendWithKey(fmt.Sprint(i), "a=1").status)
	}
	require.Equal(t, http.StatusUnprocessableEntity, a.sendWithKey("1", "a=2").status)
	require.Equal(t, http.StatusOK, a.sendWithKey("0", "a=2").status, "the oldest is forgotten")
	require.Equal(t, http.StatusOK, a.sendWithKey("1", "a=2").status, "and then the next oldest")
}

func TestIn2024IdempotencyKeysAreIgnored(t *testing.T) {
	a := newAPI(t, server.Config{Compat: server.Aug2024}).withStream("", "")
	a.sendWithKey("k", "a=1")
	require.Equal(t, `{"data":{"published":0}}`, a.sendWithKey("k", "a=1").body)
	require.Equal(t, `{"data":{"published":1}}`, a.sendWithKey("k", "a=2").body)
}
