package sequin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

type row struct {
	ID  int    `json:"id"`
	Who string `json:"who"`
}

// overSink runs promise in a synctest bubble, with a server that has the sink "orders".
func overSink(t *testing.T, promise func(t *testing.T, w *world, sink *server.Sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		promise(t, w, w.Sink("orders", server.SinkOptions{}))
	})
}

func TestASubscriberOfASinkDeliversTheChangesOfEachRowInOrder(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		const rows, updates = 100, 10
		for i := range rows * updates {
			require.NoError(t, sink.Update(nil, row{i % rows, fmt.Sprint(i / rows)}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		seen := map[string][]string{}
		for range rows * updates {
			d := <-sub.Deliveries()
			change, err := sequin.DecodeChange[row](d)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("public.orders.%d", change.Record.ID), d.Key)
			require.Equal(t, "orders", d.Sink())
			require.Empty(t, d.Stream()+d.Consumer())
			seen[d.Key] = append(seen[d.Key], change.Record.Who)
			require.NoError(t, d.Ack())
		}
		for key, got := range seen {
			require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, got, key)
		}
		require.NoError(t, sub.Close(w.ctx))
		require.Zero(t, sink.State())
		require.Equal(t, uint64(rows*updates), sub.Stats().Acked)
	})
}

func TestAnIdleSubscriberOfASinkPollsSeldomAndStillReceivesSoon(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		require.NoError(t, sink.Insert(row{ID: 1}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		held := <-sub.Deliveries()
		began, before := time.Now(), w.Count(sequintest.Receive)
		for i := range 40 {
			time.Sleep(time.Second)
			require.LessOrEqual(t, w.Count(sequintest.Receive)-before, 20, "requests in the second %d", i)
			before = w.Count(sequintest.Receive)
			if i%9 == 0 {
				at := time.Now()
				require.NoError(t, sink.Insert(row{ID: 2 + i}))
				d := <-sub.Deliveries()
				if d.Key == held.Key { // the lease of the held one has ended
					require.Greater(t, time.Since(began), 30*time.Second)
					require.NoError(t, d.Ack())
					d = <-sub.Deliveries()
				}
				require.LessOrEqual(t, time.Since(at), time.Second)
				require.NoError(t, d.Ack())
			}
		}
		require.ErrorIs(t, held.Ack(), sequin.ErrLeaseExpired)
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestHandlersRetryChangesOfASinkAndSendDeadLettersElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := newWorld(t, sequintest.Config{}, sequin.Config{})
		streams.stream(t, "dead", sequin.ConsumerOptions{})
		w := newWorld(t, sequintest.Config{SinksOnly: true}, sequin.Config{})
		sink := w.Sink("orders", server.SinkOptions{})
		require.NoError(t, sink.Insert(row{1, "bad"}))
		require.NoError(t, sink.Update(nil, row{1, "good"}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		calls := map[string]int{}
		run := w.start(t, func(ctx context.Context) error {
			dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3, Client: streams.client}
			return sub.Handle(ctx, sequin.HandlerConfig{DeadLetter: dead}, func(_ context.Context, d sequin.Delivery) error {
				change, err := sequin.DecodeChange[row](d)
				calls[change.Record.Who]++
				if change.Record.Who == "bad" {
					err = errors.New("refused")
				}
				return err
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, map[string]int{"bad": 3, "good": 1}, calls, "a failure belongs to one change")
		letters := streams.data(t, "dead")
		require.Len(t, letters, 1)
		for key, data := range letters {
			require.Regexp(t, `^dead\.orders\.`, key)
			var letter sequin.DeadMessage
			require.NoError(t, json.Unmarshal([]byte(data[0]), &letter))
			require.Equal(t, "orders", letter.Sink)
			require.Equal(t, "public.orders.1", letter.Key)
		}
		require.Zero(t, sink.State())
	})
}

func TestAPipelineOfASinkFeedsAStream(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		for i := range 100 {
			require.NoError(t, sink.Insert(row{i, "a.b"}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			return []sequin.Message{{Key: d.Key, Data: d.Data}}, nil
		})
		time.Sleep(10 * time.Second)
		p.end(t)
		require.Len(t, w.data(t, "target"), 100)
		require.Zero(t, sink.State())
	})
}

// TestAKeyOfASinkMayBeTooLongForAMessage holds what SubscribeSink says of keys: a pipeline has to send another one.
func TestAKeyOfASinkMayBeTooLongForAMessage(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		w.stream(t, "dead", sequin.ConsumerOptions{})
		id := strings.Repeat("long ", 60)
		require.NoError(t, sink.Insert(map[string]string{"id": id}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}}
		p := w.pipe(t, sub, sequin.PublisherConfig{}, cfg, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			return []sequin.Message{{Key: d.Key, Data: d.Data}}, nil
		})
		time.Sleep(time.Minute)
		p.end(t)
		require.Zero(t, sink.State())
		require.Empty(t, w.data(t, "target"))
		for _, letters := range w.data(t, "dead") {
			var letter sequin.DeadMessage
			require.NoError(t, json.Unmarshal([]byte(letters[0]), &letter))
			require.Equal(t, "public.orders."+strings.ReplaceAll(id, " ", "%20"), letter.Key)
			require.Contains(t, letter.Error, "key")
			return
		}
		require.Fail(t, "no dead letter")
	})
}

func TestBatchesOfASinkHoldOneChangeOfEachRow(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		for range 3 {
			for id := range 10 {
				require.NoError(t, sink.Insert(row{id, "a"}))
			}
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		handled := map[string]int{}
		run := w.start(t, func(ctx context.Context) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 100}, func(_ context.Context, batch []sequin.Delivery) error {
				rows := map[string]bool{}
				for _, d := range batch {
					rows[d.Key] = true
					handled[d.Key]++
				}
				require.Len(t, rows, len(batch))
				return nil
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Len(t, handled, 10)
		for key, times := range handled {
			require.Equal(t, 3, times, key)
		}
		require.Zero(t, sink.State())
	})
}

func TestASubscriberOfASinkSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		sink := w.Sink("orders", server.SinkOptions{StartUp: 6 * time.Second})
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		require.NoError(t, sink.Insert(row{1, "before"}))
		old := <-sub.Deliveries()
		w.RestartSinks()
		require.NoError(t, old.AckSync(w.ctx), "an old ack id is accepted and does nothing")
		again := <-sub.Deliveries()
		require.NotEqual(t, old.AckID, again.AckID)
		require.Equal(t, old.Data, again.Data)
		require.NoError(t, again.Ack())
		require.NoError(t, sub.Close(w.ctx))
		require.Zero(t, sink.State())
	})
}

func TestTheNextChangeOfARowIsReceivedOnceTheOneBeforeItIsAcked(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		for range 20 {
			require.NoError(t, sink.Insert(row{ID: 1}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		began := time.Now()
		for range 20 {
			d := <-sub.Deliveries()
			time.Sleep(time.Second)
			require.NoError(t, d.Ack())
		}
		require.Less(t, time.Since(began), 20*time.Second+100*time.Millisecond)
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestAttemptsOfASinkAreCountedByTheSubscriber(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		require.NoError(t, sink.Insert(row{ID: 1}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		for i := range 3 {
			d := <-sub.Deliveries()
			require.Equal(t, i+1, d.Attempt)
			require.NoError(t, d.Nack())
		}
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestASubscriberOfASinkEndsWhenTheSinkIsGone(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		for range 2 {
			once := w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 404, Body: ownRefusal, Count: 1})
			require.NoError(t, sink.Insert(row{ID: 1}))
			d := <-sub.Deliveries()
			require.NoError(t, d.AckSync(w.ctx))
			time.Sleep(time.Minute)
			require.Equal(t, 1, once.Hits())
			require.NoError(t, sub.Err(), "a single 404 may come from a server that is being deployed")
		}
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 404, Body: ownRefusal})
		_, open := <-sub.Deliveries()
		require.False(t, open)
		require.ErrorIs(t, sub.Err(), sequin.ErrNotFound)
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestOneShotCallsOfASink(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		require.NoError(t, sink.Insert(row{1, "ann"}))
		got, err := w.client.ReceiveSink(w.ctx, "orders", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.NoError(t, w.client.NackSink(w.ctx, "orders", []string{got[0].AckID}))
		again, err := w.client.ReceiveSink(w.ctx, sink.ID(), sequin.ReceiveOptions{BatchSize: 1})
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.NoError(t, w.client.AckSink(w.ctx, "orders", []string{got[0].AckID}))
		got, err = w.client.ReceiveSink(w.ctx, "orders", sequin.ReceiveOptions{})
		require.NoError(t, err)
		require.Equal(t, []sequin.SinkMessage{}, got)
		shown, err := w.client.GetSink(w.ctx, "orders")
		require.NoError(t, err)
		require.Equal(t, &sequin.Sink{ID: sink.ID(), Name: "orders", Status: "active", Database: "postgres", Kind: "sequin_stream",
			Actions: []sequin.Action{sequin.ActionInsert, sequin.ActionUpdate, sequin.ActionDelete}}, shown)
		_, err = w.client.ReceiveSink(w.ctx, "other", sequin.ReceiveOptions{})
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorIs(t, w.client.AckSink(w.ctx, "orders", nil), sequin.ErrInvalidArgument)
	})
}

func TestSubscribeSaysWhichCallTheServerNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sinks := newWorld(t, sequintest.Config{SinksOnly: true}, sequin.Config{})
		_, err := sinks.client.Subscribe(sinks.ctx, "orders", "billing", sequin.SubscriberConfig{})
		require.ErrorContains(t, err, "this Sequin serves sinks, not streams: use SubscribeSink")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = sinks.client.SubscribeSink(sinks.ctx, "nope", sequin.SinkConfig{})
		require.ErrorContains(t, err, "No `consumer` found")
		require.NotContains(t, err.Error(), "use Subscribe")
	})
	inBothModes(t, func(t *testing.T, w *world) {
		_, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.ErrorContains(t, err, "this Sequin serves streams, not sinks: use Subscribe")
		_, err = w.client.Subscribe(w.ctx, "nope", "billing", sequin.SubscriberConfig{})
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.NotContains(t, err.Error(), "SubscribeSink")
	})
}

func TestSinkConfigIsChecked(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, _ *server.Sink) {
		_, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{AckWait: time.Millisecond})
		require.ErrorIs(t, err, sequin.ErrLeaseTooShort)
		_, err = w.client.SubscribeSink(w.ctx, "", sequin.SinkConfig{})
		require.ErrorIs(t, err, sequin.ErrInvalidArgument)
		_, err = w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{Subscriber: sequin.SubscriberConfig{Pollers: -1}})
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
	})
}

func TestDecodeChangeDecodesNestedAndFlatMessages(t *testing.T) {
	const members = `"record":{"id":1,"who":"ann","new":5},"changes":{"who":null},"action":"update","metadata":{"table_schema":"public",` +
		`"table_name":"orders","commit_timestamp":"2026-11-23T13:22:33.418620Z","commit_lsn":77160496,"commit_idx":2,` +
		`"idempotency_key":"k","record_pks":["1"],"consumer":{"name":"orders-sink"}}`
	change, err := sequin.DecodeChange[row](sequin.Delivery{Data: "{" + members + "}"})
	require.NoError(t, err)
	require.Equal(t, row{1, "ann"}, change.Record)
	require.Equal(t, sequin.ActionUpdate, change.Action)
	require.Equal(t, int64(77160496), change.Metadata.CommitLSN)
	require.Equal(t, 2, change.Metadata.CommitIdx)
	require.Equal(t, time.Date(2026, 11, 23, 13, 22, 33, 418620000, time.UTC), change.Metadata.CommitTimestamp)
	require.Equal(t, "orders-sink", change.Metadata.Consumer.Name)
	before, err := change.Before()
	require.NoError(t, err)
	require.Equal(t, row{1, ""}, before, "a column that was null is not the new value")

	_, err = sequin.DecodeChange[row](sequin.Delivery{Data: `{"qty":1}`})
	require.ErrorContains(t, err, "action")
	_, err = sequin.DecodeChange[row](sequin.Delivery{Data: `{"action":"insert","record":{"id":"x"}}`})
	require.Error(t, err)
	inserted, err := sequin.DecodeChange[row](sequin.Delivery{Data: `{"action":"insert","record":{"id":1}}`})
	require.NoError(t, err)
	_, err = inserted.Before()
	require.ErrorIs(t, err, sequin.ErrNoBefore)
}
