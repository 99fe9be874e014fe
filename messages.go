package sequin

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// ReceivedMessage is a message leased to the caller of ReceiveMessages.
type ReceivedMessage struct {
	// AckID identifies the message in acks and nacks. On the 2024 server it stays the same when the message is redelivered
	// or replaced.
	AckID string
	// DeliverCount is how often this version of the message has been delivered, including this time. It is 0 if the server
	// does not say.
	DeliverCount int
	StoredMessage
}

// SendMessage sends one message and returns when the server has it. Each call is a request: the real server serves 430 to
// 840 a second this way, and 21,000 messages a second in batches. Use a [Publisher] for more than a few messages.
//
// The request is retried as Config.Retry says, with the same Idempotency-Key, so that a server which knows that header
// stores the message once. Before anything is sent it returns ErrInvalidKey, ErrInvalidData, ErrTooLarge or
// ErrInvalidArgument.
func (c *Client) SendMessage(ctx context.Context, stream, key, data string) (SendResult, error) {
	return c.SendMessages(ctx, stream, []Message{{Key: key, Data: data}})
}

// SendMessages sends 1 to 1,000 messages in one request, which succeeds or fails as a whole. SendResult.Published is the
// number of messages that changed the stream: if the stream keeps one message per key, a message with the same data and headers
// as the stored one is not counted.
//
// If a message has headers and the server does not announce headers, the error is ErrUnsupported. Until the Client has seen that
// announced, it reads the stream first. A server that has just been replaced by one without headers stores the messages
// without them; the error is then ErrUnsupported, too, and says so.
//
// Before anything is sent it returns the errors of SendMessage, ErrInvalidHeaders, ErrBatchTooLarge, or ErrDuplicateKey. The last one
// means that two messages have the same key and the server does not accept that. The Client finds this out by a read of
// the stream, the first time that a request repeats a key. Current servers keep the order of the messages; the 2024
// server stores a batch in reverse order.
func (c *Client) SendMessages(ctx context.Context, stream string, messages []Message) (SendResult, error) {
	var result SendResult
	if err := checkName("stream", stream); err != nil {
		return result, err
	}
	size, headers, err := checkBatch(messages)
	if err != nil {
		return result, err
	}
	if key, ok := duplicateKey(messages); ok {
		if accepted, err := c.acceptsDuplicateKeys(ctx, stream); err != nil {
			return result, err
		} else if !accepted {
			return result, fmt.Errorf("%w: %q; this server accepts a key once a request: send its messages one after the other", ErrDuplicateKey, key)
		}
	}
	if headers {
		if err := c.requireExtension(ctx, wire.Headers, stream); err != nil {
			return result, err
		}
	}
	body := bodies.Get(size)
	defer bodies.Put(body)
	body.JSON = wire.AppendSendHead(body.JSON)
	for _, m := range c.withAdded(ctx, stream, messages, size) {
		body.JSON = wire.AppendMessage(body.JSON, m.Key, m.Data, m.Headers, 0)
	}
	body.JSON = wire.AppendSendTail(body.JSON)
	options := sendOptions{idempotencyKey: uuid.NewString(), headers: headers, retry: idempotent, messages: len(messages)}
	if err = c.send(ctx, stream, body, options, &result); err != nil {
		return SendResult{}, err // a truncated answer may have set result
	}
	return result, nil
}

// sendOptions are the options of a send.
type sendOptions struct {
	idempotencyKey string        // "" sends none
	partOf         []string      // see request
	headers        bool          // one of the messages has headers
	timeout        time.Duration // 0 means Config.Timeout
	retry          retryPolicy
	messages       int
	quiet          bool // see request
}

// send makes the request of SendMessages and of the Publisher.
func (c *Client) send(ctx context.Context, stream string, body *transport.Payload, o sendOptions, result *SendResult) error {
	dropped := false
	err := c.do(ctx, request{method: http.MethodPost, path: path("api", "streams", stream, "messages"), body: body,
		idempotencyKey: o.idempotencyKey, partOf: o.partOf, timeout: o.timeout, retry: o.retry, messages: o.messages, quiet: o.quiet}, func(h http.Header, body []byte) (err error) {
		if o.headers {
			announced, _ := wire.AnnouncedBy(h)
			dropped = !announced.Has(wire.Headers)
		}
		result.Published, err = wire.DecodePublished(body)
		return err
	})
	if err == nil && dropped {
		err = errHeadersDropped
	}
	return err
}

// SendResult is the server's answer to a send.
type SendResult struct {
	// Published is the number of messages that the server stored or replaced.
	Published int `json:"published"`
}

// checkBatch checks the messages of one request. It returns the size of its body, and whether one of them has headers.
func checkBatch(messages []Message) (size int, headers bool, err error) {
	if len(messages) == 0 {
		return 0, false, fmt.Errorf("%w: no messages", ErrInvalidArgument)
	}
	if len(messages) > MaxBatch {
		return 0, false, fmt.Errorf("%w: %d messages, at most %d in a request", ErrBatchTooLarge, len(messages), MaxBatch)
	}
	size = wire.SendOverhead
	for i, m := range messages {
		n, err := checkMessage(m.Key, m.Data, m.Headers)
		if err != nil && len(messages) > 1 {
			err = fmt.Errorf("message %d: %w", i, err)
		}
		if err != nil {
			return 0, false, err
		}
		size += n
		headers = headers || len(m.Headers) > 0
	}
	if size > MaxRequestBytes {
		return 0, false, fmt.Errorf("%w: the messages take %d bytes of JSON, a request at most %d", ErrTooLarge, size, MaxRequestBytes)
	}
	return size, headers, nil
}

// duplicateKey returns a key that more than one of the messages has.
func duplicateKey(messages []Message) (string, bool) {
	var seen batch.IDSet // of hashes; a map of keys would cost as much as all other checks of a batch
	seen.Reset(len(messages))
	for i, m := range messages {
		same := func(o Message) bool { return o.Key == m.Key }
		if !seen.Add(max(1, maphash.String(keySeed, m.Key))) && slices.ContainsFunc(messages[:i], same) {
			return m.Key, true
		}
	}
	return "", false
}

var keySeed = maphash.MakeSeed()

// ReceiveOptions of ReceiveMessages.
type ReceiveOptions struct {
	// BatchSize is the largest number of messages to receive, 1 to 1,000. Default 10, as in the official SDKs.
	BatchSize int
	// WaitFor is how long the server may wait for a message before it answers with none: 500 ms to 5 min, in whole
	// milliseconds. Default 0: the server does not wait. The 2024 server refuses a WaitFor with ErrValidation.
	WaitFor time.Duration
}

// ReceiveMessage receives one message. It returns nil if none is available, and does not wait. See ReceiveMessages.
func (c *Client) ReceiveMessage(ctx context.Context, stream, consumer string) (*ReceivedMessage, error) {
	got, err := c.ReceiveMessages(ctx, stream, consumer, ReceiveOptions{BatchSize: 1})
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return &got[0], nil
}

// ReceiveMessages receives up to BatchSize messages. It returns an empty slice if none is available. Each message is leased
// to the caller for the consumer's ack_wait, counted by the server from the moment it answers. Ack or nack it by its AckID
// within that time.
//
// Pass the ID of the consumer, here and in acks and nacks, rather than its name: on the 2024 server names of consumers are
// shared by all streams, and the consumer of another stream may answer. If the answer is lost the request is retried; the
// messages of the lost answer are redelivered when their lease ends. Before anything is sent it returns
// ErrInvalidArgument.
func (c *Client) ReceiveMessages(ctx context.Context, stream, consumer string, opts ReceiveOptions) ([]ReceivedMessage, error) {
	if opts.BatchSize == 0 {
		opts.BatchSize = 10
	}
	if err := c.checkReceive(stream, consumer, opts); err != nil {
		return nil, err
	}
	return c.receive(ctx, stream, consumer, opts, unlessDamaged)
}

func (c *Client) receive(ctx context.Context, stream, consumer string, opts ReceiveOptions, retry retryPolicy) ([]ReceivedMessage, error) {
	var got []ReceivedMessage
	r := receiveRequest(consumerPath(stream, consumer), opts, false)
	r.retry, r.got = retry, func() int { return len(got) }
	err := c.do(ctx, r, func(_ http.Header, body []byte) error {
		got = []ReceivedMessage{} // an earlier attempt may have filled it
		decoder, m := wire.Decoder{}, wire.Message{}
		for decoder.Reset(body); decoder.Next(&m); {
			got = append(got, received(&m))
		}
		return decoder.Err()
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

func received(m *wire.Message) ReceivedMessage {
	return ReceivedMessage{AckID: m.AckID, DeliverCount: m.DeliverCount, StoredMessage: StoredMessage{Key: m.Key, Data: m.Data, Headers: m.Headers,
		StreamID: m.StreamID, DataHash: m.DataHash, Seq: m.Seq, InsertedAt: m.InsertedAt, UpdatedAt: m.UpdatedAt}}
}

// receiveRequest is the request of ReceiveMessages, ReceiveSink and the Subscriber, for the consumer or the sink at a path. Its
// retry is the zero value, neverRetry.
func receiveRequest(at string, opts ReceiveOptions, bare bool) request {
	return request{method: http.MethodPost, path: at + "/receive",
		body: &transport.Payload{JSON: wire.AppendReceive(nil, opts.BatchSize, opts.WaitFor, bare)}, wait: opts.WaitFor, messages: opts.BatchSize}
}

func (c *Client) checkReceive(stream, consumer string, opts ReceiveOptions) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
	return c.checkReceiveOptions(opts)
}

func (c *Client) checkReceiveOptions(opts ReceiveOptions) error {
	if opts.BatchSize < 1 || opts.BatchSize > MaxBatch {
		return fmt.Errorf("%w: BatchSize is %d, must be 1 to %d", ErrInvalidArgument, opts.BatchSize, MaxBatch)
	}
	return c.checkWaitFor(opts.WaitFor)
}

// The limits of wait_for, as Sequin documents them.
const minWaitFor, maxWaitFor = 500 * time.Millisecond, 5 * time.Minute

func (c *Client) checkWaitFor(d time.Duration) error {
	switch {
	case d == 0:
		return nil
	case d < minWaitFor || d > maxWaitFor || d%time.Millisecond != 0:
		return fmt.Errorf("%w: WaitFor is %v, must be whole milliseconds from %v to %v", ErrInvalidArgument, d, minWaitFor, maxWaitFor)
	case c.limit > 0 && d > c.limit-time.Second:
		return fmt.Errorf("%w: WaitFor is %v, must be at most %v: HTTPClient.Timeout less 1 s for the answer to travel", ErrInvalidArgument, d, c.limit-time.Second)
	}
	return nil
}

// AckMessage acks one message: it is done, and is not delivered to this consumer again. See AckMessages.
func (c *Client) AckMessage(ctx context.Context, stream, consumer, ackID string) error {
	return c.AckMessages(ctx, stream, consumer, []string{ackID})
}

// AckMessages acks 1 to 1,000 messages. The server answers success also for ack ids that are unknown or already settled.
// Pass the consumer's ID rather than its name; see ReceiveMessages.
//
// The request is retried only if the server surely did not act. After any other lost or foreign answer the error is
// ErrOutcomeUnknown: on the 2024 server an ack id stays the same when the message is redelivered, so that a late or
// repeated ack would remove a message that another program holds by then. A server that announces fenced-acks gives each
// delivery its own ack id; there the request is retried after every transient failure. Before anything is sent it
// returns ErrInvalidAckID, ErrInvalidArgument (no ack ids) or ErrBatchTooLarge.
func (c *Client) AckMessages(ctx context.Context, stream, consumer string, ackIDs []string) error {
	return c.settleMessages(ctx, stream, consumer, "ack", 0, ackIDs)
}

// NackMessage nacks one message: it is available again at once. See NackMessages.
func (c *Client) NackMessage(ctx context.Context, stream, consumer, ackID string) error {
	return c.NackMessages(ctx, stream, consumer, []string{ackID})
}

// NackMessages makes 1 to 1,000 messages available again at once. In all other respects it is like AckMessages.
func (c *Client) NackMessages(ctx context.Context, stream, consumer string, ackIDs []string) error {
	return c.settleMessages(ctx, stream, consumer, "nack", 0, ackIDs)
}

// MaxNackDelay is the longest delay of a nack.
const MaxNackDelay = 7 * 24 * time.Hour

// NackMessagesAfter nacks 1 to 1,000 messages, which become available again after the delay, also when their leases would have
// ended before. Until then they count toward the consumer's MaxAckPending. The delay is more than 0 and at most
// MaxNackDelay; fractions of a millisecond are rounded up. On a server that does not announce nack-delay it returns
// ErrUnsupported; until the Client has seen that announced, it reads the stream first. In all other respects it is like
// AckMessages.
func (c *Client) NackMessagesAfter(ctx context.Context, stream, consumer string, delay time.Duration, ackIDs []string) error {
	if delay <= 0 || delay > MaxNackDelay {
		return fmt.Errorf("%w: the delay is %v, must be more than 0 and at most %v", ErrInvalidArgument, delay, MaxNackDelay)
	}
	if err := checkAckIDs(ackIDs); err != nil {
		return err
	}
	if err := c.requireExtension(ctx, wire.NackDelay, stream); err != nil {
		return err
	}
	return c.settleMessages(ctx, stream, consumer, "nack", delay, ackIDs)
}

// ExtendMessages makes the leases of 1 to 1,000 messages end the given time from now, unless they end later already. It returns
// the ack ids whose leases were out. A message of any other has been settled, or its lease has ended, and it may be delivered to
// another program. The time is at least 1 ms and at most MaxExtension; fractions of a millisecond are dropped.
//
// The request is retried as Config.Retry says, because a repeat does no harm. On a server that does not announce extend
// it returns ErrUnsupported; until the Client has seen that announced, it reads the stream first. Before anything is sent it
// returns ErrInvalidAckID, ErrInvalidArgument (no ack ids, or the time) or ErrBatchTooLarge.
func (c *Client) ExtendMessages(ctx context.Context, stream, consumer string, ackWait time.Duration, ackIDs []string) (extended []string, err error) {
	if err := checkExtension(ackWait); err != nil {
		return nil, err
	}
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	if err := checkAckIDs(ackIDs); err != nil {
		return nil, err
	}
	if err := c.requireExtension(ctx, wire.Extend, stream); err != nil {
		return nil, err
	}
	return c.extend(ctx, extendRequest(consumerPath(stream, consumer), ackIDs, ackWait, idempotent))
}

// extendRequest is the request of extensions, those of a Client and those of a Subscriber, for the consumer at a path.
func extendRequest(at string, ackIDs []string, ackWait time.Duration, retry retryPolicy) request {
	body := &transport.Payload{JSON: wire.AppendExtendTail(appendAckIDs(ackIDs), ackWait)}
	return request{method: http.MethodPost, path: at + "/extend", body: body, messages: len(ackIDs), retry: retry}
}

// extend makes a request of extendRequest.
func (c *Client) extend(ctx context.Context, r request) (extended []string, err error) {
	got, err := decoded[data[extendedJSON]](ctx, c, r)
	if err != nil {
		return nil, err
	}
	return *got.Data.Extended, nil
}

// extendedJSON is the answer to an extension.
type extendedJSON struct {
	Extended *[]string `json:"extended"`
}

func (e *extendedJSON) complete() error { return wire.RequireField(e.Extended != nil, "extended") }

func (c *Client) settleMessages(ctx context.Context, stream, consumer, verb string, delay time.Duration, ackIDs []string) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
	if err := checkAckIDs(ackIDs); err != nil {
		return err
	}
	return c.settle(ctx, settleRequest(consumerPath(stream, consumer), verb, settleBody(ackIDs, false, delay), len(ackIDs), ifFenced))
}

// settleBody is the body of an ack or a nack.
func settleBody(ackIDs []string, undelivered bool, delay time.Duration) *transport.Payload {
	return &transport.Payload{JSON: wire.AppendSettleTail(appendAckIDs(ackIDs), undelivered, delay)}
}

// appendAckIDs begins the body of an ack, a nack or an extension.
func appendAckIDs(ackIDs []string) []byte {
	body := wire.AppendSettleHead(nil)
	for _, id := range ackIDs {
		body = wire.AppendAckID(body, id)
	}
	return body
}

// consumerPath is the path of a consumer, below BaseURL.
func consumerPath(stream, consumer string) string {
	return path("api", "streams", stream, "consumers", consumer)
}

// settleRequest is the request of acks and nacks, those of a Client and those of a Subscriber, for the consumer or the sink at a
// path. verb is "ack" or "nack".
func settleRequest(at, verb string, body *transport.Payload, messages int, retry retryPolicy) request {
	return request{method: http.MethodPost, path: at + "/" + verb, body: body, messages: messages, retry: retry}
}

// settle makes a request of settleRequest.
func (c *Client) settle(ctx context.Context, r request) error {
	return c.do(ctx, r, func(_ http.Header, body []byte) error { return wire.DecodeSettled(body) })
}
