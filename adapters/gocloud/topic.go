package sequinpubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/envelope"
)

// TopicOptions are the options of OpenTopic.
type TopicOptions struct {
	// KeyName is the metadata entry that is the message's key, and that is not sent as metadata. Messages of a key are delivered
	// one after the other. Messages without it, and all messages if KeyName is empty, have a new UUID as key.
	KeyName string
	// Publisher configures the sequin.Publisher that sends the messages. Lanes defaults to 1, which keeps the order of a batch: the
	// CDK makes batches that are too small to be divided.
	Publisher sequin.PublisherConfig
	// BatcherOptions bound the batches that the CDK makes. MaxBatchSize defaults to 1,000. MaxHandlers defaults to 2, or to the Lanes
	// if that is more: while one batch is sent, the next one waits in the Publisher, and leaves as soon as its lane is free.
	BatcherOptions batcher.Options
}

// OpenTopic opens a stream for sending. The client stays the caller's. opts may be nil. It makes no request; the error is that of
// a nil client or of bad options.
func OpenTopic(client *sequin.Client, stream string, opts *TopicOptions) (*pubsub.Topic, error) {
	t, batches, err := newTopic(client, stream, opts)
	if err != nil {
		return nil, err
	}
	return pubsub.NewTopic(t, batches), nil
}

func newTopic(client *sequin.Client, stream string, opts *TopicOptions) (*topic, *batcher.Options, error) {
	if client == nil {
		return nil, nil, fmt.Errorf("open topic %s: %w: the client is nil", stream, sequin.ErrInvalidConfig)
	}
	if opts == nil {
		opts = &TopicOptions{}
	}
	batches := opts.BatcherOptions
	batches.MaxBatchSize = cmp.Or(batches.MaxBatchSize, sequin.MaxBatch)
	cfg := opts.Publisher
	cfg.Lanes = cmp.Or(cfg.Lanes, 1)
	cfg.Linger = cmp.Or(cfg.Linger, linger)
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, closeTimeout)
	batches.MaxHandlers = cmp.Or(batches.MaxHandlers, max(2, cfg.Lanes))
	if err := checkBatches("BatcherOptions", batches); err != nil {
		return nil, nil, fmt.Errorf("open topic %s: %w", stream, err)
	}
	pub, err := client.NewPublisher(stream, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("open topic %s: %w", stream, err)
	}
	return &topic{client: client, pub: pub, keyName: opts.KeyName}, &batches, nil
}

// linger is the default of PublisherConfig.Linger. It keeps an idle Publisher from sending the first message of a batch alone, and delays
// nothing, because SendBatch waits for each result.
const linger = time.Millisecond

// checkBatches returns an error for options with which the CDK would hang or panic.
func checkBatches(name string, o batcher.Options) error {
	if o.MaxBatchSize < 0 || o.MinBatchSize < 0 || o.MaxHandlers < 0 || o.MaxBatchByteSize < 0 {
		return fmt.Errorf("%w: %s has a negative value: %+v", sequin.ErrInvalidConfig, name, o)
	}
	if o.MaxBatchSize > 0 && o.MinBatchSize > o.MaxBatchSize {
		return fmt.Errorf("%w: %s.MinBatchSize is %d, above MaxBatchSize %d", sequin.ErrInvalidConfig, name, o.MinBatchSize, o.MaxBatchSize)
	}
	return nil
}

// topic is the driver of one stream.
type topic struct {
	client  *sequin.Client
	owned   bool // the client was made for this topic
	pub     *sequin.Publisher
	keyName string
}

// SendBatch accepts all messages into the Publisher, which shares requests with other batches, and waits for their results.
func (t *topic) SendBatch(ctx context.Context, ms []*driver.Message) error {
	sent := make([]sequin.Message, len(ms))
	receipts := make([]sequin.Receipt, len(ms))
	for i, m := range ms {
		err := t.encode(m, &sent[i])
		if err == nil {
			receipts[i], err = t.pub.SendReceipt(ctx, sent[i])
		}
		if err != nil { // the CDK fails all of the batch
			return errors.Join(err, t.settle(ctx, ms[:i], sent, receipts))
		}
	}
	return t.settle(ctx, ms, sent, receipts)
}

// settle waits for the results of messages, and calls AfterSend for those that are stored.
func (t *topic) settle(ctx context.Context, ms []*driver.Message, sent []sequin.Message, receipts []sequin.Receipt) error {
	var errs []error
	for i, m := range ms {
		err := receipts[i].Wait(ctx)
		if err == nil && m.AfterSend != nil {
			err = m.AfterSend(func(target any) bool { return as(target, sent[i]) })
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// encode makes the message that is stored, and calls BeforeSend.
func (t *topic) encode(m *driver.Message, out *sequin.Message) error {
	key, named := "", false
	metadata := m.Metadata
	if t.keyName != "" {
		if key, named = m.Metadata[t.keyName]; named {
			metadata = maps.Clone(m.Metadata)
			delete(metadata, t.keyName)
		}
	}
	if !named {
		key = uuid.NewString()
	}
	data, err := envelope.Envelope{Metadata: metadata, Payload: m.Body}.Encode()
	if err != nil {
		return err
	}
	*out = sequin.Message{Key: key, Data: data}
	if m.BeforeSend == nil {
		return nil
	}
	return m.BeforeSend(func(target any) bool { return as(target, out) })
}

// as sets *target to value, if target is a pointer to the type of value.
func as[T any](target any, value T) bool {
	p, ok := target.(*T)
	if ok {
		*p = value
	}
	return ok
}

// IsRetryable returns false: the Publisher has retried what is transient.
func (t *topic) IsRetryable(error) bool { return false }

func (t *topic) As(target any) bool { return as(target, t.client) || as(target, t.pub) }

func (t *topic) ErrorAs(err error, target any) bool { return errors.As(err, target) }

func (t *topic) ErrorCode(err error) gcerrors.ErrorCode { return errorCode(err) }

// closeTimeout is how long Close waits for requests in flight, unless the config of the Publisher says otherwise. After a
// Shutdown whose ctx did not end, there are none.
const closeTimeout = 2 * time.Second

// Close drops messages whose Send has returned because its ctx ended, unless they are stored within the CloseTimeout.
func (t *topic) Close() error {
	err := t.pub.Close(context.Background())
	if t.owned {
		t.client.Close()
	}
	return err
}
