package load

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin"
)

const (
	// defaultAckPending is the max_ack_pending of a consumer by default.
	defaultAckPending = 10_000
	// closeFor is how long a Subscriber may take to stop. It is the DrainTimeout by default.
	closeFor = 10 * time.Second
)

// subscribers receive the messages 0 to n-1 of a part, and ack them. A message that is delivered again counts once.
type subscribers struct {
	of        *run
	consumer  string // its id
	part      Part
	n         int
	ready     func()      // is called by each Subscriber that has started; nil for nothing
	delivered func(i int) // is called once for each message, by several goroutines; nil for nothing

	seen  []atomic.Bool
	count atomic.Int64
	ended time.Time // when the last message was delivered; later come the last acks and the end of the Subscribers
}

// newSubscribers makes the consumer of a part.
func (r *run) newSubscribers(ctx context.Context, part Part, n int) (*subscribers, error) {
	client, disconnect, err := r.Connect(sameTransport)
	if err != nil {
		return nil, err
	}
	defer disconnect()
	name := strings.ReplaceAll(string(part), "-", "_") // the server of 2024 takes no dashes
	consumer, err := client.CreateConsumer(ctx, r.Stream, name, string(part)+".>", sequin.ConsumerOptions{
		MaxAckPending: max(defaultAckPending, 2*n), // there the limit counts acked messages, too
	})
	if err != nil {
		return nil, err
	}
	return &subscribers{of: r, consumer: consumer.ID, part: part, n: n, seen: make([]atomic.Bool, n)}, nil
}

func sameTransport(t http.RoundTripper) http.RoundTripper { return t }

func (r *run) measureConsume(ctx context.Context) (Result, error) {
	s, err := r.newSubscribers(ctx, Publish, r.Messages)
	if err != nil {
		return Result{}, err
	}
	stop := r.Progress(Consume, s.n, s.count.Load)
	defer stop()
	began := time.Now()
	if err := s.consume(ctx); err != nil {
		return Result{}, err
	}
	return Result{Part: Consume, Messages: s.n, Clients: r.Subscribers, Took: s.ended.Sub(began)}, nil
}

// consume returns when every message is delivered and acked.
func (s *subscribers) consume(ctx context.Context) error {
	all, stop := context.WithCancel(ctx)
	defer stop()
	if err := each(all, s.of.Subscribers, func(ctx context.Context, _ int) error { return s.receive(ctx, stop) }); err != nil {
		return err
	}
	return ctx.Err()
}

// receive runs a Subscriber until ctx ends, and calls stop after the last message.
func (s *subscribers) receive(ctx context.Context, stop func()) error {
	client, disconnect, err := s.of.Connect(sameTransport)
	if err != nil {
		return err
	}
	defer disconnect()
	sub, err := client.Subscribe(ctx, s.of.Stream, s.consumer, sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	if s.ready != nil {
		s.ready()
	}
	for d := range sub.Deliveries() {
		_ = d.Ack() // a message whose lease has ended is delivered again
		i, err := strconv.Atoi(strings.TrimPrefix(d.Key, string(s.part)+"."))
		if err != nil || i >= s.n || s.seen[i].Swap(true) {
			continue
		}
		if s.delivered != nil {
			s.delivered(i)
		}
		if s.count.Add(1) == int64(s.n) {
			s.ended = time.Now()
			stop()
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
	defer cancel()
	return errors.Join(sub.Err(), sub.Close(closing))
}
