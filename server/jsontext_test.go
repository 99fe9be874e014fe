package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// TestHalfASurrogatePairIsMalformed sends escapes in every string of a request. No server can store half a character, and
// storing another character would change what was sent.
func TestHalfASurrogatePairIsMalformed(t *testing.T) {
	half := map[string]string{
		"first alone": `\ud800`, "second alone": `\udc00`, "upper case": `\uDBFF`, "in a text": `a\ud800b`, "twice the first": `\ud800\ud800`,
		"pair in the wrong order": `\udc00\ud800`, "then a character": `\ud83d\u0041`, "then no escape": `\ud83dudc00`,
		"after a pair": `\ud83d\ude00\ude00`, "after a backslash": `\\\ud800`, "after an escaped one": `\\u\ud800`, "truncated": `\ud83d\ude0`,
	}
	places := map[string][2]string{
		"data":         {"/api/streams/s/messages", `{"messages":[{"key":"k","data":"HERE"}]}`},
		"key":          {"/api/streams/s/messages", `{"messages":[{"key":"HERE","data":""}]}`},
		"unknown name": {"/api/streams/s/messages", `{"messages":[{"key":"k","data":""}],"HERE":1}`},
		"ack id":       {"/api/streams/s/consumers/c/ack", `{"ack_ids":["HERE"]}`},
		"stream name":  {"/api/streams", `{"name":"HERE"}`},
	}
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		a := newAPI(t, server.Config{Compat: compat}).withStream("", "")
		for name, escape := range half {
			for place, where := range places {
				t.Run(compat.String()+" "+name+" as "+place, func(t *testing.T) {
					got := a.call("POST", where[0], strings.Replace(where[1], "HERE", escape, 1))
					require.Equal(t, http.StatusBadRequest, got.status)
					require.Equal(t, "Bad Request", got.body)
				})
			}
		}
		require.Empty(t, a.receive(`{}`), "nothing was stored")
	}
}

func TestEveryWayToWriteACharacterStoresThatCharacter(t *testing.T) {
	for name, escaped := range map[string]string{
		"pair": `\ud83d\ude00`, "pairs": `\ud83d\ude00\uD83D\uDE00`, "the last one": `\udbff\udfff`, "below": `\ud7ff`, "above": `\ue000`,
		"a backslash before it": `\\ud800`, "two": `\\\\ud800`, "no escape": `ud800`, "the replacement character": `\ufffd`, "plain": `😀`,
	} {
		t.Run(name, func(t *testing.T) {
			var want string
			require.NoError(t, json.Unmarshal([]byte(`"`+escaped+`"`), &want))
			for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
				a := newAPI(t, server.Config{Compat: compat}).withStream("", "")
				a.ok("POST", "/api/streams/s/messages", strings.Replace(`{"messages":[{"key":"k","data":"HERE"}]}`, "HERE", escaped, 1))
				require.Equal(t, []string{"k=" + want}, a.receive(`{}`).pairs())
			}
		})
	}
}
