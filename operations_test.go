package sequin_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// In the order in which the documentation of the official SDKs shows them: create a stream and a consumer, send, receive,
// ack and nack messages, and delete everything. The names have dashes, which the 2024 server refuses.
func TestTheTwelveOperationsOfTheSDKsWork(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		stream, consumer := sdkNames(t, w)
		c, ctx := w.client, w.ctx

		created, err := c.CreateStream(ctx, stream, sequin.StreamOptions{})
		require.NoError(t, err)
		require.Equal(t, stream, created.Name)
		require.NotEmpty(t, created.ID)
		require.Zero(t, created.Stats.MessageCount+created.Stats.ConsumerCount)

		pull, err := c.CreateConsumer(ctx, stream, consumer, "test.>", sequin.ConsumerOptions{})
		require.NoError(t, err)
		require.Equal(t, sequin.Consumer{ID: pull.ID, Name: consumer, AccountID: created.AccountID, StreamID: created.ID,
			Filter: "test.>", Kind: "pull", Status: "active", AckWait: 30 * time.Second, MaxAckPending: 10_000,
			MaxDeliver: sequin.Unlimited, MaxWaiting: 20, StartSeq: pull.StartSeq, InsertedAt: pull.InsertedAt, UpdatedAt: pull.UpdatedAt},
			*pull, "the defaults that the server documents")
		require.Equal(t, w.mode == server.Documented, pull.StartSeq == 1, "the 2024 server does not show it")

		sent, err := c.SendMessage(ctx, stream, "test.1", "Hello, Sequin!")
		require.NoError(t, err)
		require.Equal(t, 1, sent.Published)
		sent, err = c.SendMessages(ctx, stream, []sequin.Message{{Key: "test.2", Data: "2"}, {Key: "test.3", Data: "3"}, {Key: "other", Data: "4"}})
		require.NoError(t, err)
		require.Equal(t, 3, sent.Published)

		first, err := c.ReceiveMessage(ctx, stream, consumer)
		require.NoError(t, err)
		require.Equal(t, `{"batch_size":1}`, string(w.Requests(sequintest.Receive)[0].Body))
		require.NotNil(t, first)
		rest, err := c.ReceiveMessages(ctx, stream, consumer, sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Equal(t, `{"batch_size":10}`, string(w.Requests(sequintest.Receive)[1].Body), "the SDKs' default")
		require.Len(t, rest, 2)

		require.NoError(t, c.AckMessage(ctx, stream, consumer, first.AckID))
		require.NoError(t, c.NackMessage(ctx, stream, consumer, rest[0].AckID))
		again, err := c.ReceiveMessage(ctx, stream, consumer)
		require.NoError(t, err)
		require.Equal(t, rest[0].Key, again.Key, "a nack makes it available at once")
		if w.mode == server.Documented {
			require.Equal(t, 1, rest[0].DeliverCount)
			require.Equal(t, 2, again.DeliverCount)
		} else {
			require.Zero(t, again.DeliverCount, "the 2024 server does not tell")
		}
		ids := []string{again.AckID, rest[1].AckID}
		require.NoError(t, c.NackMessages(ctx, stream, consumer, ids))
		redelivered, err := c.ReceiveMessages(ctx, stream, consumer, sequin.ReceiveOptions{BatchSize: 1000})
		require.NoError(t, err)
		require.Len(t, redelivered, 2)
		require.NoError(t, c.AckMessages(ctx, stream, consumer, []string{redelivered[0].AckID, redelivered[1].AckID}))
		require.NoError(t, c.AckMessage(ctx, stream, consumer, first.AckID), "settled before: a success, too")

		nothingLeft(t, w, stream, consumer)
		require.NoError(t, c.DeleteConsumer(ctx, stream, consumer))
		require.NoError(t, c.DeleteStream(ctx, stream))
	})
}

// sdkNames returns the names of the documentation, or what the 2024 server accepts instead.
func sdkNames(t *testing.T, w *world) (stream, consumer string) {
	t.Helper()
	stream, consumer = "your-stream-name", "your-consumer-name"
	if w.mode == server.Documented {
		return stream, consumer
	}
	_, err := w.client.CreateStream(w.ctx, stream, sequin.StreamOptions{})
	require.ErrorIs(t, err, sequin.ErrValidation)
	require.ErrorContains(t, err, "name must contain only alphanumeric characters or underscores")
	return strings.ReplaceAll(stream, "-", "_"), strings.ReplaceAll(consumer, "-", "_")
}

// nothingLeft requires that nothing is available, and checks what a receive returns then.
func nothingLeft(t *testing.T, w *world, stream, consumer string) {
	t.Helper()
	none, err := w.client.ReceiveMessage(w.ctx, stream, consumer)
	require.NoError(t, err)
	require.Nil(t, none)
	empty, err := w.client.ReceiveMessages(w.ctx, stream, consumer, sequin.ReceiveOptions{})
	require.NoError(t, err)
	require.Equal(t, []sequin.ReceivedMessage{}, empty)
}

func TestTheTwelveOperationsReturnErrorsThatNameTheCause(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		c, ctx := w.client, w.ctx
		for _, o := range operations[:4] { // send, receive, ack, nack
			require.NoError(t, o.call(ctx, c))
		}
		_, err := c.CreateStream(ctx, "s", sequin.StreamOptions{})
		require.ErrorIs(t, err, sequin.ErrValidation, "taken")
		_, err = c.CreateConsumer(ctx, "s", "all", ">", sequin.ConsumerOptions{})
		require.ErrorIs(t, err, sequin.ErrValidation, "taken")
		_, err = c.CreateConsumer(ctx, "none", "all", ">", sequin.ConsumerOptions{})
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = c.SendMessage(ctx, "none", "k", "1")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = c.ReceiveMessage(ctx, "s", "none")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorIs(t, c.AckMessage(ctx, "s", "none", someID), sequin.ErrNotFound)
		require.ErrorIs(t, c.NackMessage(ctx, "s", "none", someID), sequin.ErrNotFound)
		require.ErrorIs(t, c.DeleteConsumer(ctx, "s", "none"), sequin.ErrNotFound)
		require.ErrorIs(t, c.DeleteStream(ctx, "none"), sequin.ErrNotFound)
	})
}

func TestAConsumerMayBeNamedByItsID(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		s, k := w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.SendMessage(w.ctx, s.ID, "k", "1")
		require.NoError(t, err)
		got, err := w.client.ReceiveMessage(w.ctx, s.ID, k.ID)
		require.NoError(t, err)
		require.Equal(t, "k", got.Key)
		require.NoError(t, w.client.NackMessage(w.ctx, s.ID, k.ID, got.AckID))
		byName, err := w.client.ReceiveMessage(w.ctx, "s", "all")
		require.NoError(t, err)
		require.NoError(t, w.client.AckMessage(w.ctx, s.ID, k.ID, byName.AckID))
		require.NoError(t, w.client.DeleteConsumer(w.ctx, s.ID, k.ID))
		require.NoError(t, w.client.DeleteStream(w.ctx, s.ID))
	})
}

func TestAReceiveThatWaitsGetsAMessageThatIsSentMeanwhile(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, k := w.stream(t, "s", sequin.ConsumerOptions{})
		time.AfterFunc(3*time.Second, func() { _, _ = w.client.SendMessage(w.ctx, "s", "k", "1") })
		began := time.Now()
		got, err := w.client.ReceiveMessages(w.ctx, "s", k.ID, sequin.ReceiveOptions{WaitFor: time.Minute})
		if w.mode == server.Aug2024 {
			require.ErrorIs(t, err, sequin.ErrValidation)
			require.ErrorContains(t, err, "wait_for")
			time.Sleep(4 * time.Second) // until after the send
			return
		}
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestAMessageWhoseReceiveWasLostIsRedelivered(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		_, k := w.stream(t, "s", sequin.ConsumerOptions{AckWait: 5 * time.Second})
		_, err := w.client.SendMessage(w.ctx, "s", "k", "1")
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Op: sequintest.Receive, CutAfter: true, Count: 1})
		got, err := w.client.ReceiveMessage(w.ctx, "s", k.ID)
		require.NoError(t, err)
		if got == nil { // unless the server returned what it could not deliver
			time.Sleep(6 * time.Second)
			got, err = w.client.ReceiveMessage(w.ctx, "s", k.ID)
			require.NoError(t, err)
		}
		require.Equal(t, "k", got.Key)
	})
}

// doubled is a batch with the key "b" twice.
var doubled = []sequin.Message{{Key: "a", Data: "1"}, {Key: "b", Data: "2"}, {Key: "c", Data: "3"}, {Key: "b", Data: "4"}}

func TestADoubledKeyIsRefusedOnlyByTheServerThatCannotTakeIt(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		reads := w.Count(sequintest.GetStream)
		_, err := w.client.SendMessages(w.ctx, "s", doubled[:3])
		require.NoError(t, err)
		require.Equal(t, reads, w.Count(sequintest.GetStream), "the kind of the server does not matter yet")
		sends := w.Count(sequintest.Send)
		for range 3 {
			result, err := w.client.SendMessages(w.ctx, "s", doubled)
			if w.mode == server.Aug2024 {
				require.ErrorIs(t, err, sequin.ErrDuplicateKey)
				require.ErrorContains(t, err, `"b"`)
			} else {
				require.NoError(t, err)
				require.Equal(t, 4, result.Published, "a stream that appends keeps both versions")
			}
		}
		require.Equal(t, reads+1, w.Count(sequintest.GetStream), "read once")
		if w.mode == server.Aug2024 {
			require.Equal(t, sends, w.Count(sequintest.Send))
		}
	})
}

func TestTheKindOfAServerThatCannotBeAskedIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}})
		_, err := w.client.SendMessages(w.ctx, "s", doubled)
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.Zero(t, w.Count(sequintest.Send))
		w.stream(t, "s", sequin.ConsumerOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 200, Body: "{}", Count: 1})
		_, err = w.client.SendMessages(w.ctx, "s", doubled)
		require.Error(t, err, "an answer of a proxy tells nothing about the server")
		require.NotErrorIs(t, err, sequin.ErrDuplicateKey)
		_, err = w.client.SendMessages(w.ctx, "s", doubled)
		require.NoError(t, err)
	})
}

// The read of the stream belongs to the send, which a maintenance page does not end.
func TestADoubledKeyIsSentAfterAForeignAnswerToTheReadOfItsStream(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 403, Body: "<html>", Count: 2})
		_, err := w.client.SendMessages(w.ctx, "s", doubled)
		require.NoError(t, err)
	})
}
