package sequin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// Unlimited as ConsumerOptions.MaxDeliver sends null: deliver until acked. As Consumer.MaxDeliver it is what null was.
const Unlimited = -1

// ConsumerOptions of CreateConsumer and UpdateConsumer. What is not set never reaches the wire; the defaults are the server's.
type ConsumerOptions struct {
	// AckWait is the lease: how long a delivered message waits for its ack before it is delivered again, in whole
	// milliseconds. Default 30 s. A Subscriber wants at least 100 ms.
	AckWait time.Duration
	// MaxAckPending is the most messages delivered and not yet settled. Default 10,000. Leave it large: for five minutes
	// after a consumer is created, the 2024 server counts acked messages too.
	MaxAckPending int
	// MaxDeliver is how often one version of a message is delivered at most, or Unlimited. Default unlimited. The 2024
	// server stores it and does not enforce it.
	MaxDeliver int
	// MaxWaiting is how many receives may wait at once; more are answered with 429. Default 20.
	MaxWaiting int
}

func (o ConsumerOptions) validate() error {
	if err := checkMillis("ConsumerOptions.AckWait", o.AckWait); err != nil {
		return err
	}
	for _, limit := range []struct {
		name         string
		value, least int
	}{{"MaxAckPending", o.MaxAckPending, 0}, {"MaxDeliver", o.MaxDeliver, Unlimited}, {"MaxWaiting", o.MaxWaiting, 0}} {
		if limit.value < limit.least {
			return fmt.Errorf("%w: ConsumerOptions.%s is %d", ErrInvalidArgument, limit.name, limit.value)
		}
	}
	return nil
}

// fields are the options that are set, as the API names them.
func (o ConsumerOptions) fields() map[string]any {
	f := map[string]any{}
	if o.AckWait != 0 {
		f["ack_wait_ms"] = o.AckWait.Milliseconds()
	}
	if o.MaxAckPending != 0 {
		f["max_ack_pending"] = o.MaxAckPending
	}
	if o.MaxDeliver == Unlimited {
		f["max_deliver"] = nil
	} else if o.MaxDeliver != 0 {
		f["max_deliver"] = o.MaxDeliver
	}
	if o.MaxWaiting != 0 {
		f["max_waiting"] = o.MaxWaiting
	}
	return f
}

// Consumer as the server shows it. Times are UTC, in seconds.
type Consumer struct {
	ID            string
	Name          string
	AccountID     string
	StreamID      string
	Filter        string // filter_key_pattern
	Kind          string // "pull"
	Status        string // "active"
	AckWait       time.Duration
	MaxAckPending int
	MaxDeliver    int // Unlimited where the server says null
	MaxWaiting    int
	InsertedAt    time.Time
	UpdatedAt     time.Time
}

// consumerJSON is a Consumer on the wire.
type consumerJSON struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	AccountID     string    `json:"account_id"`
	StreamID      string    `json:"stream_id"`
	Filter        string    `json:"filter_key_pattern"`
	Kind          string    `json:"kind"`
	Status        string    `json:"status"`
	AckWaitMS     int64     `json:"ack_wait_ms"`
	MaxAckPending int       `json:"max_ack_pending"`
	MaxDeliver    *int      `json:"max_deliver"`
	MaxWaiting    int       `json:"max_waiting"`
	InsertedAt    looseTime `json:"inserted_at"`
	UpdatedAt     looseTime `json:"updated_at"`
}

func (j *consumerJSON) complete() error { return wire.RequireField(j.ID != "", "id") }

func (j *consumerJSON) consumer() *Consumer {
	c := &Consumer{ID: j.ID, Name: j.Name, AccountID: j.AccountID, StreamID: j.StreamID, Filter: j.Filter, Kind: j.Kind,
		Status: j.Status, AckWait: time.Duration(j.AckWaitMS) * time.Millisecond, MaxAckPending: j.MaxAckPending,
		MaxDeliver: Unlimited, MaxWaiting: j.MaxWaiting, InsertedAt: j.InsertedAt.Time, UpdatedAt: j.UpdatedAt.Time}
	if j.MaxDeliver != nil {
		c.MaxDeliver = *j.MaxDeliver
	}
	return c
}

func callConsumer(ctx context.Context, c *Client, method, path string, in any) (*Consumer, error) {
	j, err := call[consumerJSON](ctx, c, method, path, in)
	if err != nil {
		return nil, err
	}
	return j.consumer(), nil
}

// CreateConsumer creates a pull consumer that gets the stream's messages, from its beginning, whose key matches filter:
// tokens joined by dots, where * stands for one token and >, as the last, for one or more. Errors before anything is sent:
// ErrInvalidPattern for a malformed filter, ErrInvalidArgument for an option outside its limits. Others: ErrValidation for
// a name that is taken or not allowed, ErrNotFound for an unknown stream, ErrOutcomeUnknown when the answer was lost; see
// EnsureConsumer.
func (c *Client) CreateConsumer(ctx context.Context, stream, name, filter string, opts ConsumerOptions) (*Consumer, error) {
	if err := checkNames(stream, name); err != nil {
		return nil, err
	}
	if err := checkPattern(filter); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	in := opts.fields()
	in["name"], in["filter_key_pattern"], in["kind"] = name, filter, "pull"
	return callConsumer(ctx, c, http.MethodPost, path("api", "streams", stream, "consumers"), in)
}

// GetConsumer returns the stream's consumer with that name or id, or ErrNotFound.
func (c *Client) GetConsumer(ctx context.Context, stream, consumer string) (*Consumer, error) {
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	return callConsumer(ctx, c, http.MethodGet, path("api", "streams", stream, "consumers", consumer), nil)
}

// ListConsumers returns the stream's consumers, all of them, or ErrNotFound for an unknown stream.
func (c *Client) ListConsumers(ctx context.Context, stream string) ([]Consumer, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	shown, err := list[consumerJSON](ctx, c, path("api", "streams", stream, "consumers"), nil)
	if err != nil {
		return nil, err
	}
	consumers := make([]Consumer, len(shown))
	for i := range shown {
		consumers[i] = *shown[i].consumer()
	}
	return consumers, nil
}

// UpdateConsumer changes the options that are set, and returns the consumer as it is then. Name and filter cannot be
// changed. A running Subscriber notices a new AckWait within about a minute. The error is ErrInvalidArgument when no option
// is set or one is outside its limits (nothing was sent), ErrNotFound when there is no such consumer, ErrOutcomeUnknown
// when the answer was lost: GetConsumer tells.
func (c *Client) UpdateConsumer(ctx context.Context, stream, consumer string, opts ConsumerOptions) (*Consumer, error) {
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	in := opts.fields()
	if len(in) == 0 {
		return nil, fmt.Errorf("%w: no option to update is set", ErrInvalidArgument)
	}
	return callConsumer(ctx, c, http.MethodPut, path("api", "streams", stream, "consumers", consumer), in)
}

// DeleteConsumer deletes a consumer; its Subscribers end with ErrNotFound. The error is ErrNotFound when there is none,
// and ErrOutcomeUnknown when the answer was lost.
func (c *Client) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
	_, err := call[deleted](ctx, c, http.MethodDelete, path("api", "streams", stream, "consumers", consumer), nil)
	return err
}

// EnsureConsumer returns the stream's consumer with that name, and creates it where there is none. Programs that start
// together may all call it; a create whose answer was lost is looked for. With the error ErrMismatch, which comes beside
// the consumer, it exists with another filter, or another value of an option that opts sets. Other errors are those of
// CreateConsumer.
func (c *Client) EnsureConsumer(ctx context.Context, stream, name, filter string, opts ConsumerOptions) (*Consumer, error) {
	if err := checkPattern(filter); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	k, err := ensure(
		func() (*Consumer, error) { return c.GetConsumer(ctx, stream, name) },
		func() (*Consumer, error) { return c.CreateConsumer(ctx, stream, name, filter, opts) },
	)
	if err != nil {
		return nil, err
	}
	deliveries := deliverLimit(k.MaxDeliver)
	return k, mismatch("consumer", name,
		differs("filter_key_pattern", filter, &k.Filter),
		differs("ack_wait", opts.AckWait, &k.AckWait),
		differs("max_ack_pending", opts.MaxAckPending, &k.MaxAckPending),
		differs("max_deliver", deliverLimit(opts.MaxDeliver), &deliveries),
		differs("max_waiting", opts.MaxWaiting, &k.MaxWaiting),
	)
}

// deliverLimit is a MaxDeliver for people.
type deliverLimit int

func (d deliverLimit) String() string {
	if d == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(int(d))
}

// The states of DeliveryInfo.State. The same message may have another word in PeekMessages than in MessageInfo, as the
// 2024 server was recorded to answer.
const (
	StateAvailable = "available" // for delivery
	StateDelivered = "delivered" // leased, says PeekMessages
	StatePending   = "pending"   // leased, says MessageInfo
	StateAcked     = "acked"     // says MessageInfo alone: PeekMessages leaves these out
	// StateWithheld: on a stream that appends, behind a message of the same key that is not settled yet.
	StateWithheld = "withheld"
	// StatePendingRedelivery: on the 2024 server, replaced while it was delivered.
	StatePendingRedelivery = "pending_redelivery"
)

// DeliveryInfo is how a message stands with a consumer. Times are zero where the server says null.
type DeliveryInfo struct {
	AckID           string    `json:"ack_id"`
	DeliverCount    int       `json:"deliver_count"`
	LastDeliveredAt time.Time `json:"last_delivered_at"`
	NotVisibleUntil time.Time `json:"not_visible_until"` // the end of the lease
	State           string    `json:"state"`
}

// PeekedMessage is an entry of PeekMessages.
type PeekedMessage struct {
	Message StoredMessage `json:"message"`
	Info    DeliveryInfo  `json:"info"`
}

func (m *PeekedMessage) complete() error { return m.Message.complete() }

// PeekMessages returns the messages that a consumer has not acked yet, without leasing them: 100, or up to 10,000 with
// opts.Limit. Errors before anything is sent: ErrInvalidArgument (Limit, Sort) and ErrInvalidPattern; else ErrNotFound.
func (c *Client) PeekMessages(ctx context.Context, stream, consumer string, opts ListOptions) ([]PeekedMessage, error) {
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	q, err := opts.query()
	if err != nil {
		return nil, err
	}
	return list[PeekedMessage](ctx, c, path("api", "streams", stream, "consumers", consumer, "messages"), q)
}

// ConsumerInfo is how a message stands with one consumer.
type ConsumerInfo struct {
	ConsumerID     string `json:"consumer_id"`
	ConsumerName   string `json:"consumer_name"`
	ConsumerFilter string `json:"consumer_filter_key_pattern"`
	DeliveryInfo
}

// MessageInfo is a message and how it stands with every consumer that it matches.
type MessageInfo struct {
	Message   StoredMessage  `json:"message"`
	Consumers []ConsumerInfo `json:"consumer_info"`
}

func (m *MessageInfo) complete() error { return m.Message.complete() }

// MessageInfo returns the message with that key and how it stands with the consumers that it matches, or ErrNotFound. The
// error before anything is sent is ErrInvalidKey.
func (c *Client) MessageInfo(ctx context.Context, stream, key string) (*MessageInfo, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if _, err := checkKey(key); err != nil {
		return nil, err
	}
	info, err := call[data[MessageInfo]](ctx, c, http.MethodGet, path("api", "streams", stream, "messages", key, "consumer_info"), nil)
	if err != nil {
		return nil, err
	}
	return info.Data, nil
}
