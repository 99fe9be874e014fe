package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestASendIsRememberedThroughTheWholeWindow sends more than the 10,000 keys that an earlier version remembered.
func TestASendIsRememberedThroughTheWholeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
		for i := range 10_002 {
			require.Equal(t, http.StatusOK, a.sendWithKey(fmt.Sprint(i), "a=1").status)
		}
		time.Sleep(10 * time.Minute)
		require.Equal(t, http.StatusUnprocessableEntity, a.sendWithKey("0", "a=2").status)
		time.Sleep(time.Nanosecond)
		require.Equal(t, http.StatusOK, a.sendWithKey("0", "a=2").status)
	})
}

// sendPart sends a part of earlier sends.
func (a *api) sendPart(key, partOf string, pairs ...string) reply {
	return a.call("POST", "/api/streams/s/messages", sendBody(pairs...), "Idempotency-Key", key, "Sequin-Part-Of", partOf)
}

func TestAPartOfAStoredSendSucceedsAndStoresNothing(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.sendWithKey("whole", "a=1", "b=2", "c=3")
	part := a.sendPart("part", "whole", "b=2", "c=3")
	require.Equal(t, http.StatusOK, part.status, part.body)
	require.Equal(t, `{"data":{"published":2}}`, part.body)
	require.Equal(t, part.body, a.sendPart("part", "whole", "b=2", "c=3").body, "a repeat of the part")
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("", "whole", "c=3").body, "a part without a key")
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, messages(t, a))
}

func TestAPartOfAStoredPartSucceeds(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.sendWithKey("whole", "a=1", "b=2", "c=3")
	a.sendPart("half", "whole", "b=2", "c=3")
	for _, of := range []string{"half", "half,whole", " other ,\thalf ", "other, whole", "other,another,whole"} {
		got := a.sendPart("", of, "c=3")
		require.Equal(t, `{"data":{"published":1}}`, got.body, of)
	}
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, messages(t, a))
}

func TestAPartOfASendThatWasNotStoredIsStored(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	require.Equal(t, http.StatusBadRequest, a.sendWithKey("refused", "a b=1", "c=3").status)
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("part", "refused, lost", "c=3").body)
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("part of the part", "part, refused", "c=3").body)
	require.Equal(t, []string{"c=3"}, messages(t, a))
	require.Equal(t, http.StatusUnprocessableEntity, a.sendPart("part", "refused", "c=4").status, "its own key is taken")
	require.Equal(t, http.StatusOK, a.sendPart("self", "self", "d=4").status)
	require.Equal(t, []string{"c=3", "d=4"}, messages(t, a))
}

func TestAPartIsCheckedLikeEverySend(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", "/api/streams", `{"name":"other"}`)
	a.sendWithKey("whole", "a=1")
	require.Equal(t, http.StatusBadRequest, a.sendPart("part", "whole", "a b=1").status)
	got := a.call("POST", "/api/streams/other/messages", sendBody("a=1"), "Sequin-Part-Of", "whole")
	require.Equal(t, http.StatusOK, got.status)
	state, _ := a.Inspect("other")
	require.Len(t, state.Messages, 1, "another stream has other keys")
}

func TestAMalformedSequinPartOfIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.sendWithKey("whole", "a=1")
	for _, of := range []string{"", " ", ",", "whole,", ",whole", "whole,,whole", "whole other", "whole\tother", "schl\u00fcssel", strings.Repeat("k", 256)} {
		got := a.sendPart("part", of, "a=1")
		require.Equal(t, http.StatusBadRequest, got.status, of)
		require.Contains(t, got.body, `{"summary":"Invalid Sequin-Part-Of: `)
		require.Equal(t, http.StatusBadRequest, a.sendPart("part", of).status, of)
	}
	require.Equal(t, http.StatusOK, a.sendPart("part", strings.Repeat("k", 255)+",whole", "a=1").status)
	require.Equal(t, []string{"a=1"}, messages(t, a))
}

// TestSeveralSequinPartOfHeadersAreOneList holds that a proxy may split the header.
func TestSeveralSequinPartOfHeadersAreOneList(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.sendWithKey("whole", "a=1")
	r := httptest.NewRequest("POST", "/api/streams/s/messages", strings.NewReader(sendBody("a=1")))
	r.Header.Set("Content-Type", "application/json")
	r.Header["Sequin-Part-Of"] = []string{"half", "whole"}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, []string{"a=1"}, messages(t, a))
}

func TestASendOfNoMessagesSucceedsAndChangesNothing(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		a := newAPI(t, server.Config{Compat: mode}).withStream("", "")
		a.sendWithKey("k", "a=1")
		before := everything(a)
		for _, body := range []string{`{"messages":[]}`, `{"messages":[ ]}`, " { \"messages\" : [\n\t] }\r\n"} {
			for _, key := range []string{"", "k", "empty"} {
				got := a.call("POST", "/api/streams/s/messages", body, "Idempotency-Key", key)
				require.Equal(t, http.StatusOK, got.status, "%v %q %s", mode, body, got.body)
				require.Equal(t, `{"data":{"published":0}}`, got.body)
			}
		}
		require.Equal(t, before, everything(a))
		require.Equal(t, `{"data":{"published":1}}`, a.sendWithKey("empty", "b=2").body, "no key was taken")
		require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/nope/messages", `{"messages":[]}`).status)
	}
}

func TestIn2024IdempotencyKeysAreIgnored(t *testing.T) {
	a := newAPI(t, server.Config{Compat: server.Aug2024}).withStream("", "")
	a.sendWithKey("k", "a=1")
	require.Equal(t, `{"data":{"published":0}}`, a.sendWithKey("k", "a=1").body)
	require.Equal(t, `{"data":{"published":1}}`, a.sendWithKey("k", "a=2").body)
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("part", "k", "a=3").body)
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("part", ",", "a=4").body)
}
