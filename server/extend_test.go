package server_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const extendRoute = "/api/streams/s/consumers/c/extend"

func TestAnExtendedLeaseEndsTheTimeFromThen(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1", "b=2")
		got := a.receive(`{"batch_size":2}`)
		a.ack(got[1:])
		time.Sleep(9 * time.Second) // of a lease of 10 s
		require.JSONEq(t, `{"data":{"extended":["`+got[0].AckID+`"]}}`, a.ok("POST", extendRoute, got.ids(`,"ack_wait_ms":60000`)),
			"the other was settled")
		time.Sleep(time.Minute - 1)
		require.Empty(t, a.receive(`{}`))
		require.JSONEq(t, `{"data":{"extended":["`+got[0].AckID+`"]}}`, a.ok("POST", extendRoute, got[:1].ids(`,"ack_wait_ms":1`)))
		time.Sleep(time.Millisecond)
		require.JSONEq(t, `{"data":{"extended":[]}}`, a.ok("POST", extendRoute, got.ids(`,"ack_wait_ms":60000`)), "the lease has ended")
		again := a.receive(`{}`)
		require.Equal(t, []string{"a=1"}, again.pairs())
		require.Equal(t, 2, again[0].DeliverCount)
	})
}

func TestAnExtensionIsRefusedWithBadInput(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1")
	got := a.receive(`{}`)
	for _, more := range []string{"", `,"ack_wait_ms":0`, `,"ack_wait_ms":-1`, `,"ack_wait_ms":2147483648`, `,"ack_wait_ms":1.5`, `,"ack_wait_ms":"1000"`, `,"ack_wait_ms":null`} {
		answer := a.call("POST", extendRoute, got.ids(more))
		require.Equal(t, http.StatusBadRequest, answer.status, more)
		require.Contains(t, answer.body, "Invalid `ack_wait_ms`. Must be an integer between 1 and 2147483647", more)
	}
	for _, body := range []string{"", `{}`, `{"ack_ids":[],"ack_wait_ms":1000}`, `{"ack_ids":["x"],"ack_wait_ms":1000}`} {
		answer := a.call("POST", extendRoute, body)
		require.Equal(t, http.StatusBadRequest, answer.status, body)
		require.Contains(t, answer.body, "Invalid ack_ids", body)
	}
	require.Equal(t, http.StatusBadRequest, a.call("POST", extendRoute, `{`).status)
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/s/consumers/nope/extend", got.ids(`,"ack_wait_ms":1000`)).status)
	require.Equal(t, http.StatusNotFound, a.call("GET", extendRoute, "").status)
	a.ok("POST", extendRoute, got.ids(`,"ack_wait_ms":2147483647`))
}

func TestWithoutExtendThereIsNoSuchRoute(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"switched off": {WithoutExtensions: []string{"extend"}}, "2024": {Compat: server.Aug2024},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, cfg).withStream("", "")
				a.send("a=1")
				got := a.receive(`{}`)
				answer, unknown := a.call("POST", extendRoute, got.ids(`,"ack_wait_ms":60000`)), a.call("POST", extendRoute+"s", `{}`)
				require.Equal(t, http.StatusNotFound, answer.status)
				require.Equal(t, unknown.body, answer.body)
				time.Sleep(30 * time.Second)
				require.Len(t, a.receive(`{}`), 1)
			})
		})
	}
}

func TestTheRoutesOfExtensionsRefuseMembersThatTheyDoNotKnow(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		for route, valid := range map[string]string{
			extendRoute:            `"ack_ids":["00000000-0000-4000-8000-000000000000"],"ack_wait_ms":1000`,
			endReceiveRoute:        `"request_id":"` + requestID(1) + `"`,
			"/api/streams/s/purge": `"before_seq":1`,
		} {
			a.ok("POST", route, "{"+valid+"}")
			for _, more := range []string{`"more":1`, `"undelivered":true`, valid} {
				got := a.call("POST", route, "{"+valid+","+more+"}")
				require.Equal(t, http.StatusBadRequest, got.status, route)
				require.Regexp(t, "Unknown member|is there twice", got.body)
			}
		}
	})
}
