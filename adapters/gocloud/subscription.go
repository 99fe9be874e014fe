package sequinpubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/envelope"
)

// SubscriptionOptions are the options of OpenSubscription.
type SubscriptionOptions struct {
	// KeyName is the metadata entry that gets the message's key. Without it the key is not in the metadata.
	KeyName string
	// Subscriber configures the sequin.Subscriber that receives the messages. Its MaxInFlight is how many messages a program may hold
	// that it has not acked: Receive waits for an ack then.
	Subscriber sequin.SubscriberConfig
	// ReceiveBatcherOptions and AckBatcherOptions bound the batches of the CDK. The MaxBatchSize of acks defaults to 1,000.
	ReceiveBatcherOptions, AckBatcherOptions batcher.Options
}

// OpenSubscription opens a consumer for receiving. The client stays the caller's. opts may be nil. It makes no request; the error is
// that of a nil client, of bad options or of an empty name.
func OpenSubscription(client *sequin.Client, stream, consumer string, opts *SubscriptionOptions) (*pubsub.Subscription, error) {
	s, o, err := newSubscription(client, stream, consumer, opts)
	if err != nil {
		return nil, err
	}
	return pubsub.NewSubscription(s, &o.ReceiveBatcherOptions, &o.AckBatcherOptions), nil
}

func newSubscription(client *sequin.Client, stream, consumer string, opts *SubscriptionOptions) (*subscription, *SubscriptionOptions, error) {
	if client == nil {
		return nil, nil, fmt.Errorf("open consumer %s of %s: %w: the client is nil", consumer, stream, sequin.ErrInvalidConfig)
	}
	o := SubscriptionOptions{}
	if opts != nil {
		o = *opts
	}
	o.AckBatcherOptions.MaxBatchSize = cmp.Or(o.AckBatcherOptions.MaxBatchSize, sequin.MaxBatch)
	err := cmp.Or(checkBatches("ReceiveBatcherOptions", o.ReceiveBatcherOptions), checkBatches("AckBatcherOptions", o.AckBatcherOptions))
	if err == nil {
		err = checkSubscriber(client, stream, consumer, o.Subscriber)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open consumer %s of %s: %w", consumer, stream, err)
	}
	return &subscription{client: client, stream: stream, consumer: consumer, keyName: o.KeyName, cfg: o.Subscriber}, &o, nil
}

// checkSubscriber returns what is wrong with names and a config. Subscribe checks them before it makes a request, and makes none when
// its ctx has ended.
func checkSubscriber(client *sequin.Client, stream, consumer string, cfg sequin.SubscriberConfig) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := client.Subscribe(ended, stream, consumer, cfg); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// subscription is the driver of one consumer. The CDK ends a subscription for good at an error that is not retryable, so it
// receives from a sequin.Subscriber, which retries what passes by itself.
type subscription struct {
	client           *sequin.Client
	owned            bool // the client was made for this subscription
	stream, consumer string
	keyName          string
	cfg              sequin.SubscriberConfig

	opening sync.Mutex // held while the Subscriber is made

	mu     sync.Mutex
	sub    *sequin.Subscriber // nil before the first ReceiveBatch
	closed bool
}

// receiveWait is how long ReceiveBatch waits for a message. The CDK asks for about a second.
const receiveWait = time.Second

// ReceiveBatch waits until a message is there, and returns what is there then.
func (s *subscription) ReceiveBatch(ctx context.Context, limit int) ([]*driver.Message, error) {
	sub, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, receiveWait)
	defer cancel()
	deliveries, err := sub.Take(wait, limit)
	if err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	messages := make([]*driver.Message, len(deliveries))
	for i := range deliveries {
		messages[i] = s.message(&deliveries[i])
	}
	return messages, nil
}

// open returns the Subscriber, and makes it at the first call. A failed call is repeated by the next.
func (s *subscription) open(ctx context.Context) (*sequin.Subscriber, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	sub, closed := s.sub, s.closed
	s.mu.Unlock()
	if closed {
		return nil, sequin.ErrClosed
	}
	if sub != nil {
		return sub, nil
	}
	// The end of ctx ends the attempt, and not the Subscriber that it makes.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	sub, err := s.client.Subscribe(life, s.stream, s.consumer, s.cfg)
	if !stop() && err == nil {
		_ = sub.Close(life)
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, cmp.Or(ctx.Err(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		_ = sub.Close(life)
		return nil, sequin.ErrClosed
	}
	s.sub = sub
	return sub, nil
}

// message makes the message of the CDK.
func (s *subscription) message(d *sequin.Delivery) *driver.Message {
	e, ok, err := envelope.Decode(d.Data)
	if !ok || err != nil {
		e = envelope.Envelope{Payload: []byte(d.Data)}
	}
	if s.keyName != "" {
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, 1)
		}
		e.Metadata[s.keyName] = d.Key
	}
	return &driver.Message{
		LoggableID: d.Key + "@" + strconv.FormatInt(d.Seq, 10),
		Body:       e.Payload,
		Metadata:   e.Metadata,
		AckID:      d,
		AsFunc:     func(target any) bool { return as(target, *d) },
	}
}

// SendAcks queues the acks. Close waits until they are confirmed.
func (s *subscription) SendAcks(_ context.Context, ids []driver.AckID) error {
	return s.settle(ids, sequin.Delivery.Ack)
}

// SendNacks queues the nacks.
func (s *subscription) SendNacks(_ context.Context, ids []driver.AckID) error {
	return s.settle(ids, sequin.Delivery.Nack)
}

// settle drops the errors of settles that are late or repeated.
func (s *subscription) settle(ids []driver.AckID, settle func(sequin.Delivery) error) error {
	var errs []error
	for _, id := range ids {
		if err := settle(*id.(*sequin.Delivery)); err != nil && !errors.Is(err, sequin.ErrSettled) && !errors.Is(err, sequin.ErrLeaseExpired) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *subscription) CanNack() bool { return true }

// IsRetryable is asked about the errors of the first receive, which subscribes. A Subscriber retries by itself.
func (s *subscription) IsRetryable(err error) bool { return sequin.IsTransient(err) }

func (s *subscription) As(target any) bool { return as(target, s.client) }

func (s *subscription) ErrorAs(err error, target any) bool { return errors.As(err, target) }

func (s *subscription) ErrorCode(err error) gcerrors.ErrorCode { return errorCode(err) }

// drainTimeout is how long Close waits until the server has confirmed the last acks. It is the default of
// SubscriberConfig.DrainTimeout.
const drainTimeout = 10 * time.Second

// Close returns what the CDK has and nobody will settle, also what a ReceiveBatch takes at the same time, and waits until the
// server has confirmed that and all acks.
func (s *subscription) Close() error {
	s.mu.Lock()
	s.closed = true
	sub := s.sub
	s.mu.Unlock()
	var err error
	if sub != nil {
		ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(s.cfg.DrainTimeout, drainTimeout))
		defer cancel()
		err = sub.CloseNow(ctx)
	}
	if s.owned {
		s.client.Close()
	}
	return err
}
