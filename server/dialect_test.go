package server_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func newAug2024(t *testing.T) *api {
	t.Helper()
	return newAPI(t, server.Config{Compat: server.Aug2024}).withStream("", `,"ack_wait_ms":10000`)
}

// TestIn2024ALateAckSettlesTheMessageOfALaterDelivery shows why a client must not ack late.
func TestIn2024ALateAckSettlesTheMessageOfALaterDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		a.send("a=1")
		first := a.receive(`{}`)
		time.Sleep(10 * time.Second)
		a.send("a=2")
		second := a.receive(`{}`)
		require.Equal(t, []string{"a=2"}, second.pairs())
		require.Equal(t, first[0].AckID, second[0].AckID, "an ack id never changes")
		a.ack(first)
		time.Sleep(time.Hour)
		require.Empty(t, a.receive(`{}`))
	})
}

func TestIn2024AnAckOfAReplacedMessageMakesTheNewOneAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		a.send("a=1")
		old := a.receive(`{}`)
		a.send("a=2")
		require.Empty(t, a.receive(`{}`))
		a.ack(old)
		require.Equal(t, []string{"a=2"}, a.receive(`{}`).pairs())
	})
}

func TestIn2024MaxDeliverIsNotEnforced(t *testing.T) {
	a := newAug2024(t)
	a.ok("PATCH", "/api/streams/s/consumers/c", `{"max_deliver":1}`)
	a.send("a=1")
	for range 3 {
		got := a.receive(`{}`)
		require.Len(t, got, 1)
		a.nack(got)
	}
}

// TestIn2024AckedRowsCountTowardMaxAckPendingForFiveMinutes counts the time from the consumer's creation.
func TestIn2024AckedRowsCountTowardMaxAckPendingForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		a.ok("PATCH", "/api/streams/s/consumers/c", `{"max_ack_pending":2}`)
		a.send("a=1", "b=2", "c=3", "d=4")
		a.ack(a.receive(`{"batch_size":10}`))
		time.Sleep(5*time.Minute - time.Second)
		require.Empty(t, a.receive(`{"batch_size":10}`))
		time.Sleep(time.Second)
		a.ack(a.receive(`{"batch_size":10}`))
		require.Equal(t, []string{"b=2", "a=1"}, messagesLeft(a), "later acks no longer count")
	})
}

// messagesLeft returns the messages of the keys a and b.
func messagesLeft(a *api) []string {
	a.t.Helper()
	left := []string{}
	for _, one := range messages(a.t, a) {
		if strings.HasPrefix(one, "a") || strings.HasPrefix(one, "b") {
			left = append(left, one)
		}
	}
	return left
}

func TestIn2024AConsumerNameInTwoStreamsGets500FromReceiveAckAndNack(t *testing.T) {
	a := newAug2024(t)
	a.send("a=1")
	first := a.consumer().ID
	a.ok("POST", "/api/streams", `{"name":"other"}`)
	require.Len(t, parseDeliveries(t, a.ok("POST", "/api/streams/other/consumers/c/receive", `{}`)), 1, "the stream of the path is ignored")
	a.ok("POST", "/api/streams/other/consumers", `{"name":"c","filter_key_pattern":">"}`)
	for path, body := range map[string]string{"receive": `{}`, "ack": `{"ack_ids":["7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"]}`, "nack": `{"ack_ids":["7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"]}`} {
		require.Equal(t, http.StatusInternalServerError, a.call("POST", "/api/streams/s/consumers/c/"+path, body).status)
		require.Equal(t, http.StatusOK, a.call("POST", "/api/streams/s/consumers/"+first+"/"+path, body).status, "an id is not ambiguous")
	}
	require.Equal(t, http.StatusOK, a.call("GET", "/api/streams/s/consumers/c", "").status, "GET uses the stream of the path")
}

// TestIn2024NamesHaveToGiveNewTables has the rule's edge: a table's name is cut to 63 bytes, of which the prefix has 18.
func TestIn2024NamesHaveToGiveNewTables(t *testing.T) {
	a := newAug2024(t)
	consumer := func(name string) int {
		return a.call("POST", "/api/streams/s/consumers", `{"name":"`+name+`","filter_key_pattern":">"}`).status
	}
	x43 := strings.Repeat("x", 43)
	require.Equal(t, http.StatusOK, consumer(x43[1:]+"y"))
	require.Equal(t, http.StatusOK, consumer(x43[1:]+"z"))
	require.Equal(t, http.StatusOK, consumer(x43+"y"))
	require.Equal(t, http.StatusInternalServerError, consumer(x43+"z"))
	require.Equal(t, http.StatusOK, consumer(strings.Repeat("y", 255)))
	got := a.call("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.JSONEq(t, `{"summary":"Validation failed","validation_errors":{"stream_id":["Consumer name must be unique within a stream"]}}`, got.body)
}

func TestIn2024AnAckOfAnAvailableMessageHasNoEffect(t *testing.T) {
	a := newAug2024(t)
	a.send("a=1")
	peeked := regexp.MustCompile(`"ack_id":"([^"]*)"`).FindStringSubmatch(a.ok("GET", "/api/streams/s/consumers/c/messages", ""))
	require.NotNil(t, peeked, "a message that was never delivered has an ack id")
	a.ack(deliveries{{AckID: peeked[1]}})
	got := a.receive(`{}`)
	require.Len(t, got, 1)
	a.nack(got)
	a.ack(got)
	require.Equal(t, []string{"a=1"}, a.receive(`{}`).pairs(), "after the nack an ack has no effect")
}

func TestIn2024ThereAreNoExtras(t *testing.T) {
	a := newAug2024(t)
	a.send("a=1")
	got := a.call("POST", "/api/streams/s/consumers/c/receive", `{}`)
	require.Empty(t, got.header.Get("Sequin-Waited-Ms"))
	require.NotContains(t, got.body, "deliver_count")
	a.ok("POST", "/api/streams/s/consumers/c/nack", parseDeliveries(t, got.body).ids(`,"undelivered":true`))
	require.Contains(t, a.ok("GET", "/api/streams/s/consumers/c/messages", ""), `"deliver_count":1`, "the nack counts")
	require.NotContains(t, a.ok("GET", "/api/streams/s", ""), "one_message_per_key")
}

func TestIn2024ConsumerInfoShowsEveryState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		info := func() string { return a.ok("GET", "/api/streams/s/messages/a/consumer_info", "") }
		a.send("a=1")
		require.Contains(t, info(), `"state":"available"`)
		got := a.receive(`{}`)
		require.Contains(t, info(), `"state":"pending"`)
		time.Sleep(10 * time.Second)
		require.Contains(t, info(), `"state":"available"`)
		a.ack(got)
		require.Contains(t, info(), `"state":"acked"`)
		time.Sleep(5 * time.Minute)
		require.Contains(t, info(), `"ack_id":null,"deliver_count":null,"last_delivered_at":null,"not_visible_until":null,"state":"acked"`,
			"the acked row is deleted")
	})
}

func TestIn2024AnIDMayBeInUpperCase(t *testing.T) {
	a := newAug2024(t)
	state, ok := a.Inspect("s")
	require.True(t, ok)
	path := "/api/streams/" + strings.ToUpper(state.ID)
	require.Contains(t, a.ok("GET", path, ""), `"name":"s"`)
	require.Contains(t, a.ok("GET", path+"/consumers/"+strings.ToUpper(state.Consumers[0].ID), ""), `"name":"c"`)
	require.Contains(t, a.ok("POST", path+"/consumers/"+strings.ToUpper(state.Consumers[0].ID)+"/receive", "{}"), `"data":[]`)
}

// TestIn2024TheLastLeaseIsShownByConsumerInfoOnly looks at a message whose lease has ended.
func TestIn2024TheLastLeaseIsShownByConsumerInfoOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		a.send("a=1")
		a.receive(`{}`)
		time.Sleep(10 * time.Second)
		require.Contains(t, a.ok("GET", "/api/streams/s/consumers/c/messages", ""), `"not_visible_until":null,"state":"available"`)
		require.Contains(t, a.ok("GET", "/api/streams/s/messages/a/consumer_info", ""), `"not_visible_until":"2000-01-01T00:00:10.000000Z","state":"available"`)
	})
}

func TestIn2024AnUpdateWithoutAChangeKeepsUpdatedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAug2024(t)
		before := a.ok("GET", "/api/streams/s/consumers/c", "")
		time.Sleep(time.Minute)
		require.Equal(t, before, a.ok("PATCH", "/api/streams/s/consumers/c", `{"ack_wait_ms":"10000","kind":"pull","name":"x"}`))
		require.Contains(t, a.ok("PATCH", "/api/streams/s/consumers/c", `{"status":"disabled"}`), `"updated_at":"2000-01-01T00:01:00Z"`)
	})
}
