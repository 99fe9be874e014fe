package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestMaxDeliverEndsTheDeliveriesOfAMessage(t *testing.T) {
	inBubble(t, "", `,"max_deliver":2`, func(t *testing.T, a *api) {
		a.send("a=1", "a=2")
		first := a.receive(`{"batch_size":10}`)
		require.Equal(t, 1, first[0].DeliverCount)
		a.nack(first)
		second := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1"}, second.pairs())
		require.Equal(t, 2, second[0].DeliverCount)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a=2"}, a.receive(`{"batch_size":10}`).pairs(), "out of deliveries, it no longer withholds the next one")
	})
}

func TestMaxAckPendingLimitsTheMessagesOnLease(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", `,"max_ack_pending":2`)
	a.send("a=1", "b=2", "c=3")
	first := a.receive(`{"batch_size":10}`)
	require.Equal(t, []string{"a=1", "b=2"}, first.pairs())
	require.Empty(t, a.receive(`{"batch_size":10}`))
	a.ack(first[:1])
	require.Equal(t, []string{"c=3"}, a.receive(`{"batch_size":10}`).pairs())
}

func TestAChangedAckWaitAppliesToLaterDeliveries(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1", "b=2")
		a.receive(`{}`)
		a.ok("PATCH", "/api/streams/s/consumers/c", `{"ack_wait_ms":1000}`)
		a.receive(`{}`)
		time.Sleep(time.Second)
		require.Equal(t, []string{"b=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
}

func TestANewConsumerStartsAtTheBeginningOfTheStream(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2")
	a.ack(a.receive(`{"batch_size":10}`))
	a.ok("POST", "/api/streams/s/consumers", `{"name":"late","filter_key_pattern":"b"}`)
	got := parseDeliveries(t, a.ok("POST", "/api/streams/s/consumers/late/receive", `{"batch_size":10}`))
	require.Equal(t, []string{"b=2"}, got.pairs())
}

func TestConsumersOfDifferentStreamsMayHaveTheSameName(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", "/api/streams", `{"name":"other"}`)
	a.ok("POST", "/api/streams/other/consumers", `{"name":"c","filter_key_pattern":">"}`)
	a.send("a=1")
	require.Empty(t, parseDeliveries(t, a.ok("POST", "/api/streams/other/consumers/c/receive", `{}`)))
	require.Len(t, a.receive(`{}`), 1)
	id := a.consumer().ID
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/other/consumers/"+id+"/receive", `{}`).status)
}
