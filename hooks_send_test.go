package sequin_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// traced adds a header to each message, with the value that ctx has.
func traced(ctx context.Context, stream string, m *sequin.Message) {
	m.Headers["traceparent"] = fmt.Sprint(ctx.Value(valueKey("trace")), " ", m.Key, " ", stream)
}

// newClient returns another client of the world's server.
func (w *world) newClient(t *testing.T, cfg sequin.Config) *sequin.Client {
	t.Helper()
	cfg.BaseURL, cfg.HTTPClient = w.URL, w.Server.Client()
	c, err := sequin.NewClient(cfg)
	require.NoError(t, err)
	return c
}

func TestHeadersThatAHookAddsReachTheServer(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		own := headers{"mine": "1", "traceparent": "of the program"}
		for i, send := range []func(context.Context, *sequin.Client) error{
			func(ctx context.Context, c *sequin.Client) error {
				return second(c.SendMessages(ctx, "orders", []sequin.Message{{Key: "a"}, {Key: "b", Headers: own}}))
			},
			func(ctx context.Context, c *sequin.Client) error {
				pub, err := c.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1})
				require.NoError(t, err)
				require.NoError(t, pub.Send(ctx, "c", ""))
				require.NoError(t, pub.SendMessage(ctx, sequin.Message{Key: "d", Headers: own}))
				require.NoError(t, pub.SendSync(ctx, sequin.Message{Key: "e"}))
				require.NoError(t, pub.TrySend("f", ""))
				return pub.Close(ctx)
			},
		} {
			reads := w.Count(sequintest.GetStream)
			c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{Send: func(ctx context.Context, stream string, m *sequin.Message) {
				delete(m.Headers, "mine") // has no effect
				traced(ctx, stream, m)
			}}})
			require.NoError(t, send(context.WithValue(w.ctx, valueKey("trace"), i), c))
			require.Equal(t, reads+1, w.Count(sequintest.GetStream), "before the first request")
		}
		require.Equal(t, headers{"mine": "1", "traceparent": "of the program"}, own)
		require.Equal(t, map[string]headers{
			"a": {"traceparent": "0 a orders"}, "b": {"mine": "1", "traceparent": "0 b orders"},
			"c": {"traceparent": "1 c orders"}, "d": {"mine": "1", "traceparent": "1 d orders"}, "e": {"traceparent": "1 e orders"}, "f": {"traceparent": "<nil> f orders"},
		}, w.headersIn(t, "orders"))
	})
}

// Tracing that is switched on never stops production.
func TestHeadersThatAHookAddsAreLeftOutWhereTheServerHasNone(t *testing.T) {
	promise := func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		calls := 0
		c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{Send: func(ctx context.Context, stream string, m *sequin.Message) {
			calls++
			traced(ctx, stream, m)
		}}})
		pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		for i := range 3 {
			require.NoError(t, second(c.SendMessage(w.ctx, "orders", fmt.Sprint("a", i), "")))
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: fmt.Sprint("b", i)}))
		}
		require.ErrorIs(t, pub.SendSync(w.ctx, sequin.Message{Key: "own", Headers: someHeaders}), sequin.ErrUnsupported)
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 6)
		require.Equal(t, 7, calls, "it need not know what the server has")
		require.Equal(t, 2, w.Count(sequintest.GetStream), "before the first message, and for the one with headers of its own")
	}
	withoutHeaders(t, promise)
}

// A token may be allowed to send and not to read.
func TestAFailedReadBeforeAddedHeadersStopsNothing(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		for i, fault := range []sequintest.Fault{{Status: 403, Body: ownRefusal}, {Status: 503, Body: "<html>"}, {CutBefore: true}} {
			fault.Op = sequintest.GetStream
			failing := w.Fault(fault)
			c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{Send: traced}})
			pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			began := time.Now()
			for n := range 2 {
				require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: fmt.Sprint(i, ".", n)}))
			}
			require.NoError(t, pub.Close(w.ctx))
			require.Less(t, time.Since(began), time.Second)
			require.Equal(t, 1, failing.Hits())
			failing.Remove()
			require.Nil(t, w.headersIn(t, "orders")[fmt.Sprint(i, ".0")])
			require.NotNil(t, w.headersIn(t, "orders")[fmt.Sprint(i, ".1")], "the first send has shown that the server has headers")
		}
	})
}

func TestAddedHeadersThatBreakARuleAreLeftOut(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		many := headers{}
		for i := range sequin.MaxHeaders + 1 {
			many[fmt.Sprint("h", i)] = ""
		}
		for i, bad := range []headers{{"a b": ""}, {"": "x"}, {"a": "\xff"}, {"a": strings.Repeat("x", sequin.MaxHeaderBytes)}, many, nil} {
			c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{Send: func(_ context.Context, _ string, m *sequin.Message) { m.Headers = maps.Clone(bad) }}})
			pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			plain, own := fmt.Sprint("plain", i), fmt.Sprint("own", i)
			require.NoError(t, pub.Send(w.ctx, plain, ""))
			require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: own, Headers: headers{"mine": "1"}}))
			require.NoError(t, pub.Close(w.ctx))
			got := w.headersIn(t, "orders")
			require.Nil(t, got[plain])
			require.Equal(t, headers{"mine": "1"}, got[own])
		}
	})
}

func TestAddedHeadersDoNotMakeAMessageTooLarge(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{Send: traced}})
		data := strings.Repeat("x", sequin.MaxRequestBytes-60)
		require.NoError(t, second(c.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Data: data}})))
		pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "b", Data: data}))
		require.NoError(t, second(c.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "c", Data: data[50:]}, {Key: "d"}})))
		require.NoError(t, pub.Close(w.ctx))
		got := w.headersIn(t, "orders")
		require.Nil(t, got["a"])
		require.Nil(t, got["b"])
	})
}

// While servers are replaced one by one, one without headers may answer after one with headers has announced them.
func TestAddedHeadersThatAnotherServerHasDroppedAreNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Hooks: &sequin.Hooks{Send: traced}})
		pub := w.orders(t, oneBatch())
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 200, Body: `{"data":{"published":1}}`, Acted: true, Count: 2})
		require.NoError(t, second(w.client.SendMessage(w.ctx, "orders", "a", "")))
		require.NoError(t, second(w.client.GetStream(w.ctx, "orders"))) // headers are announced again
		require.NoError(t, pub.Send(w.ctx, "b", ""))
		require.NoError(t, pub.Close(w.ctx))
		require.EqualValues(t, 1, pub.Stats().Sent)
	})
}

// Another Publisher may send what is left, to a server without headers.
func TestAProgramGetsItsMessagesBackWithoutAddedHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Hooks: &sequin.Hooks{Send: traced}})
		pub := w.orders(t, oneBatch())
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Count: 1})
		require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: "a", Headers: headers{"mine": "1"}}))
		all := failed(t, pub.Flush(w.ctx))
		require.Equal(t, headers{"mine": "1"}, all[0].Message.Headers)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second}) // otherwise it may be stored before Close gives up
		require.NoError(t, pub.Send(w.ctx, "b", ""))
		var unsent *sequin.UnsentError
		require.ErrorAs(t, pub.Close(endedCtx()), &unsent)
		require.Equal(t, []sequin.Message{{Key: "b"}}, unsent.Unsent)
	})
}

func TestWhatAPipeSendsHasTheValuesOfTheHandlersContext(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		c := w.newClient(t, sequin.Config{Hooks: &sequin.Hooks{
			Send: traced,
			HandlerStart: func(ctx context.Context, d sequin.Delivery) context.Context {
				return context.WithValue(ctx, valueKey("trace"), "of "+d.Key)
			},
		}})
		w.client = c
		sub := w.backlog(t, 2, 30*time.Second, sequin.SubscriberConfig{})
		_, err := c.CreateStream(w.ctx, "target", sequin.StreamOptions{})
		require.NoError(t, err)
		pub, err := c.NewPublisher("target", sequin.PublisherConfig{})
		require.NoError(t, err)
		run := w.start(t, func(ctx context.Context) error { return sub.Pipe(ctx, pub, sequin.HandlerConfig{}, echo) })
		time.Sleep(time.Second)
		require.NoError(t, run.stop())
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, map[string]headers{"copy.k.0": {"traceparent": "of k.0 copy.k.0 target"}, "copy.k.1": {"traceparent": "of k.1 copy.k.1 target"}}, w.headersIn(t, "target"))
	})
}

func TestBatchTellsWhyABatchLeaves(t *testing.T) {
	for _, row := range []struct {
		reason string
		cfg    sequin.PublisherConfig
		send   func(t *testing.T, w *world, pub *sequin.Publisher)
		first  sequin.BatchInfo
	}{
		{"full", sequin.PublisherConfig{Linger: time.Hour, MaxBatch: 3}, func(t *testing.T, w *world, pub *sequin.Publisher) { sendAll(t, pub, 2); w.sleepAndSend(t, pub) },
			sequin.BatchInfo{Messages: 3, Waited: time.Second}},
		{"bytes", sequin.PublisherConfig{Linger: time.Hour, MaxBatchBytes: 1500}, func(t *testing.T, w *world, pub *sequin.Publisher) {
			require.NoError(t, pub.Send(w.ctx, "a", strings.Repeat("x", 800)))
			require.NoError(t, pub.Send(w.ctx, "b", strings.Repeat("x", 800)))
		}, sequin.BatchInfo{Messages: 1}},
		{"idle", sequin.PublisherConfig{}, func(t *testing.T, w *world, pub *sequin.Publisher) { sendAll(t, pub, 1) }, sequin.BatchInfo{Messages: 1}},
		{"linger", sequin.PublisherConfig{Linger: time.Minute}, func(t *testing.T, w *world, pub *sequin.Publisher) {
			sendAll(t, pub, 2)
			time.Sleep(2 * time.Minute)
		}, sequin.BatchInfo{Messages: 2, Waited: time.Minute}},
		{"flush", sequin.PublisherConfig{Linger: time.Hour}, func(t *testing.T, w *world, pub *sequin.Publisher) {
			sendAll(t, pub, 2)
			time.Sleep(time.Second)
			require.NoError(t, pub.Flush(w.ctx))
		}, sequin.BatchInfo{Messages: 2, Waited: time.Second}},
		{"flush", sequin.PublisherConfig{Linger: time.Hour}, func(t *testing.T, w *world, pub *sequin.Publisher) {
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "a"}))
		}, sequin.BatchInfo{Messages: 1}},
		{"close", sequin.PublisherConfig{Linger: time.Hour}, func(t *testing.T, w *world, pub *sequin.Publisher) { sendAll(t, pub, 2) }, sequin.BatchInfo{Messages: 2}},
	} {
		t.Run(row.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all []sequin.BatchInfo
				row.cfg.Lanes = 1
				w := newWorld(t, sequintest.Config{}, sequin.Config{Hooks: &sequin.Hooks{Batch: func(b sequin.BatchInfo) { all = append(all, b) }}})
				pub := w.orders(t, row.cfg)
				w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal, Count: 3}) // repeats are no new batches
				row.send(t, w, pub)
				require.NoError(t, pub.Close(w.ctx))
				row.first.Stream, row.first.Reason = "orders", row.reason
				require.NotEmpty(t, all)
				require.Positive(t, all[0].Bytes)
				row.first.Bytes = all[0].Bytes
				require.Equal(t, row.first, all[0])
				total := 0
				for _, b := range all {
					total += b.Messages
				}
				require.EqualValues(t, pub.Stats().Sent, total)
			})
		})
	}
}

func (w *world) sleepAndSend(t *testing.T, pub *sequin.Publisher) {
	time.Sleep(time.Second)
	require.NoError(t, pub.Send(w.ctx, "last", ""))
}

// On a server without headers and on one with them. With more lanes Batch may be called several times at once.
func TestAPanicOfSendOrBatchLosesNoMessage(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		synctest.Test(t, func(t *testing.T) {
			calls := [2]int{}
			w := newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{Hooks: &sequin.Hooks{
				Send:  func(context.Context, string, *sequin.Message) { calls[0]++; panic("send") },
				Batch: func(sequin.BatchInfo) { calls[1]++; panic("batch") },
			}})
			pub := w.orders(t, sequin.PublisherConfig{Lanes: 1})
			sendAll(t, pub, 10)
			require.NoError(t, pub.Close(w.ctx))
			require.Len(t, w.stored(t, "orders"), 10)
			require.Equal(t, [2]int{1, 1}, calls)
		})
	}
}
