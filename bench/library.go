package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
)

// settings are the configs of the library in one measurement. The zero value stands for the defaults.
type settings struct {
	publisher  sequin.PublisherConfig
	subscriber sequin.SubscriberConfig
}

func newClient(url string) (*sequin.Client, error) {
	return sequin.NewClient(sequin.Config{BaseURL: url})
}

// publish sends n messages with one producer. The time ends when Close has returned.
func (s settings) publish(ctx context.Context, url string, n, size int) (time.Duration, error) {
	return s.send(ctx, url, slices.Values(samples(n, size, false)))
}

func (s settings) send(ctx context.Context, url string, all iter.Seq[sample]) (took time.Duration, err error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	pub, err := client.NewPublisher("stream", s.publisher)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for m := range all {
		if err := pub.Send(ctx, m.key, m.data); err != nil {
			return 0, errors.Join(err, pub.Close(ctx))
		}
	}
	err = pub.Close(ctx)
	return time.Since(began), err
}

// sample is a message to send.
type sample struct {
	key, data string
	bytes     []byte // data
}

// samples returns n messages of a size. They are made before the clock starts, for every contender. For a stream with one
// message per key, half of them replace another, with other data, so that they have to be stored.
func samples(n, size int, keyed bool) []sample {
	all := make([]sample, n)
	first, second := payload(size), "+"+payload(size)[1:]
	a, b := []byte(first), []byte(second)
	for i := range all {
		if keyed && i >= n/2 {
			all[i] = sample{key(i - n/2), second, b}
		} else {
			all[i] = sample{key(i), first, a}
		}
	}
	return all
}

// consume ranges over n messages and acks each. The time ends when the server has confirmed the last ack, as JetStream's
// does. It does not include Close, which may have to wait for a receive that has just been sent.
func (s settings) consume(ctx context.Context, url string, n, _ int) (took time.Duration, err error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	began := time.Now()
	sub, err := client.Subscribe(ctx, "stream", "consumer", s.subscriber)
	if err != nil {
		return 0, err
	}
	return ackAll(ctx, began, sub, n, func(sequin.Delivery) error { return nil })
}

// ackAll handles and acks n messages of a Subscriber, and closes it. The time ends when the last ack is confirmed.
func ackAll(ctx context.Context, began time.Time, sub *sequin.Subscriber, n int, handle func(sequin.Delivery) error) (took time.Duration, err error) {
	defer func() { err = errors.Join(err, sub.Close(ctx)) }()
	got := 0
	for d := range sub.Deliveries() {
		if err := errors.Join(handle(d), d.Ack()); err != nil {
			return 0, err
		}
		if got++; got == n {
			break
		}
	}
	if got < n {
		return 0, fmt.Errorf("the channel closed after %d of %d messages: %w", got, n, cmp.Or(sub.Err(), ctx.Err()))
	}
	for sub.Stats().Acked < uint64(n) && ctx.Err() == nil {
		time.Sleep(20 * time.Microsecond)
	}
	return time.Since(began), ctx.Err()
}

// both publishes and consumes at the same time, until the last message is acked.
func (s settings) both(ctx context.Context, url string, n, size int) (time.Duration, error) {
	return atOnce(ctx,
		func(ctx context.Context) error { _, err := s.publish(ctx, url, n, size); return err },
		func(ctx context.Context) error { _, err := s.consume(ctx, url, n, size); return err })
}

// atOnce runs a publish and a consume at the same time. It ends the consume when the publish has failed, because the
// messages that it waits for do not come.
func atOnce(ctx context.Context, publish, consume func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	published := make(chan error, 1)
	go func() {
		err := publish(ctx)
		if err != nil {
			cancel()
		}
		published <- err
	}()
	consumed := consume(ctx)
	if consumed != nil {
		cancel()
	}
	if err := <-published; err != nil {
		return 0, err
	}
	return time.Since(began), consumed
}

// publishOneByOne sends each message in a request of its own, as with an SDK that has only requests and responses.
func publishOneByOne(ctx context.Context, url string, n, size int) (time.Duration, error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	all := samples(n, size, false)
	began := time.Now()
	for i := range all {
		if _, err := client.SendMessage(ctx, "stream", all[i].key, all[i].data); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// consumeOneByOne receives and acks each message in requests of its own.
func consumeOneByOne(ctx context.Context, url string, n, _ int) (time.Duration, error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	began := time.Now()
	for range n {
		m, err := client.ReceiveMessage(ctx, "stream", "consumer")
		if err != nil {
			return 0, err
		}
		if m == nil {
			return 0, fmt.Errorf("nothing to receive")
		}
		if err := client.AckMessage(ctx, "stream", "consumer", m.AckID); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// prepare creates the stream and its consumer on an embedded server. With keyed, the stream keeps one message per key.
func prepare(ctx context.Context, url string, keyed bool) error {
	client, err := newClient(url)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.CreateStream(ctx, "stream", sequin.StreamOptions{OneMessagePerKey: keyed}); err != nil {
		return err
	}
	_, err = client.CreateConsumer(ctx, "stream", "consumer", ">", sequin.ConsumerOptions{MaxAckPending: 1_000_000, MaxWaiting: 1_000})
	return err
}
