package sequin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// Client calls a Sequin server. It is safe for concurrent use, starts no goroutine of its own, and is meant to be made
// once and shared.
//
// Every method may return, besides the errors that its comment names: an [*APIError] for an answer other than success,
// ErrUnreachable when no connection could be made, an error that wraps ctx.Err() and context.Cause(ctx) when ctx ended
// first, joined with what was wrong until then, and an error without a name when the answer was lost or is not Sequin's.
type Client struct {
	cfg   Config // with defaults
	base  *url.URL
	http  *http.Client         // without Timeout: each attempt sets its own
	limit time.Duration        // the caller's HTTPClient.Timeout, 0 when it has none
	own   *http.Transport      // nil when the caller brought an HTTPClient
	kind  atomic.Pointer[bool] // whether the server takes a key twice in a batch; nil until it was asked

	maxResponse int64 // the constant, but for tests
}

// NewClient returns a Client for cfg. It makes no request and starts no goroutine. The error is ErrInvalidConfig; its text
// names the field, its value and what is allowed.
func NewClient(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	base, err := parseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: base, maxResponse: maxResponse}
	if cfg.HTTPClient == nil {
		c.own = newTransport(cfg.Timeout)
		cfg.HTTPClient = &http.Client{Transport: c.own}
	}
	hc := *cfg.HTTPClient
	if hc.Transport == nil {
		hc.Transport = http.DefaultTransport
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.limit, hc.Timeout = max(0, hc.Timeout), 0
	if c.limit > 0 {
		c.cfg.Timeout = min(c.cfg.Timeout, c.limit)
	}
	c.http = &hc
	return c, nil
}

// Close closes the idle connections of the transport that NewClient made. A caller's HTTPClient is left alone. Close
// Publishers and Subscribers first; a Client that is used after Close simply dials again.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// SendMessage sends one message and returns when the server has it. It costs a request: 430 to 840 a second on the real
// server, where batches reach 21,000 messages a second. For more than a few messages use a [Publisher].
//
// Errors before anything is sent: ErrInvalidKey, ErrInvalidData, ErrTooLarge, ErrInvalidArgument. It is repeated as
// Config.Retry says, under one Idempotency-Key, so that servers which know that header store it once.
func (c *Client) SendMessage(ctx context.Context, stream, key, data string) (SendResult, error) {
	return c.SendMessages(ctx, stream, []Message{{Key: key, Data: data}})
}

// SendMessages sends up to 1,000 messages in one request, all or nothing. In SendResult.Published the server counts the
// rows that changed: on a stream with one message per key, data that is there already counts 0.
//
// Errors before anything is sent: those of SendMessage, ErrBatchTooLarge, and ErrDuplicateKey where a key stands twice
// and the server cannot take that (it is asked once, when that first happens). The order of messages is kept by a
// server of today; the 2024 server stores a batch in reverse.
func (c *Client) SendMessages(ctx context.Context, stream string, messages []Message) (SendResult, error) {
	var result SendResult
	if err := checkName("stream", stream); err != nil {
		return result, err
	}
	size, err := checkBatch(messages)
	if err != nil {
		return result, err
	}
	if doubled, ok := doubledKey(messages); ok {
		if taken, err := c.takesDoubledKeys(ctx, stream); err != nil {
			return result, err
		} else if !taken {
			return result, fmt.Errorf("%w: %q; this server takes a key once a request", ErrDuplicateKey, doubled)
		}
	}
	body := bodies.Get(size)
	defer bodies.Put(body)
	body.JSON = wire.AppendSendHead(body.JSON)
	for _, m := range messages {
		body.JSON = wire.AppendMessage(body.JSON, m.Key, m.Data)
	}
	body.JSON = wire.AppendSendTail(body.JSON)
	if err = c.send(ctx, stream, body, uuid.NewString(), idempotent, &result); err != nil {
		return SendResult{}, err // an answer that broke off may have told a number
	}
	return result, nil
}

// send is the request that SendMessages and the Publisher share.
func (c *Client) send(ctx context.Context, stream string, body *transport.Payload, key string, again repeat, result *SendResult) error {
	return c.do(ctx, request{method: http.MethodPost, path: path("api", "streams", stream, "messages"), body: body,
		idempotencyKey: key, repeat: again}, func(_ http.Header, body []byte) (err error) {
		result.Published, err = wire.DecodePublished(body)
		return err
	})
}

// SendResult is what a send changed.
type SendResult struct {
	// Published counts the messages that the server stored or replaced.
	Published int `json:"published"`
}

// ReceiveMessage receives one message, or nil when none is available. It does not wait. See ReceiveMessages.
func (c *Client) ReceiveMessage(ctx context.Context, stream, consumer string) (*ReceivedMessage, error) {
	got, err := c.ReceiveMessages(ctx, stream, consumer, ReceiveOptions{BatchSize: 1})
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return &got[0], nil
}

// ReceiveOptions of ReceiveMessages.
type ReceiveOptions struct {
	// BatchSize is the most messages to receive, 1 to 1,000. Default 10, as in the official SDKs.
	BatchSize int
	// WaitFor lets the server hold the answer back until a message is available: 500 ms to 5 min, in whole
	// milliseconds. Default 0: it answers at once. The 2024 server refuses it with ErrValidation.
	WaitFor time.Duration
}

// ReceiveMessages receives up to BatchSize messages, an empty slice when none is available. Each is leased to the caller
// for the consumer's ack_wait, counted by the server from the hand-out: ack or nack it by its AckID within that time.
//
// Prefer the consumer's ID to its name here, and in ack and nack: on the 2024 server names are not scoped to streams, and
// the consumer of another stream may answer. A receive whose answer was lost is repeated; the messages of the lost
// answer come again when their lease is over. Errors before anything is sent: ErrInvalidArgument.
func (c *Client) ReceiveMessages(ctx context.Context, stream, consumer string, opts ReceiveOptions) ([]ReceivedMessage, error) {
	if opts.BatchSize == 0 {
		opts.BatchSize = 10
	}
	if err := c.checkReceive(stream, consumer, opts); err != nil {
		return nil, err
	}
	return c.receive(ctx, stream, consumer, opts, unanswered)
}

func (c *Client) receive(ctx context.Context, stream, consumer string, opts ReceiveOptions, again repeat) ([]ReceivedMessage, error) {
	var got []ReceivedMessage
	decoder := wire.Decoder{Each: func(m *wire.Message) { got = append(got, received(m)) }}
	r := receiveRequest(stream, consumer, opts)
	r.repeat = again
	err := c.do(ctx, r, func(_ http.Header, body []byte) error {
		got = []ReceivedMessage{} // anew with each attempt
		return decoder.Decode(body)
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// received is a message as a program sees it.
func received(m *wire.Message) ReceivedMessage {
	return ReceivedMessage{AckID: m.AckID, DeliverCount: m.DeliverCount, StoredMessage: StoredMessage{Key: m.Key, Data: m.Data,
		StreamID: m.StreamID, DataHash: m.DataHash, Seq: m.Seq, InsertedAt: m.InsertedAt, UpdatedAt: m.UpdatedAt}}
}

// receiveRequest is what ReceiveMessages and the Subscriber ask. It is made once where nobody says otherwise.
func receiveRequest(stream, consumer string, opts ReceiveOptions) request {
	return request{method: http.MethodPost, path: path("api", "streams", stream, "consumers", consumer, "receive"),
		body: &transport.Payload{JSON: wire.AppendReceive(nil, opts.BatchSize, opts.WaitFor)}, wait: opts.WaitFor}
}

func (c *Client) checkReceive(stream, consumer string, opts ReceiveOptions) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
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

// AckMessages acks up to 1,000 messages. The server answers success for ids that are unknown, or settled already, too.
// Prefer the consumer's ID to its name; see ReceiveMessages.
//
// It is repeated only when the server surely did not act; after anything else the error is ErrOutcomeUnknown. On the
// 2024 server an ack_id survives redelivery, so that a repeated or a late ack would remove what somebody else holds by
// then. Errors before anything is sent: ErrInvalidAckID, ErrInvalidArgument (no ids), ErrBatchTooLarge.
func (c *Client) AckMessages(ctx context.Context, stream, consumer string, ackIDs []string) error {
	return c.settleMessages(ctx, stream, consumer, "ack", ackIDs)
}

// NackMessage nacks one message: it is available again at once. See NackMessages.
func (c *Client) NackMessage(ctx context.Context, stream, consumer, ackID string) error {
	return c.NackMessages(ctx, stream, consumer, []string{ackID})
}

// NackMessages makes up to 1,000 messages available again at once. Everything that is said of AckMessages holds.
func (c *Client) NackMessages(ctx context.Context, stream, consumer string, ackIDs []string) error {
	return c.settleMessages(ctx, stream, consumer, "nack", ackIDs)
}

func (c *Client) settleMessages(ctx context.Context, stream, consumer, verb string, ackIDs []string) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
	if err := checkAckIDs(ackIDs); err != nil {
		return err
	}
	body := wire.AppendSettleHead(nil)
	for _, id := range ackIDs {
		body = wire.AppendAckID(body, id)
	}
	return c.settle(ctx, stream, consumer, verb, &transport.Payload{JSON: wire.AppendSettleTail(body, false)}, 0, ifNotActed)
}

// settle is the request that acks and nacks share, one-shot and of a Subscriber. verb is "ack" or "nack".
func (c *Client) settle(ctx context.Context, stream, consumer, verb string, body *transport.Payload, timeout time.Duration, again repeat) error {
	return c.do(ctx, request{method: http.MethodPost, path: path("api", "streams", stream, "consumers", consumer, verb),
		body: body, timeout: timeout, repeat: again}, func(_ http.Header, body []byte) error { return wire.DecodeSettled(body) })
}

// takesDoubledKeys reports whether the server takes a key twice in one batch. A server whose streams show no
// one_message_per_key is the 2024 one, which answers that with a bare 500; every other takes it. The first answer holds
// for the Client's life, because it says what server this is.
func (c *Client) takesDoubledKeys(ctx context.Context, stream string) (bool, error) {
	if known := c.kind.Load(); known != nil {
		return *known, nil
	}
	s, err := c.GetStream(ctx, stream)
	if err != nil {
		return false, err
	}
	taken := s.OneMessagePerKey != nil
	c.kind.Store(&taken)
	return taken, nil
}
