package server_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func messages(t *testing.T, a *api) []string {
	t.Helper()
	state, ok := a.Inspect("s")
	require.True(t, ok)
	out := []string{}
	for _, m := range state.Messages {
		out = append(out, m.Key+"="+m.Data)
	}
	return out
}

func TestOneMessagePerKey(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true`, "")
	require.Equal(t, 3, a.send("a=1", "b=1", "a=2"), "within a request the last one wins, and each that differs counts")
	require.Equal(t, []string{"b=1", "a=2"}, messages(t, a))
	require.Equal(t, 0, a.send("a=2", "b=1"), "the same data is no change")
	require.Equal(t, []string{"b=1", "a=2"}, a.receive(`{"batch_size":10}`).pairs())
}

func TestProcessUnmodifiedMakesTheSameDataAChange(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream(`,"one_message_per_key":true,"process_unmodified":true`, "")
	require.Equal(t, 2, a.send("a=1", "a=1"))
	a.ack(a.receive(`{}`))
	require.Equal(t, 1, a.send("a=1"))
	require.Equal(t, []string{"a=1"}, a.receive(`{}`).pairs())
}

// TestAReplacementIsWithheldUntilTheOldVersionIsDone covers the three ways of being done.
func TestAReplacementIsWithheldUntilTheOldVersionIsDone(t *testing.T) {
	for name, done := range map[string]func(a *api, old deliveries){
		"ack":    func(a *api, old deliveries) { a.ack(old) },
		"nack":   func(a *api, old deliveries) { a.nack(old) },
		"expiry": func(*api, deliveries) { time.Sleep(10 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, `,"one_message_per_key":true`, "", func(t *testing.T, a *api) {
				a.send("a=1")
				old := a.receive(`{}`)
				a.send("a=2")
				require.Empty(t, a.receive(`{"batch_size":10}`))
				done(a, old)
				replacement := a.receive(`{"batch_size":10}`)
				require.Equal(t, []string{"a=2"}, replacement.pairs())
				require.Equal(t, 1, replacement[0].DeliverCount, "a new version begins to count anew")
			})
		})
	}
}

func TestAnAppendingStreamKeepsTheOrderOfAKey(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		require.Equal(t, 4, a.send("a=1", "a=2", "b=1", "a=3"))
		first := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1", "b=1"}, first.pairs())
		a.nack(first[:1])
		again := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1"}, again.pairs(), "a nack does not let the next one overtake")
		a.ack(again)
		second := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=2"}, second.pairs())
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a=2", "b=1"}, a.receive(`{"batch_size":10}`).pairs(), "nor does an expiry")
	})
}

func TestRetention(t *testing.T) {
	t.Run("retain_up_to keeps the newest", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":2`, "")
		require.Equal(t, 3, a.send("a=1", "b=2", "c=3"))
		require.Equal(t, []string{"b=2", "c=3"}, messages(t, a))
		require.Equal(t, []string{"b=2", "c=3"}, a.receive(`{"batch_size":10}`).pairs())
	})
	t.Run("an ack of what was dropped succeeds", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
		a.send("a=1")
		old := a.receive(`{}`)
		a.send("b=2")
		require.Empty(t, a.consumer().Outstanding)
		a.ack(old)
		a.nack(old)
		require.Equal(t, []string{"b=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
	t.Run("a drop lets the next of the key go", func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream(`,"retain_up_to":1`, "")
		a.send("a=1")
		a.receive(`{}`)
		a.send("a=2")
		require.Equal(t, []string{"a=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
}

func TestMaxDeliver(t *testing.T) {
	inBubble(t, "", `,"max_deliver":2`, func(t *testing.T, a *api) {
		a.send("a=1", "a=2")
		first := a.receive(`{"batch_size":10}`)
		require.Equal(t, 1, first[0].DeliverCount)
		a.nack(first)
		second := a.receive(`{"batch_size":10}`)
		require.Equal(t, []string{"a=1"}, second.pairs())
		require.Equal(t, 2, second[0].DeliverCount)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a=2"}, a.receive(`{"batch_size":10}`).pairs(), "out of deliveries, it lets the next one go")
	})
}

func TestAnUndeliveredNackDoesNotCount(t *testing.T) {
	inBubble(t, "", `,"max_deliver":1`, func(t *testing.T, a *api) {
		a.send("a=1")
		for range 3 {
			got := a.receive(`{}`)
			require.Equal(t, 1, got[0].DeliverCount)
			a.ok("POST", "/api/streams/s/consumers/c/nack", got.ids(`,"undelivered":true`))
		}
		got := a.receive(`{}`)
		a.ok("POST", "/api/streams/s/consumers/c/nack", got.ids(`,"undelivered":false`))
		require.Empty(t, a.receive(`{}`))
	})
}

func TestMaxAckPending(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", `,"max_ack_pending":2`)
	a.send("a=1", "b=2", "c=3")
	first := a.receive(`{"batch_size":10}`)
	require.Equal(t, []string{"a=1", "b=2"}, first.pairs())
	require.Empty(t, a.receive(`{"batch_size":10}`))
	a.ack(first[:1])
	require.Equal(t, []string{"c=3"}, a.receive(`{"batch_size":10}`).pairs())
}

// TestAnOldAckIDDoesNothing covers acks that come after a nack, an expiry and a redelivery.
func TestAnOldAckIDDoesNothing(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		nacked := a.receive(`{}`)
		a.nack(nacked)
		a.ack(nacked)
		expired := a.receive(`{}`)
		require.NotEqual(t, nacked[0].AckID, expired[0].AckID)
		time.Sleep(10 * time.Second)
		a.ack(expired)
		held := a.receive(`{}`)
		require.Equal(t, 3, held[0].DeliverCount)
		for _, old := range []deliveries{nacked, expired} {
			a.ack(old)
			a.nack(old)
		}
		require.Equal(t, held[0].AckID, a.consumer().Outstanding[0].AckID)
		a.ack(held)
		a.nack(held)
		require.Empty(t, a.receive(`{}`))
	})
}

func TestAChangedAckWaitIsThatOfTheNextDelivery(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1", "b=2")
		a.receive(`{}`)
		a.ok("PATCH", "/api/streams/s/consumers/c", `{"ack_wait_ms":1000}`)
		a.receive(`{}`)
		time.Sleep(time.Second)
		require.Equal(t, []string{"b=2"}, a.receive(`{"batch_size":10}`).pairs())
	})
}

func TestANewConsumerStartsAtTheBeginning(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2")
	a.ack(a.receive(`{"batch_size":10}`))
	a.ok("POST", "/api/streams/s/consumers", `{"name":"late","filter_key_pattern":"b"}`)
	got := parseDeliveries(t, a.ok("POST", "/api/streams/s/consumers/late/receive", `{"batch_size":10}`))
	require.Equal(t, []string{"b=2"}, got.pairs())
}

func TestABatchIsReceivedInTheOrderOfSeq(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2", "c=3", "d=4", "e=5")
	got := a.receive(`{"batch_size":4}`)
	a.nack(deliveries{got[3], got[0], got[2]})
	require.Equal(t, []string{"a=1", "c=3", "d=4", "e=5"}, a.receive(`{"batch_size":10}`).pairs())
}

func TestNamesOfDifferentStreamsDoNotMeet(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.ok("POST", "/api/streams", `{"name":"other"}`)
	a.ok("POST", "/api/streams/other/consumers", `{"name":"c","filter_key_pattern":">"}`)
	a.send("a=1")
	require.Empty(t, parseDeliveries(t, a.ok("POST", "/api/streams/other/consumers/c/receive", `{}`)))
	require.Len(t, a.receive(`{}`), 1)
	id := a.consumer().ID
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/other/consumers/"+id+"/receive", `{}`).status)
}

func TestStreamsAndConsumersAreFoundByIDOrName(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	state, _ := a.Inspect("s")
	for _, stream := range []string{"s", state.ID} {
		for _, consumer := range []string{"c", state.Consumers[0].ID} {
			a.ok("GET", "/api/streams/"+stream+"/consumers/"+consumer, "")
		}
		byRef, ok := a.Inspect(stream)
		require.True(t, ok)
		require.Equal(t, state, byRef)
	}
}

func TestATokenIsAskedForEverywhere(t *testing.T) {
	a := newAPI(t, server.Config{Token: "secret"})
	for _, header := range []string{"", "Bearer wrong", "secret", "Basic secret"} {
		got := a.call("GET", "/api/streams", "", "Authorization", header)
		require.Equal(t, http.StatusUnauthorized, got.status)
		require.Contains(t, got.body, `"summary":"Unauthorized`)
		require.Equal(t, http.StatusUnauthorized, a.call("POST", "/api/streams/s/messages", `{`).status)
	}
	require.Equal(t, http.StatusOK, a.call("GET", "/api/streams", "", "Authorization", "Bearer secret").status)
}

func TestAClosedServerAnswers503(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.Close()
	a.Close()
	for _, path := range []string{"/api/streams", "/api/streams/s", "/nope"} {
		require.Equal(t, http.StatusServiceUnavailable, a.call("GET", path, "").status)
	}
}

// TestInspectionReturnsWhatIsThere also shows that it is a copy.
func TestInspectionReturnsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream("", "")
		a.send("a=1", "b=2", "c=3")
		got := a.receive(`{"batch_size":2}`)
		a.ack(got[:1])
		require.Equal(t, []string{"s"}, a.Streams())
		state, ok := a.Inspect("s")
		require.True(t, ok)
		require.Equal(t, []server.MessageState{
			{Key: "a", Data: "1", Seq: 1, InsertedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC()},
			{Key: "b", Data: "2", Seq: 2, InsertedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC()},
			{Key: "c", Data: "3", Seq: 3, InsertedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC()},
		}, state.Messages)
		consumer := state.Consumers[0]
		require.Equal(t, []any{"c", ">", 0, 1}, []any{consumer.Name, consumer.Filter, consumer.Waiting, consumer.Available})
		require.Len(t, consumer.Outstanding, 1)
		held := consumer.Outstanding[0]
		require.Equal(t, got[1].AckID, held.AckID)
		require.Equal(t, []any{"b", "2", int64(2), 1}, []any{held.Key, held.Data, held.Seq, held.DeliverCount})
		require.Equal(t, 30*time.Second, time.Until(held.Until))
		state.Messages[0].Key = "changed"
		again, _ := a.Inspect("s")
		require.Equal(t, "a", again.Messages[0].Key)
		_, ok = a.Inspect("nope")
		require.False(t, ok)
	})
}
