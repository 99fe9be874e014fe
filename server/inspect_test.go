package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestInspectReturnsACopyOfTheStream(t *testing.T) {
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
