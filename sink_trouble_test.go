package sequin_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// restartEvery restarts the sinks, with their connections, every second until ctx ends or n times.
func (w *world) restartEvery(ctx context.Context, n int) {
	for range n {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		w.RestartSinks()
		w.CutConnections()
	}
}

func TestARestartInTheMiddleOfABatchLosesNothing(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		for i := range 500 {
			require.NoError(t, sink.Update(nil, row{i % 50, fmt.Sprint(i / 50)}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		var mu sync.Mutex
		seen := map[row]bool{}
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.BatchHandlerConfig{Size: 40, Wait: 300 * time.Millisecond, Workers: 2}
			return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
				time.Sleep(400 * time.Millisecond)
				for _, d := range batch {
					change, err := sequin.DecodeChange[row](d)
					if err != nil {
						return err
					}
					mu.Lock()
					seen[change.Record] = true
					mu.Unlock()
				}
				return nil
			})
		})
		w.restartEvery(w.ctx, 20)
		time.Sleep(5 * time.Minute)
		require.NoError(t, run.stop())
		require.Zero(t, sink.State())
		require.Len(t, seen, 500)
	})
}

func TestARestartInTheMiddleOfAPipelineLosesNothing(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		for i := range 500 {
			require.NoError(t, sink.Update(nil, row{i % 50, fmt.Sprint(i)}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{Workers: 8}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			time.Sleep(100 * time.Millisecond)
			return []sequin.Message{{Key: d.Key, Data: d.Data}}, nil
		})
		w.restartEvery(w.ctx, 20)
		time.Sleep(5 * time.Minute)
		p.end(t)
		require.Zero(t, sink.State())
		seen := map[string]bool{}
		for _, versions := range w.data(t, "target") {
			for _, data := range versions {
				change, err := sequin.DecodeChange[row](sequin.Delivery{Data: data})
				require.NoError(t, err)
				seen[change.Record.Who] = true
			}
		}
		require.Len(t, seen, 500)
	})
}

func TestCloseDuringARestartOfASinkLeavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		sink := w.Sink("orders", server.SinkOptions{StartUp: 6 * time.Second})
		for i := range 10 {
			require.NoError(t, sink.Insert(row{ID: i}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		held := <-sub.Deliveries()
		w.RestartSinks()
		w.CutConnections()
		closed := make(chan error, 1)
		go func() { closed <- sub.Close(w.ctx) }()
		time.Sleep(time.Second)
		require.NoError(t, held.Ack())
		require.NoError(t, <-closed)
		require.Equal(t, server.SinkState{Available: 10}, sink.State(), "its ack came after the restart and settles nothing")
	})
}

// TestAnAckWaitThatIsSaidTooLongRepeatsChanges holds what SinkConfig.AckWait says of it: the server delivers again what the
// program still holds, and the first ack settles it.
func TestAnAckWaitThatIsSaidTooLongRepeatsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		sink := w.Sink("orders", server.SinkOptions{AckWait: 5 * time.Second})
		require.NoError(t, sink.Update(nil, row{1, "old"}))
		require.NoError(t, sink.Update(nil, row{1, "new"}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{AckWait: time.Minute})
		require.NoError(t, err)
		first := <-sub.Deliveries()
		again := <-sub.Deliveries()
		require.Equal(t, first.AckID, again.AckID)
		require.Equal(t, 2, again.Attempt)
		require.NoError(t, first.AckSync(w.ctx))
		next := <-sub.Deliveries()
		require.Contains(t, next.Data, "new")
		require.NoError(t, again.AckSync(w.ctx), "it changes nothing")
		require.Equal(t, server.SinkState{Outstanding: 1}, sink.State())
		require.NoError(t, next.Ack())
		require.NoError(t, sub.Close(w.ctx))
		require.Zero(t, sink.State())
	})
}

func TestAnAckWaitThatIsSaidTooShortLeavesTheServersLease(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		require.NoError(t, sink.Insert(row{ID: 1}))
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{AckWait: 4 * time.Second})
		require.NoError(t, err)
		late := <-sub.Deliveries()
		time.Sleep(5 * time.Second)
		require.ErrorIs(t, late.Ack(), sequin.ErrLeaseExpired)
		began := time.Now()
		again := <-sub.Deliveries()
		require.InDelta(t, 25, time.Since(began).Seconds(), 1, "the server's lease is 30 s")
		require.NoError(t, again.Ack())
		require.NoError(t, sub.Close(w.ctx))
	})
}

// keyedRow is a row with a composite key of awkward values.
type keyedRow struct {
	Shop, Number any
	Note         string
}

func TestAwkwardRowsArriveAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		sink := w.Sink("orders", server.SinkOptions{Table: "zoll.or ders", PrimaryKey: []string{"Shop", "Number"}})
		rows := map[string]keyedRow{
			"zoll.or%20ders.a%2Eb.%00":         {"a.b", "", "plain"},
			"zoll.or%20ders.%C3%A9%25.7":       {"é%", 7, "a \u2028 \U0001F600 \\u0041 \" \x7f"},
			"zoll.or%20ders.true.1%2E5":        {true, 1.5, ""},
			"zoll.or%20ders.%2A.%3E":           {"*", ">", strings.Repeat("long ", 100_000)},
			"zoll.or%20ders.n.%0A":             {"n", "\n", "a line break"},
			"zoll.or%20ders.a%2520b.900719925": {"a%20b", 900719925, "it is escaped once more"},
		}
		for _, r := range rows {
			require.NoError(t, sink.Insert(r))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		for range len(rows) {
			d := <-sub.Deliveries()
			require.Contains(t, rows, d.Key)
			change, err := sequin.DecodeChange[keyedRow](d)
			require.NoError(t, err)
			require.Equal(t, rows[d.Key].Note, change.Record.Note)
			require.NoError(t, d.Ack())
			delete(rows, d.Key)
		}
		require.NoError(t, sub.Close(w.ctx))
		require.Empty(t, rows)
		require.Zero(t, sink.State())
	})
}

func TestLargeRowsOfASinkAreReceived(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, sink *server.Sink) {
		big := strings.Repeat("x", 1<<20)
		const n = 40
		for i := range n {
			require.NoError(t, sink.Insert(row{i, big}))
		}
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		seen := map[int]bool{}
		for len(seen) < n {
			d := <-sub.Deliveries()
			change, err := sequin.DecodeChange[row](d)
			require.NoError(t, err)
			seen[change.Record.ID] = true
			require.NoError(t, d.Ack())
		}
		require.NoError(t, sub.Close(w.ctx))
		require.Zero(t, sink.State())
	})
}

func TestAnActionThatIsNotKnownIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.Sink("orders", server.SinkOptions{})
		const changed = `{"data":[{"data":{"record":{"id":1},"metadata":{"table_name":"orders","record_pks":["1"],"commit_timestamp":1795440099505010},"action":"truncate"},"ack_id":"00000000-0000-4000-8000-000000000001"}]}`
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 200, Body: changed, Count: 1})
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		d := <-sub.Deliveries()
		change, err := sequin.DecodeChange[row](d)
		require.NoError(t, err)
		require.Equal(t, sequin.Action("truncate"), change.Action)
		require.Equal(t, time.Date(2026, 11, 23, 13, 21, 39, 505010000, time.UTC), change.Metadata.CommitTimestamp)
		require.Equal(t, "orders.1", d.Key)
		require.NoError(t, d.Ack())
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestAnAnswerOfASinkThatIsCutIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.Sink("orders", server.SinkOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 200, Body: `{"data":[{"data":{"id":1},"ack_id":"00000000-0000-4000-8000-000000000001"},{`, Count: 1})
		got, err := w.client.ReceiveSink(w.ctx, "orders", sequin.ReceiveOptions{})
		require.ErrorContains(t, err, "the text ends")
		require.Empty(t, got)
	})
}

// TestASinkWithATransformDeliversWhatItReturns holds a sink whose transform returns rows, and one value that is no row.
func TestASinkWithATransformDeliversWhatItReturns(t *testing.T) {
	overSink(t, func(t *testing.T, w *world, _ *server.Sink) {
		const transformed = `{"data":[{"data":{"id":1,"who":"ann"},"ack_id":"00000000-0000-4000-8000-000000000001"},` +
			`{"data":"no row","ack_id":"00000000-0000-4000-8000-000000000002"},{"data":{"id":2,"who":"bob"},"ack_id":"00000000-0000-4000-8000-000000000003"}]}`
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 200, Body: transformed, Count: 1})
		w.stream(t, "dead", sequin.ConsumerOptions{})
		sub, err := w.client.SubscribeSink(w.ctx, "orders", sequin.SinkConfig{})
		require.NoError(t, err)
		var rows []row
		run := w.start(t, func(ctx context.Context) error {
			cfg := sequin.HandlerConfig{Workers: 1, DeadLetter: &sequin.DeadLetter{Stream: "dead"}}
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				require.Empty(t, d.Key)
				_, err := sequin.DecodeChange[row](d)
				require.Error(t, err, "it is no change")
				r, err := sequin.DecodeJSON[row](d)
				if err == nil {
					rows = append(rows, r)
				}
				return err
			})
		})
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		require.Equal(t, []row{{1, "ann"}, {2, "bob"}}, rows)
		require.Equal(t, uint64(3), sub.Stats().Acked)
		require.Len(t, w.data(t, "dead"), 1)
	})
}
