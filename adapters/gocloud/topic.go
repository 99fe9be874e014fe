package sequinpubsub

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
	// BatcherOptions bound the batches that the CDK makes. MaxBatchSize defaults to 1,000. MaxHandlers defaults to the Lanes: what is
	// sent meanwhile gathers in one batch of the CDK. With more handlers it would be divided, and batches are half as large.
	BatcherOptions batcher.Options
}

// OpenTopic opens a stream for sending. The client stays the caller's. opts may be nil. It makes no request; the error is that of
// a nil client, of bad options or of an empty name.
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
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, closeTimeout)
	batches.MaxHandlers = cmp.Or(batches.MaxHandlers, cfg.Lanes)
	pub, err := client.NewPublisher(stream, cfg) // which has checked the Lanes
	if err == nil {
		if err = checkBatches("BatcherOptions", batches); err != nil {
			_ = pub.Close(context.Background())
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open topic %s: %w", stream, err)
	}
	return &topic{client: client, pub: pub, keyName: opts.KeyName}, &batches, nil
}

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

// SendBatch hands the messages to the Publisher together, and waits until the last one has its result. The CDK fails all of the batch
// if one fails. Behind a message that cannot be encoded, or whose BeforeSend fails, none is sent.
func (t *topic) SendBatch(ctx context.Context, ms []*driver.Message) error {
	sent := make([]sequin.Message, len(ms))
	for i, m := range ms {
		if err := t.encode(m, &sent[i]); err != nil {
			return errors.Join(err, t.send(ctx, ms[:i], sent[:i]))
		}
	}
	return t.send(ctx, ms, sent)
}

// send sends messages, and calls AfterSend for those that are stored.
func (t *topic) send(ctx context.Context, ms []*driver.Message, sent []sequin.Message) error {
	err := t.pub.SendAllSync(ctx, sent)
	errs, left := []error{err}, unsent(err)
	for i, m := range ms {
		if n := slices.IndexFunc(left, func(o sequin.Message) bool { return same(o, sent[i]) }); n >= 0 {
			left = slices.Delete(left, n, n+1)
		} else if m.AfterSend != nil {
			errs = append(errs, m.AfterSend(func(target any) bool { return as(target, sent[i]) }))
		}
	}
	return errors.Join(errs...)
}

// unsent returns the messages that an error of SendAllSync lists.
func unsent(err error) []sequin.Message {
	var list *sequin.UnsentError
	if !errors.As(err, &list) {
		return nil
	}
	left := slices.Clone(list.Unsent)
	for _, f := range list.Failed {
		left = append(left, f.Message)
	}
	return left
}

// same reports whether nothing tells two messages apart.
func same(a, b sequin.Message) bool {
	return a.Key == b.Key && a.Data == b.Data && maps.Equal(a.Headers, b.Headers)
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
		key = newKey()
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

// newKey returns a random UUID. Nobody must be unable to guess it, so that it need not come from the system, which takes twice as long.
func newKey() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // the variant of RFC 9562
	return id.String()
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
