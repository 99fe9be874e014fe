package server_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const (
	nackRoute = "/api/streams/s/consumers/c/nack"
	peekRoute = "/api/streams/s/consumers/c/messages"
)

func TestANackWithADelayKeepsTheMessageBack(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1", "b=2")
		got := a.receive(`{"batch_size":2}`)
		a.ok("POST", nackRoute, got[:1].ids(`,"delay_ms":90000`)) // longer than the lease of 10 s
		a.ack(got[1:])
		time.Sleep(90*time.Second - 1)
		require.Empty(t, a.receive(`{}`))
		require.Contains(t, a.ok("GET", peekRoute, ""), `"state":"delayed"`)
		require.Contains(t, a.ok("GET", "/api/streams/s/messages/a/consumer_info", ""), `"state":"delayed"`)
		require.JSONEq(t, `{"data":[]}`, a.ok("GET", peekRoute+"?visible=true", ""))
		time.Sleep(time.Nanosecond)
		again := a.receive(`{}`)
		require.Equal(t, []string{"a=1"}, again.pairs())
		require.Equal(t, 2, again[0].DeliverCount)
	})
}

func TestADelayedUndeliveredNackDoesNotCountTheDelivery(t *testing.T) {
	inBubble(t, "", `,"max_deliver":1`, func(t *testing.T, a *api) {
		a.send("a=1")
		for range 3 {
			got := a.receive(`{}`)
			require.Equal(t, 1, got[0].DeliverCount)
			a.ok("POST", nackRoute, got.ids(`,"undelivered":true,"delay_ms":1000`))
			require.Empty(t, a.receive(`{}`))
			time.Sleep(time.Second)
		}
	})
}

func TestADelayEndsALongPoll(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		a.ok("POST", nackRoute, a.receive(`{}`).ids(`,"delay_ms":3000`))
		began := time.Now()
		require.Len(t, a.receive(`{"wait_for":20000}`), 1)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestADelayOutOfRangeIsRefused(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		got := a.receive(`{}`)
		for _, bad := range []string{"-1", "604800001", "1.5", "1e3", `"1000"`, "null", "true", "[]", "9223372036854775808"} {
			answer := a.call("POST", nackRoute, got.ids(`,"delay_ms":`+bad))
			require.Equal(t, http.StatusBadRequest, answer.status, bad)
			require.Contains(t, answer.body, "Invalid `delay_ms`. Must be an integer between 0 and 604800000 (7 days)", bad)
		}
		require.Contains(t, a.call("POST", nackRoute, `{"ack_ids":[],"delay_ms":-1}`).body, "Invalid ack_ids")
		require.Len(t, a.consumer().Outstanding, 1, "a refused nack changes nothing")
		a.ok("POST", nackRoute, got.ids(`,"delay_ms":0`))
		got = a.receive(`{}`)
		require.Len(t, got, 1, "a delay of 0 is none")
		a.ok("POST", nackRoute, got.ids(`,"delay_ms":604800000`))
		time.Sleep(7*24*time.Hour - 1)
		require.Empty(t, a.receive(`{}`))
		time.Sleep(time.Nanosecond)
		require.Len(t, a.receive(`{}`), 1)
	})
}

// Before the extension a server did not look at delay_ms, whatever it was.
func TestWithoutNackDelayADelayIsNotRead(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"switched off": {WithoutExtensions: []string{"nack-delay"}}, "2024": {Compat: server.Aug2024},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, cfg).withStream("", "")
				for _, delay := range []string{"1000", `"x"`} {
					a.send("a." + strings.Trim(delay, `"`) + "=1")
					a.ok("POST", nackRoute, a.receive(`{}`).ids(`,"delay_ms":`+delay))
					got := a.receive(`{}`)
					require.Len(t, got, 1)
					a.ack(got)
				}
			})
		})
	}
}

func TestAnAckIgnoresADelay(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		a.ok("POST", "/api/streams/s/consumers/c/ack", a.receive(`{}`).ids(`,"delay_ms":-1`))
		time.Sleep(time.Hour)
		require.Empty(t, a.receive(`{}`))
	})
}
