package sequinpubsub

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/envelope"
	"github.com/sequin-go/sequin/sequintest"
)

// world has the drivers of a topic and a subscription at a server in virtual time. A goroutine that one of them leaves fails the
// test. The CDK itself is not part of it, because it leaves goroutines: the conformance tests use it.
type world struct {
	srv    *sequintest.Server
	client *sequin.Client
	topic  *topic
	sub    *subscription
}

func inVirtualTime(t *testing.T, key string, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		topic, _, err := newTopic(client, "orders", &TopicOptions{KeyName: key})
		require.NoError(t, err)
		sub, _, err := newSubscription(client, "orders", "billing", &SubscriptionOptions{KeyName: key})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, topic.Close())
			require.NoError(t, sub.Close())
		})
		test(t, &world{srv, client, topic, sub})
	})
}

// send sends one message.
func (w *world) send(m *driver.Message) error {
	return w.topic.SendBatch(context.Background(), []*driver.Message{m})
}

// receive returns the next message.
func (w *world) receive(t *testing.T) *driver.Message {
	t.Helper()
	for range 3_600 { // receives wait for up to a second each
		ms, err := w.sub.ReceiveBatch(context.Background(), 1)
		require.NoError(t, err)
		if len(ms) > 0 {
			return ms[0]
		}
	}
	require.FailNow(t, "no message came")
	return nil
}

func (w *world) ack(t *testing.T, m *driver.Message) {
	t.Helper()
	require.NoError(t, w.sub.SendAcks(context.Background(), []driver.AckID{m.AckID}))
}

// state returns how many messages the consumer has that are available, and that are leased.
func (w *world) state(t *testing.T) (available, leased int) {
	t.Helper()
	synctest.Wait()
	stream, ok := w.srv.Stream("orders")
	require.True(t, ok)
	return stream.Consumers[0].Available, len(stream.Consumers[0].Outstanding)
}

func TestTheKeyIsAnEntryOfTheMetadata(t *testing.T) {
	inVirtualTime(t, "key", func(t *testing.T, w *world) {
		sent := &driver.Message{Body: []byte(`{"qty":  4}`), Metadata: map[string]string{"key": "orders.1", "tenant": "7"}}
		require.NoError(t, w.send(sent))
		require.Equal(t, map[string]string{"key": "orders.1", "tenant": "7"}, sent.Metadata, "it is the program's")
		stored, err := w.client.GetMessage(t.Context(), "orders", "orders.1")
		require.NoError(t, err)
		require.Equal(t, `{"envelope":1,"metadata":{"tenant":"7"},"payload":{"qty":  4}}`, stored.Data)
		got := w.receive(t)
		require.Equal(t, sent.Metadata, got.Metadata)
		require.Equal(t, sent.Body, got.Body)
		require.Equal(t, "orders.1@1", got.LoggableID)
		w.ack(t, got)
		require.NoError(t, w.send(&driver.Message{}))
		got = w.receive(t)
		require.Len(t, got.Metadata["key"], 36, "a UUID")
		w.ack(t, got)
	})
}

func TestMessagesOfOtherProgramsAreTheBody(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		for _, data := range []string{`{"qty":4}`, `{"envelope":2}`, `words`} {
			_, err := w.client.SendMessage(t.Context(), "orders", "k", data)
			require.NoError(t, err)
			got := w.receive(t)
			require.Equal(t, data, string(got.Body))
			require.Empty(t, got.Metadata)
			w.ack(t, got)
		}
	})
}

func TestShutdownConfirmsAcksAndReturnsTheRest(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		for i := range 50 {
			_, err := w.client.SendMessage(t.Context(), "orders", fmt.Sprint("k.", i), "x")
			require.NoError(t, err)
		}
		for range 10 {
			w.ack(t, w.receive(t))
		}
		held, err := w.sub.ReceiveBatch(t.Context(), 5) // and never settled
		require.NoError(t, err)
		require.Len(t, held, 5)
		begin := time.Now()
		require.NoError(t, w.sub.Close())
		require.Less(t, time.Since(begin), 5*time.Second)
		available, leased := w.state(t)
		require.Equal(t, 40, available)
		require.Zero(t, leased)
		w.ack(t, held[0]) // is too late, and no error
		_, err = w.sub.ReceiveBatch(t.Context(), 1)
		require.ErrorIs(t, err, sequin.ErrClosed)
	})
}

func TestANackMakesAMessageAvailableAtOnce(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		require.NoError(t, w.send(&driver.Message{Body: []byte("a")}))
		begin := time.Now()
		require.NoError(t, w.sub.SendNacks(t.Context(), []driver.AckID{w.receive(t).AckID}))
		again := w.receive(t)
		require.Less(t, time.Since(begin), time.Second)
		w.ack(t, again)
	})
}

func TestAnAckThatIsLateIsNoError(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		require.NoError(t, w.send(&driver.Message{Body: []byte("a")}))
		late := w.receive(t)
		time.Sleep(time.Minute)
		w.ack(t, late)
		synctest.Wait()
		w.ack(t, w.receive(t))
	})
}

func TestAnOutageIsWaitedOut(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		outage := w.srv.Fault(sequintest.Fault{CutBefore: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := w.topic.SendBatch(ctx, []*driver.Message{{Body: []byte("a")}})
		require.Equal(t, gcerrors.DeadlineExceeded, errorCode(err), "%v", err)
		_, err = w.sub.ReceiveBatch(t.Context(), 1)
		require.True(t, w.sub.IsRetryable(err), "%v", err)
		_, err = w.sub.ReceiveBatch(ctx, 1)
		require.Equal(t, gcerrors.DeadlineExceeded, errorCode(err), "%v", err)
		outage.Remove()
		got := w.receive(t)
		require.Equal(t, "a", string(got.Body))
		w.ack(t, got)
	})
}

func TestAReceiveThatRunsBesideShutdownReturnsWhatItTakes(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		w.srv.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Delay: 3 * time.Second, Count: 1})
		_, err := w.client.SendMessage(t.Context(), "orders", "k", "x")
		require.NoError(t, err)
		received := make(chan error)
		go func() {
			_, err := w.sub.ReceiveBatch(context.Background(), 1)
			received <- err
		}()
		synctest.Wait() // it subscribes
		require.NoError(t, w.sub.Close())
		require.Error(t, <-received)
		time.Sleep(10 * time.Second)
		available, leased := w.state(t)
		require.Equal(t, 1, available)
		require.Zero(t, leased)
	})
}

func TestErrorCodes(t *testing.T) {
	status := func(code int, foreign bool) error { return &sequin.APIError{Status: code, Foreign: foreign} }
	for _, c := range []struct {
		err  error
		want gcerrors.ErrorCode
	}{
		{status(404, false), gcerrors.NotFound},
		{status(404, true), gcerrors.Unknown},
		{status(401, false), gcerrors.PermissionDenied},
		{status(403, false), gcerrors.PermissionDenied},
		{status(409, false), gcerrors.ResourceExhausted},
		{status(429, false), gcerrors.ResourceExhausted},
		{status(422, false), gcerrors.InvalidArgument},
		{status(418, false), gcerrors.InvalidArgument},
		{status(413, false), gcerrors.InvalidArgument},
		{status(408, false), gcerrors.Unknown},
		{status(500, false), gcerrors.Unknown},
		{sequin.ErrInvalidConfig, gcerrors.InvalidArgument},
		{sequin.ErrInvalidKey, gcerrors.InvalidArgument},
		{sequin.ErrInvalidData, gcerrors.InvalidArgument},
		{fmt.Errorf("wrapped: %w", envelope.ErrInvalid), gcerrors.InvalidArgument},
		{sequin.ErrClosed, gcerrors.FailedPrecondition},
		{errors.Join(context.Canceled, sequin.ErrUnreachable), gcerrors.Canceled},
		{context.DeadlineExceeded, gcerrors.DeadlineExceeded},
		{errors.New("other"), gcerrors.Unknown},
	} {
		require.Equal(t, c.want, errorCode(c.err), "%v", c.err)
	}
}

func TestBadInputHasACode(t *testing.T) {
	inVirtualTime(t, "key", func(t *testing.T, w *world) {
		for _, m := range []*driver.Message{
			{Metadata: map[string]string{"key": "two words"}},
			{Metadata: map[string]string{"key": ""}},
			{Body: make([]byte, 9_000_000)},
		} {
			require.Equal(t, gcerrors.InvalidArgument, errorCode(w.send(m)))
		}
		err := w.send(&driver.Message{BeforeSend: func(func(any) bool) error { return errors.New("no") }})
		require.ErrorContains(t, err, "no")
	})
}

func TestBadOptionsAreRefused(t *testing.T) {
	client, err := sequin.NewClient(sequin.Config{})
	require.NoError(t, err)
	negative := batcher.Options{MaxHandlers: -1}
	for _, open := range []func() error{
		func() error { _, err := OpenTopic(nil, "s", nil); return err },
		func() error { _, err := OpenTopic(client, "s", &TopicOptions{BatcherOptions: negative}); return err },
		func() error {
			_, err := OpenTopic(client, "s", &TopicOptions{BatcherOptions: batcher.Options{MinBatchSize: 2_000}})
			return err
		},
		func() error {
			_, err := OpenTopic(client, "s", &TopicOptions{Publisher: sequin.PublisherConfig{MaxBatch: -1}})
			return err
		},
		func() error { _, err := OpenSubscription(nil, "s", "c", nil); return err },
		func() error {
			_, err := OpenSubscription(client, "s", "c", &SubscriptionOptions{ReceiveBatcherOptions: negative})
			return err
		},
		func() error {
			_, err := OpenSubscription(client, "s", "c", &SubscriptionOptions{AckBatcherOptions: negative})
			return err
		},
	} {
		require.ErrorIs(t, open(), sequin.ErrInvalidConfig)
	}
	for field, bad := range map[string]sequin.SubscriberConfig{
		"MaxInFlight": {MaxInFlight: -1}, "Pollers": {Pollers: -1}, "DrainTimeout": {DrainTimeout: -1}, "WaitFor": {WaitFor: 1},
	} {
		_, err := OpenSubscription(client, "s", "c", &SubscriptionOptions{Subscriber: bad})
		require.ErrorIs(t, err, sequin.ErrInvalidConfig, field)
		require.ErrorContains(t, err, field)
	}
	_, err = OpenTopic(client, "s", &TopicOptions{Publisher: sequin.PublisherConfig{Lanes: -1}})
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
	require.ErrorContains(t, err, "PublisherConfig.Lanes is -1")
}

func TestAnEmptyNameIsRefused(t *testing.T) {
	client, err := sequin.NewClient(sequin.Config{})
	require.NoError(t, err)
	for _, open := range []func() error{
		func() error { _, err := OpenTopic(client, "", nil); return err },
		func() error { _, err := OpenSubscription(client, "", "c", nil); return err },
		func() error { _, err := OpenSubscription(client, "s", "", nil); return err },
	} {
		require.ErrorIs(t, open(), sequin.ErrInvalidArgument)
	}
}

// TestAConfigThatDoesNotFitTheConsumerHasACode opens what only the consumer shows to be wrong.
func TestAConfigThatDoesNotFitTheConsumerHasACode(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		sub, _, err := newSubscription(w.client, "orders", "billing", &SubscriptionOptions{Subscriber: sequin.SubscriberConfig{LeaseMargin: time.Hour}})
		require.NoError(t, err)
		_, err = sub.ReceiveBatch(t.Context(), 1)
		require.Equal(t, gcerrors.InvalidArgument, errorCode(err))
		require.False(t, sub.IsRetryable(err))
		require.NoError(t, sub.Close())
	})
}

func TestURLs(t *testing.T) {
	ctx := t.Context()
	t.Setenv("SEQUIN_URL", "http://127.0.0.1:1")
	for url, wrong := range map[string]string{
		"sequin://orders":                       "",
		"sequin://orders?key_name=key":          "",
		"sequin://":                             "the name of the stream is missing",
		"sequin://orders/more":                  "only the name of the stream",
		"sequin://orders:80":                    "only the name of the stream",
		"sequin://orders:":                      "only the name of the stream",
		"sequin://[::1]":                        "only the name of the stream",
		"sequin://me@orders":                    "only the name of the stream",
		"sequin://orders?consumer=billing":      `the parameter "consumer" is not known`,
		"sequin://orders?key_name=":             "the parameter key_name is empty",
		"sequin://orders?key_name=a&key_name=b": "the parameter key_name is repeated",
		"sequin://orders?key_name=a;b":          "invalid semicolon",
	} {
		topic, err := pubsub.OpenTopic(ctx, url)
		if wrong != "" {
			require.ErrorContains(t, err, wrong, url)
			continue
		}
		require.NoError(t, err, url)
		require.NoError(t, topic.Shutdown(ctx))
	}
	for url, wrong := range map[string]string{
		"sequin://orders?consumer=billing":              "",
		"sequin://orders?consumer=billing&key_name=key": "",
		"sequin://orders":                               "the parameter consumer is missing",
		"sequin://orders?consumer=":                     "the parameter consumer is empty",
		"sequin://orders?consumer=a&other=b":            `the parameter "other" is not known`,
		"sequin://?consumer=a":                          "the name of the stream is missing",
	} {
		sub, err := pubsub.OpenSubscription(ctx, url)
		if wrong != "" {
			require.ErrorContains(t, err, wrong, url)
			continue
		}
		require.NoError(t, err, url)
		require.NoError(t, sub.Shutdown(ctx))
	}
	t.Setenv("SEQUIN_URL", "no url")
	_, err := pubsub.OpenTopic(ctx, "sequin://orders")
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
}

func TestABatchTakesOneRoundTrip(t *testing.T) {
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		w.srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 50 * time.Millisecond})
		batch := make([]*driver.Message, 500)
		for i := range batch {
			batch[i] = &driver.Message{Body: []byte(fmt.Sprint(i))}
		}
		begin := time.Now()
		require.NoError(t, w.topic.SendBatch(t.Context(), batch))
		require.Equal(t, 1, w.srv.Count(sequintest.Send), "an idle Publisher would send the first message alone")
		require.Equal(t, 50*time.Millisecond, time.Since(begin))
	})
}

// A batch has messages that are refused, one of them for its headers only.
func TestAfterSendIsCalledForWhatIsStored(t *testing.T) {
	inVirtualTime(t, "key", func(t *testing.T, w *world) {
		var stored []int
		message := func(i int, key string, headers map[string]string) *driver.Message {
			return &driver.Message{
				Metadata: map[string]string{"key": key},
				BeforeSend: func(as func(any) bool) error {
					var m *sequin.Message
					require.True(t, as(&m))
					m.Headers = headers
					return nil
				},
				AfterSend: func(func(any) bool) error { stored = append(stored, i); return nil },
			}
		}
		err := w.topic.SendBatch(t.Context(), []*driver.Message{
			message(0, "a", nil), message(1, "two words", nil), message(2, "a", map[string]string{"two words": "x"}), message(3, "b", nil),
		})
		require.Equal(t, gcerrors.InvalidArgument, errorCode(err))
		require.Equal(t, []int{0, 3}, stored)
		_, err = w.client.GetMessage(t.Context(), "orders", "b")
		require.NoError(t, err)

		w.srv.Down()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = w.topic.SendBatch(ctx, []*driver.Message{message(4, "c", nil)})
		require.Equal(t, gcerrors.DeadlineExceeded, errorCode(err))
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.Equal(t, []int{0, 3}, stored)
		w.srv.Up()
		require.NoError(t, w.topic.pub.Flush(t.Context()))
	})
}

func TestAHandlerForEachLane(t *testing.T) {
	client, err := sequin.NewClient(sequin.Config{})
	require.NoError(t, err)
	for lanes, handlers := range map[int]int{0: 1, 4: 4} {
		topic, batches, err := newTopic(client, "orders", &TopicOptions{Publisher: sequin.PublisherConfig{Lanes: lanes}})
		require.NoError(t, err)
		require.Equal(t, handlers, batches.MaxHandlers)
		require.NoError(t, topic.Close())
	}
}

// A program may hold more messages than one receive returns.
func TestAProgramMayHoldManyMessages(t *testing.T) {
	const messages = 2500
	inVirtualTime(t, "", func(t *testing.T, w *world) {
		var all []*driver.Message
		for range messages {
			all = append(all, &driver.Message{Body: []byte("x")})
		}
		require.NoError(t, w.topic.SendBatch(t.Context(), all))
		held := map[string]bool{}
		for range messages {
			m := w.receive(t)
			require.False(t, held[m.LoggableID], "it came again, in the place of another one")
			held[m.LoggableID] = true
		}
	})
}

func TestAMessageWithoutAKeyGetsAUUID(t *testing.T) {
	var sent [2]sequin.Message
	for i := range sent {
		require.NoError(t, new(topic).encode(&driver.Message{}, &sent[i]))
		key, err := uuid.Parse(sent[i].Key)
		require.NoError(t, err)
		require.Equal(t, []any{uuid.Version(4), uuid.RFC4122}, []any{key.Version(), key.Variant()})
	}
	require.NotEqual(t, sent[0].Key, sent[1].Key)
}
