package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sequin-go/sequin"
)

// settings of the library in one measurement; the zero value is its defaults.
type settings struct {
	publisher  sequin.PublisherConfig
	subscriber sequin.SubscriberConfig
}

func newClient(url string) (*sequin.Client, error) {
	return sequin.NewClient(sequin.Config{BaseURL: url})
}

// publish sends n messages with one producer, and closes.
func (s settings) publish(ctx context.Context, url string, n, size int) (time.Duration, error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	pub, err := client.NewPublisher("stream", s.publisher)
	if err != nil {
		return 0, err
	}
	keys, data := keys(n), payload(size)
	began := time.Now()
	for i := range n {
		if err := pub.Send(ctx, keys[i], data); err != nil {
			return 0, err
		}
	}
	if err := pub.Close(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// keys are made before the clock starts: every contender gets them ready-made.
func keys(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = key(i)
	}
	return all
}

// consume ranges over n messages and acks each. The time ends when the server has confirmed the last ack, as JetStream's
// does: a Close gives back what nobody took, and may wait for a receive that has only just begun.
func (s settings) consume(ctx context.Context, url string, n, _ int) (time.Duration, error) {
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
	got := 0
	for d := range sub.Deliveries() {
		if err := d.Ack(); err != nil {
			return 0, err
		}
		if got++; got == n {
			break
		}
	}
	if got < n {
		return 0, fmt.Errorf("the channel closed after %d of %d messages: %w", got, n, sub.Err())
	}
	for sub.Stats().Acked < uint64(n) {
		time.Sleep(20 * time.Microsecond)
	}
	took := time.Since(began)
	return took, sub.Close(ctx)
}

// both publishes and consumes at the same time, until the last message is acked.
func (s settings) both(ctx context.Context, url string, n, size int) (time.Duration, error) {
	began := time.Now()
	published := make(chan error, 1)
	go func() {
		_, err := s.publish(ctx, url, n, size)
		published <- err
	}()
	_, err := s.consume(ctx, url, n, size)
	if failed := <-published; failed != nil {
		return 0, failed
	}
	return time.Since(began), err
}

// publishOneByOne is what a program does with an SDK that stops at request and response.
func publishOneByOne(ctx context.Context, url string, n, size int) (time.Duration, error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	keys, data := keys(n), payload(size)
	began := time.Now()
	for i := range n {
		if _, err := client.SendMessage(ctx, "stream", keys[i], data); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

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

// prepare makes the stream and its consumer on an embedded server.
func prepare(ctx context.Context, url string) error {
	client, err := newClient(url)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.CreateStream(ctx, "stream", sequin.StreamOptions{}); err != nil {
		return err
	}
	_, err = client.CreateConsumer(ctx, "stream", "consumer", ">", sequin.ConsumerOptions{MaxAckPending: 1_000_000})
	return err
}
