package sequin_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// pipe is a pipeline from orders to target.
type pipe struct {
	*running
	sub *sequin.Subscriber
	pub *sequin.Publisher
	callLog
}

// copies is a transform that makes one message of each delivery.
func copies(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
	return []sequin.Message{{Key: d.Key, Data: d.Data}}, nil
}

func (w *world) pipe(t *testing.T, sub *sequin.Subscriber, pubCfg sequin.PublisherConfig, cfg sequin.HandlerConfig,
	transform func(context.Context, sequin.Delivery) ([]sequin.Message, error)) *pipe {
	t.Helper()
	_, err := w.client.EnsureStream(w.ctx, "target", sequin.StreamOptions{})
	require.NoError(t, err)
	p := &pipe{sub: sub}
	p.pub, err = w.client.NewPublisher("target", pubCfg)
	require.NoError(t, err)
	cfg.OnError = p.failed
	p.running = w.start(t, func(ctx context.Context) error { return sub.Pipe(ctx, p.pub, cfg, transform) })
	return p
}

// end stops the pipeline and closes its Publisher.
func (p *pipe) end(t *testing.T) {
	t.Helper()
	require.NoError(t, p.stop())
	require.NoError(t, p.pub.Close(t.Context()))
}

// to matches the sends to a stream.
func to(stream string) func(*sequintest.Request) bool {
	return func(r *sequintest.Request) bool { return strings.Contains(r.Path, "/"+stream+"/") }
}

func TestAPipelineAcksADeliveryWhenItsMessagesAreStored(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1000, time.Minute, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Millisecond}) // so that requests hold several messages
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{Workers: 4}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			if d.Data == "7" {
				return nil, nil // no messages: the delivery is acked at once
			}
			return []sequin.Message{{Key: "a." + d.Key, Data: d.Data}, {Key: "b." + d.Key, Data: d.Data}}, nil
		})
		time.Sleep(30 * time.Second)
		p.end(t)
		require.Empty(t, p.reported())
		require.Len(t, w.data(t, "target"), 2*999)
		require.EqualValues(t, 1000, sub.Stats().Acked)
		require.Less(t, w.Count(sequintest.Send), 60, "requests hold several messages")
		w.requireSettled(t, "orders")
	})
}

func TestASlowLaneDelaysOnlyItsOwnAcks(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 200, time.Minute, sequin.SubscriberConfig{})
		slow := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: func(r *sequintest.Request) bool {
			return to("target")(r) && strings.Contains(string(r.Body), `"k.5"`)
		}, Delay: 20 * time.Second})
		p := w.pipe(t, sub, sequin.PublisherConfig{MaxBatch: 10}, sequin.HandlerConfig{}, copies)
		time.Sleep(5 * time.Second)
		acked := sub.Stats().Acked
		require.Greater(t, acked, uint64(100), "three lanes of four")
		require.Less(t, acked, uint64(200))
		slow.Remove()
		time.Sleep(5 * time.Second)
		p.end(t)
		require.EqualValues(t, 200, sub.Stats().Acked)
		w.requireSettled(t, "orders")
	})
}

func TestAPipelineAcksNothingThatIsNotConfirmed(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 50, time.Minute, sequin.SubscriberConfig{})
		lost := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), CutAfter: true}) // stored, but the answer is lost
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, copies)
		time.Sleep(20 * time.Second)
		require.Zero(t, w.Count(sequintest.Ack))
		lost.Remove()
		time.Sleep(10 * time.Second)
		p.end(t)
		require.Len(t, w.data(t, "target"), 50)
		w.requireSettled(t, "orders")
	})
}

func TestAnOutageOfTheTargetPilesUpNoCopies(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 300, 20*time.Second, sequin.SubscriberConfig{})
		outage := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), CutBefore: true})
		dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}
		w.deadStream(t)
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{DeadLetter: dead}, copies)
		most := 0
		for range 600 { // ten minutes, 30 leases
			time.Sleep(time.Second)
			most = max(most, p.pub.Stats().Buffered)
		}
		require.LessOrEqual(t, most, 600, "at most what is redelivered before the next request")
		require.LessOrEqual(t, p.pub.Stats().Buffered, 20)
		for _, err := range p.reported() {
			require.ErrorIs(t, err, sequin.ErrLeaseExpired)
		}
		require.Zero(t, sub.Stats().Acked)
		require.Empty(t, w.data(t, "dead"), "an outage is no fault of a message")

		outage.Remove()
		time.Sleep(2 * time.Minute)
		p.end(t)
		got := w.data(t, "target")
		require.Len(t, got, 300)
		for key, data := range got {
			require.Len(t, data, 1, key)
		}
		w.requireSettled(t, "orders")
	})
}

func TestNoMessageIsLostToATargetThatRefusesEverything(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
				w.deadStream(t)
				gone := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Status: status, Body: `{"summary":"no"}`})
				dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}
				p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{DeadLetter: dead}, copies)
				time.Sleep(10 * time.Minute)
				require.Zero(t, sub.Stats().Acked)
				require.Less(t, gone.Hits(), 200)
				require.NotEmpty(t, p.reported())
				gone.Remove()
				time.Sleep(2 * time.Minute)
				p.end(t)
				require.Len(t, w.data(t, "target"), 100)
				require.Empty(t, w.data(t, "dead"))
				w.requireSettled(t, "orders")
			})
		})
	}
}

func TestAMessageThatTheTargetRefusesBecomesADeadLetter(t *testing.T) {
	for what, transform := range map[string]func(context.Context, sequin.Delivery) ([]sequin.Message, error){
		"by the server": copies,
		"by the Publisher": func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			if d.Key == "k.13" {
				return []sequin.Message{{Key: d.Key, Data: d.Data}, {Key: "not a key", Data: d.Data}}, nil
			}
			return copies(context.Background(), d)
		},
		"by transform": func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			if d.Key == "k.13" {
				return nil, errDown
			}
			return copies(context.Background(), d)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
				w.deadStream(t)
				if what == "by the server" {
					w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"no"}`, Match: func(r *sequintest.Request) bool {
						return to("target")(r) && strings.Contains(string(r.Body), `"k.13"`)
					}})
				}
				dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}
				p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{DeadLetter: dead, BackoffMax: time.Second}, transform)
				time.Sleep(time.Minute)
				p.end(t)
				require.Len(t, w.deadLetters(t), 1)
				require.Equal(t, 3, w.deadLetters(t)["k.13"][0].Attempts)
				require.Len(t, p.reported(), 3)
				got := w.data(t, "target")
				delete(got, "k.13") // the valid message that was sent beside the bad one may be there
				require.Len(t, got, 99)
				w.requireSettled(t, "orders")
			})
		})
	}
}

// The faults are lost and late answers, refusals, and leases that end while a message waits for its request.
func TestAPipelineKeepsTheOrderOfAKeyUnderFaults(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 0, 6*time.Second, sequin.SubscriberConfig{})
		var fail atomic.Int64
		p := w.pipe(t, sub, sequin.PublisherConfig{MaxBatch: 3}, sequin.HandlerConfig{Workers: 5, BackoffMin: 100 * time.Millisecond}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			if fail.Add(1)%7 == 0 {
				return nil, errDown
			}
			time.Sleep(time.Duration(fail.Load()%5) * 10 * time.Millisecond)
			return copies(context.Background(), d)
		})
		for _, f := range []sequintest.Fault{
			{Status: 503, Body: ownRefusal, Skip: 2, Count: 3}, {CutAfter: true, Skip: 5, Count: 4}, {Delay: 7 * time.Second, Skip: 9, Count: 2},
			{CutBefore: true, Skip: 12, Count: 3}, {DelayAfter: 7 * time.Second, Skip: 15, Count: 2},
		} {
			f.Op, f.Match = sequintest.Send, to("target")
			w.Fault(f)
		}
		w.Fault(sequintest.Fault{Op: sequintest.Ack, CutBefore: true, Skip: 3, Count: 3})
		const keys, versions = 5, 40
		for v := range versions {
			for k := range keys {
				_, err := w.client.SendMessage(w.ctx, "orders", fmt.Sprintf("k.%d", k), fmt.Sprintf("%04d", v))
				require.NoError(t, err)
			}
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(3 * time.Minute)
		require.NoError(t, p.stop())
		require.NoError(t, p.pub.Close(w.ctx))

		arrived := map[string][]string{}
		for _, r := range w.Requests(sequintest.Send) {
			if r.Acted && to("target")(&r) {
				for _, m := range r.Messages() {
					arrived[m.Key] = append(arrived[m.Key], m.Data)
				}
			}
		}
		require.Len(t, arrived, keys)
		for key, data := range arrived {
			require.True(t, slices.IsSorted(data), "%s: %v", key, data)
			require.Equal(t, fmt.Sprintf("%04d", versions-1), data[len(data)-1], key)
			if w.mode == server.Documented { // which keeps every version
				require.Len(t, slices.Compact(data), versions, key)
			}
		}
		w.requireSettled(t, "orders")
	})
}

func TestAPipelineStopsWhenItsPublisherIsClosed(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 10, time.Minute, sequin.SubscriberConfig{})
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, copies)
		time.Sleep(5 * time.Second)
		require.NoError(t, p.pub.Close(w.ctx))
		w.publish(t, "more", 10)
		require.ErrorIs(t, p.wait(), sequin.ErrClosed)
		require.Len(t, w.data(t, "target"), 10)
		state, _ := w.Stream("orders")
		require.Empty(t, state.Consumers[0].Outstanding, "available at once to others")
	})
}

func TestAStopWaitsForTheOutputsInFlight(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 20, time.Minute, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Delay: 5 * time.Second})
		p := w.pipe(t, sub, sequin.PublisherConfig{Lanes: 1}, sequin.HandlerConfig{}, copies)
		time.Sleep(time.Second)
		p.end(t)
		require.Len(t, w.data(t, "target"), 20)
		w.requireSettled(t, "orders")
	})
}

func TestOutputsThatAStopLeavesAreNotSentLater(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 20, time.Minute, sequin.SubscriberConfig{DrainTimeout: 2 * time.Second})
		outage := w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), CutBefore: true})
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, copies)
		time.Sleep(time.Second)
		var left *sequin.DrainError
		require.ErrorAs(t, p.stop(), &left)
		require.Equal(t, 20, left.Unsettled+left.Unknown)
		reported := len(p.reported())
		outage.Remove()
		require.NoError(t, p.pub.Close(w.ctx))
		require.Empty(t, w.data(t, "target"), "the deliveries will be redelivered, perhaps to another subscriber")
		require.Len(t, p.reported(), reported)
	})
}

func TestPipeRefusesInvalidArguments(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		sub := w.backlog(t, 0, time.Minute, sequin.SubscriberConfig{})
		pub, err := w.client.NewPublisher("target", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.ErrorIs(t, sub.Pipe(w.ctx, nil, sequin.HandlerConfig{}, copies), sequin.ErrInvalidArgument)
		require.ErrorIs(t, sub.Pipe(w.ctx, pub, sequin.HandlerConfig{}, nil), sequin.ErrInvalidArgument)
		require.ErrorIs(t, sub.Pipe(w.ctx, pub, sequin.HandlerConfig{Workers: -1}, copies), sequin.ErrInvalidConfig)
		sub.Deliveries()
		require.ErrorIs(t, sub.Pipe(w.ctx, pub, sequin.HandlerConfig{}, copies), sequin.ErrBusy)
		require.NoError(t, sub.Close(w.ctx))
	})
}
