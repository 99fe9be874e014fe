package watermillsequin_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/envelope"
	"github.com/sequin-go/sequin/sequintest"
)

// world has a Publisher and a Subscriber at a server in virtual time. A goroutine that one of them leaves fails the test.
type world struct {
	srv    *sequintest.Server
	client *sequin.Client
	pub    *watermillsequin.Publisher
	sub    *watermillsequin.Subscriber
}

func inVirtualTime(t *testing.T, configure func(*watermillsequin.PublisherConfig, *watermillsequin.SubscriberConfig), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		pubCfg := watermillsequin.PublisherConfig{Client: client}
		subCfg := watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "group"}
		configure(&pubCfg, &subCfg)
		pub, err := watermillsequin.NewPublisher(pubCfg, nil)
		require.NoError(t, err)
		sub, err := watermillsequin.NewSubscriber(subCfg, nil)
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, sub.Close())
			require.NoError(t, pub.Close())
		})
		test(t, &world{srv: srv, client: client, pub: pub, sub: sub})
	})
}

func defaults(*watermillsequin.PublisherConfig, *watermillsequin.SubscriberConfig) {}

// subscribed returns the channel of a topic.
func (w *world) subscribed(t *testing.T, ctx context.Context, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := w.sub.Subscribe(ctx, topic)
	require.NoError(t, err)
	return messages
}

// next returns the next message of a channel.
func next(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, open := <-messages:
		require.True(t, open)
		return m
	case <-time.After(time.Hour):
		require.FailNow(t, "no message came")
		return nil
	}
}

func TestAMessageArrivesAsItWasPublished(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		for _, payload := range []string{`{"qty":  4}`, "plain", "\xff\x00", ""} {
			sent := message.NewMessage("id-1", []byte(payload))
			sent.Metadata.Set("tenant", "7")
			require.NoError(t, w.pub.Publish("topic", sent))
			got := next(t, messages)
			require.True(t, got.Equals(sent), "%q", payload)
			got.Metadata.Set("may be", "changed")
			require.True(t, got.Ack())
		}
	})
}

func TestAMessageOfAnotherProgramIsAPayload(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		_, err := w.client.SendMessage(t.Context(), "topic", "orders.1", `{"qty":4}`)
		require.NoError(t, err)
		got := next(t, messages)
		require.Equal(t, "orders.1@1", got.UUID)
		require.Equal(t, `{"qty":4}`, string(got.Payload))
		d, ok := watermillsequin.DeliveryFromCtx(got.Context())
		require.True(t, ok)
		require.Equal(t, "orders.1", d.Key)
		got.Metadata.Set("may be", "set")
		got.Ack()
	})
}

// TestAnEnvelopeThatCannotBeReadIsADeadLetter because no other delivery would help.
func TestAnEnvelopeThatCannotBeReadIsADeadLetter(t *testing.T) {
	var failures []error
	dead := func(_ *watermillsequin.PublisherConfig, cfg *watermillsequin.SubscriberConfig) {
		cfg.Handler.DeadLetter = &sequin.DeadLetter{Stream: "dead"}
		cfg.Handler.OnError = func(_ sequin.Delivery, err error) { failures = append(failures, err) }
	}
	inVirtualTime(t, dead, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		_, err := w.client.SendMessages(t.Context(), "topic", []sequin.Message{{Key: "bad", Data: `{"envelope":2}`}, {Key: "good", Data: `4`}})
		require.NoError(t, err)
		got := next(t, messages)
		require.Equal(t, "4", string(got.Payload))
		got.Ack()
		synctest.Wait()
		list, err := w.client.ListMessages(t.Context(), "dead", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Len(t, failures, 1)
		require.ErrorIs(t, failures[0], envelope.ErrInvalid)
	})
}

func TestANackedMessageComesAgainAfterTheBackoff(t *testing.T) {
	slow := func(_ *watermillsequin.PublisherConfig, cfg *watermillsequin.SubscriberConfig) {
		cfg.Handler.BackoffMin, cfg.Handler.BackoffMax = 10*time.Second, 20*time.Second
	}
	inVirtualTime(t, slow, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", []byte("a"))))
		first := next(t, messages)
		begin := time.Now()
		require.True(t, first.Nack())
		again := next(t, messages)
		require.GreaterOrEqual(t, time.Since(begin), 5*time.Second)
		require.Equal(t, "1", again.UUID)
		again.Ack()
	})
}

func TestTheContextOfAMessage(t *testing.T) {
	type key struct{}
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		defer cancel()
		messages := w.subscribed(t, ctx, "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", nil), message.NewMessage("2", nil), message.NewMessage("3", nil)))

		acked := next(t, messages)
		require.Equal(t, "value", acked.Context().Value(key{}))
		require.NoError(t, acked.Context().Err())
		acked.Ack()
		<-acked.Context().Done()

		nacked := next(t, messages)
		nacked.Nack()
		<-nacked.Context().Done()

		kept := next(t, messages)
		begin := time.Now()
		cancel()
		synctest.Wait()
		require.NoError(t, kept.Context().Err(), "what is being handled may finish")
		<-kept.Context().Done()
		require.Equal(t, 10*time.Second, time.Since(begin), "the default of DrainTimeout")
	})
}

// TestAMessageThatNobodyTookIsAvailableAtOnce after the end of Subscribe's ctx, to another Subscriber of the group.
func TestAMessageThatNobodyTookIsAvailableAtOnce(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		ignored := w.subscribed(t, ctx, "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", nil), message.NewMessage("2", nil)))
		time.Sleep(time.Second) // until the messages are leased
		begin := time.Now()
		cancel()
		messages := w.subscribed(t, t.Context(), "topic")
		for range 2 {
			next(t, messages).Ack()
		}
		require.Less(t, time.Since(begin), time.Second, "of a lease of 30 s")
		_, open := <-ignored
		require.False(t, open)
	})
}

// TestAMessageThatNobodyTakesIsReturnedBeforeItsLeaseEnds so that another Subscriber may get it.
func TestAMessageThatNobodyTakesIsReturnedBeforeItsLeaseEnds(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		w.subscribed(t, t.Context(), "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", nil)))
		time.Sleep(20 * time.Second) // of a lease of 30 s
		peeked, err := w.client.PeekMessages(t.Context(), "topic", "group", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, peeked, 1)
		require.Equal(t, 1, peeked[0].Info.DeliverCount, "that nobody took it was no attempt")
		require.Equal(t, 1, w.srv.Count(sequintest.Nack))
		times := 0
		for _, r := range w.srv.Requests(sequintest.Receive) {
			times += len(r.Deliveries())
		}
		require.Equal(t, 2, times, "it was delivered again")
	})
}

func TestMessagesOfAKeyAreHandledOneAfterTheOther(t *testing.T) {
	keyed := func(pub *watermillsequin.PublisherConfig, sub *watermillsequin.SubscriberConfig) {
		pub.Marshaler = watermillsequin.EnvelopeMarshaler{Key: func(_ string, m *message.Message) string { return m.Metadata.Get("order") }}
		sub.Handler.Workers = 10
	}
	inVirtualTime(t, keyed, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		for _, id := range []string{"a1", "a2", "b1"} {
			m := message.NewMessage(id, nil)
			m.Metadata.Set("order", id[:1])
			require.NoError(t, w.pub.Publish("topic", m))
		}
		out := map[string]*message.Message{}
		for range 2 {
			m := next(t, messages)
			out[m.UUID] = m
		}
		require.Contains(t, out, "a1")
		require.Contains(t, out, "b1")
		time.Sleep(time.Second)
		require.Empty(t, messages, "a2 waits for a1")
		out["a1"].Ack()
		a2 := next(t, messages)
		require.Equal(t, "a2", a2.UUID)
		a2.Ack()
		out["b1"].Ack()
	})
}

func TestATopicKeepsItsOrderByDefault(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		var batch []*message.Message
		for i := range 5_000 {
			batch = append(batch, message.NewMessage(strconv.Itoa(i), nil))
		}
		require.NoError(t, w.pub.Publish("topic", batch...))
		var receives atomic.Int64 // every other answer comes late
		late := func(*sequintest.Request) bool { return receives.Add(1)%2 == 0 }
		w.srv.Fault(sequintest.Fault{Op: sequintest.Receive, Match: late, DelayAfter: 100 * time.Millisecond})
		messages := w.subscribed(t, t.Context(), "topic")
		for i := range 5_000 {
			m := next(t, messages)
			require.Equal(t, strconv.Itoa(i), m.UUID)
			m.Ack()
		}
	})
}

func TestAGroupIsAConsumer(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		require.NoError(t, w.sub.SubscribeInitialize("topic"))
		require.NoError(t, w.sub.SubscribeInitialize("topic"), "it exists")
		k, err := w.client.GetConsumer(t.Context(), "topic", "group")
		require.NoError(t, err)
		require.Equal(t, ">", k.Filter)
		_, err = w.client.CreateConsumer(t.Context(), "topic", "narrow", "a.>", sequin.ConsumerOptions{})
		require.NoError(t, err)
		narrow, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: w.client, ConsumerGroup: "narrow"}, nil)
		require.NoError(t, err)
		require.NoError(t, narrow.SubscribeInitialize("topic"), "the filter of a consumer that exists is accepted")
	})
}

func TestNothingIsCreatedIfThatIsNotWanted(t *testing.T) {
	exist := func(pub *watermillsequin.PublisherConfig, sub *watermillsequin.SubscriberConfig) {
		pub.DoNotCreate, sub.DoNotCreate = true, true
	}
	inVirtualTime(t, exist, func(t *testing.T, w *world) {
		require.ErrorIs(t, w.pub.Publish("topic", message.NewMessage("1", nil)), sequin.ErrNotFound)
		_, err := w.sub.Subscribe(t.Context(), "topic")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		list, err := w.client.ListStreams(t.Context())
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

func TestPublishStopsAtTheFirstMessageThatIsNotAccepted(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		bad := message.NewMessage("2", nil)
		bad.Metadata.Set("a", "\xff")
		err := w.pub.Publish("topic", message.NewMessage("1", nil), bad, message.NewMessage("3", nil))
		require.ErrorIs(t, err, envelope.ErrInvalid)
		require.ErrorContains(t, err, "message 2: ")
		list, err := w.client.ListMessages(t.Context(), "topic", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, list, 1)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		late := message.NewMessageWithContext(ctx, "4", nil)
		require.ErrorIs(t, w.pub.Publish("topic", late), context.Canceled)
		require.NoError(t, w.pub.Publish("topic"))
	})
}

func TestWhatIsClosedSaysSo(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", nil)))
		for range 2 {
			require.NoError(t, w.pub.Close())
			require.NoError(t, w.sub.Close())
		}
		_, open := <-messages
		require.False(t, open)
		err := w.pub.Publish("topic", message.NewMessage("2", nil))
		require.ErrorIs(t, err, watermillsequin.ErrClosed)
		require.ErrorIs(t, err, sequin.ErrClosed)
		require.ErrorIs(t, w.pub.Publish("another topic", message.NewMessage("2", nil)), watermillsequin.ErrClosed)
		_, err = w.sub.Subscribe(t.Context(), "topic")
		require.ErrorIs(t, err, watermillsequin.ErrClosed)
	})
}

func TestABadConfigIsRefused(t *testing.T) {
	client, err := sequin.NewClient(sequin.Config{})
	require.NoError(t, err)
	for name, newOne := range map[string]func() error{
		"Client": func() error {
			_, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{}, nil)
			return err
		},
		"CloseTimeout": func() error {
			_, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client, CloseTimeout: -1}, nil)
			return err
		},
		"Lanes": func() error {
			_, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client, Publisher: sequin.PublisherConfig{Lanes: -1}}, nil)
			return err
		},
		"SubscriberConfig.Client": func() error {
			_, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{ConsumerGroup: "g"}, nil)
			return err
		},
		"ConsumerGroup": func() error {
			_, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: client}, nil)
			return err
		},
		"MaxInFlight": func() error {
			bad := sequin.SubscriberConfig{MaxInFlight: -1}
			_, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "g", Subscriber: bad}, nil)
			return err
		},
	} {
		err := newOne()
		require.ErrorIs(t, err, sequin.ErrInvalidConfig, name)
		require.ErrorContains(t, err, name)
	}
}

func TestSubscribeTellsThatTheHandlerCannotWork(t *testing.T) {
	for name, handler := range map[string]sequin.HandlerConfig{
		"Workers is -1":     {Workers: -1},
		"Workers is 20000":  {Workers: 20_000}, // more than MaxInFlight
		"BackoffMin":        {BackoffMin: -1},
		"MaxHandling":       {MaxHandling: -1},
		"MaxAttempts is -1": {DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: -1}},
		"DeadLetter.Stream": {DeadLetter: &sequin.DeadLetter{Stream: "topic"}},
	} {
		bad := func(_ *watermillsequin.PublisherConfig, cfg *watermillsequin.SubscriberConfig) { cfg.Handler = handler }
		inVirtualTime(t, bad, func(t *testing.T, w *world) {
			messages, err := w.sub.Subscribe(t.Context(), "topic")
			require.ErrorIs(t, err, sequin.ErrInvalidConfig)
			require.ErrorContains(t, err, name)
			require.Nil(t, messages)
		})
	}
	missing := func(_ *watermillsequin.PublisherConfig, cfg *watermillsequin.SubscriberConfig) {
		cfg.DoNotCreate, cfg.Handler.DeadLetter = true, &sequin.DeadLetter{Stream: "dead"}
	}
	inVirtualTime(t, missing, func(t *testing.T, w *world) {
		_, err := w.client.CreateStream(t.Context(), "topic", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = w.client.CreateConsumer(t.Context(), "topic", "group", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		_, err = w.sub.Subscribe(t.Context(), "topic")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorContains(t, err, "dead")
	})
}

// TestAnEndOfTheContextDuringSubscribeIsNoRefusal ends the context when the handlers are about to start, or have just started.
func TestAnEndOfTheContextDuringSubscribeIsNoRefusal(t *testing.T) {
	for range 50 {
		inVirtualTime(t, defaults, func(t *testing.T, w *world) {
			ctx, cancel := context.WithCancel(t.Context())
			w.srv.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 1, Match: func(*sequintest.Request) bool { cancel(); return true }})
			messages, err := w.sub.Subscribe(ctx, "topic")
			require.NoError(t, err)
			_, open := <-messages
			require.False(t, open)
		})
	}
}

// TestAConsumerThatIsDeletedDuringSubscribeIsNoRefusal has handlers that end before Subscribe knows that they have started.
func TestAConsumerThatIsDeletedDuringSubscribeIsNoRefusal(t *testing.T) {
	dead := func(_ *watermillsequin.PublisherConfig, cfg *watermillsequin.SubscriberConfig) {
		cfg.Handler.DeadLetter = &sequin.DeadLetter{Stream: "dead"}
	}
	inVirtualTime(t, dead, func(t *testing.T, w *world) {
		require.NoError(t, w.sub.SubscribeInitialize("topic"))
		looksUp := func(r *sequintest.Request) bool { return strings.HasSuffix(r.Path, "/dead") }
		w.srv.Fault(sequintest.Fault{Op: sequintest.GetStream, Match: looksUp, Skip: 1, Count: 1, Delay: time.Second})
		time.AfterFunc(100*time.Millisecond, func() { _ = w.client.DeleteConsumer(context.Background(), "topic", "group") })
		messages, err := w.sub.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		_, open := <-messages
		require.False(t, open)
	})
}

func TestFailuresAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		logger := watermill.NewCaptureLogger()
		sub, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "group"}, logger)
		require.NoError(t, err)
		messages, err := sub.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		require.NoError(t, client.DeleteConsumer(t.Context(), "topic", "group"))
		_, open := <-messages
		require.False(t, open)
		require.NoError(t, sub.Close())
		captured := logger.Captured()[watermill.ErrorLogLevel]
		require.Len(t, captured, 1)
		require.True(t, errors.Is(captured[0].Err, sequin.ErrNotFound))
		require.Equal(t, "topic", captured[0].Fields["topic"])
	})
}

// TestCloseTakesNoTimeWhenNothingIsOut closes at the worst moment: a receive has just begun.
func TestCloseTakesNoTimeWhenNothingIsOut(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		messages := w.subscribed(t, t.Context(), "topic")
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("1", nil)))
		next(t, messages).Ack()
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, w.sub.Close())
		require.Zero(t, time.Since(begin))
	})
}

// TestPublishTakesOneRoundTrip publishes to an idle topic, of which a first message would leave alone.
func TestPublishTakesOneRoundTrip(t *testing.T) {
	inVirtualTime(t, defaults, func(t *testing.T, w *world) {
		require.NoError(t, w.pub.Publish("topic", message.NewMessage("0", nil)))
		w.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 50 * time.Millisecond})
		var batch []*message.Message
		for i := range 500 {
			batch = append(batch, message.NewMessage(strconv.Itoa(i), nil))
		}
		before, begin := w.srv.Count(sequintest.Send), time.Now()
		require.NoError(t, w.pub.Publish("topic", batch...))
		require.Equal(t, 1, w.srv.Count(sequintest.Send)-before)
		require.Equal(t, 50*time.Millisecond, time.Since(begin))
	})
}
