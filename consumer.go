package sequin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// Unlimited is the MaxDeliver of a consumer whose messages are delivered until they are acked. The API writes it as null.
const Unlimited = -1

// ConsumerOptions are the options of CreateConsumer and UpdateConsumer. Options that are not set are not sent; the defaults
// are the server's.
type ConsumerOptions struct {
	// AckWait is the length of a lease, in whole milliseconds. A message that is not settled is redelivered when its lease
	// ends. Default 30 s. A Subscriber needs at least 100 ms.
	AckWait time.Duration
	// MaxAckPending is the largest number of messages that are delivered and not yet settled. Default 10,000.
	//
	// For five minutes after a consumer is created the 2024 server counts acked messages, too. With the default it delivers
	// some 10,000 messages in that time and then nothing until it is over. Set MaxAckPending to more than the messages of
	// five minutes there. A Subscriber that receives nothing for that reason says so in Config.Logger.
	MaxAckPending int
	// MaxDeliver is the largest number of deliveries of one version of a message, or Unlimited. Default Unlimited. The
	// 2024 server stores it and does not enforce it.
	MaxDeliver int
	// MaxWaiting is the largest number of receives that may wait at the same time. The server answers 429 to others.
	// Default 20.
	MaxWaiting int
	// StartFrom says which message a new consumer gets first. Default StartBeginning. It cannot be changed. A server that does not
	// announce start has no other: the error is ErrUnsupported, and until the Client has seen that announced, it reads the
	// stream first.
	StartFrom Start
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
			return fmt.Errorf("%w: ConsumerOptions.%s is %d, must be at least %d", ErrInvalidArgument, limit.name, limit.value, limit.least)
		}
	}
	return o.StartFrom.validate()
}

// fromBeginning reports whether a new consumer starts where those of every server do.
func (o ConsumerOptions) fromBeginning() bool {
	return o.StartFrom == "" || o.StartFrom == StartBeginning
}

// fields returns the options that are set, by their names in the API.
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
	if !o.fromBeginning() {
		f["start_from"] = string(o.StartFrom)
	}
	return f
}

// Consumer is a consumer as the server shows it. Times are UTC, in seconds.
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
	MaxDeliver    int // Unlimited if the server says null
	MaxWaiting    int
	StartSeq      int64 // the lowest Seq that it gets; 0 if the server does not say
	InsertedAt    time.Time
	UpdatedAt     time.Time
}

// consumerJSON is a Consumer as JSON.
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
	StartSeq      int64     `json:"start_seq"`
	InsertedAt    looseTime `json:"inserted_at"`
	UpdatedAt     looseTime `json:"updated_at"`
}

func (j *consumerJSON) complete() error { return wire.RequireField(j.ID != "", "id") }

func (j *consumerJSON) consumer() *Consumer {
	c := &Consumer{ID: j.ID, Name: j.Name, AccountID: j.AccountID, StreamID: j.StreamID, Filter: j.Filter, Kind: j.Kind,
		Status: j.Status, AckWait: time.Duration(j.AckWaitMS) * time.Millisecond, MaxAckPending: j.MaxAckPending,
		MaxDeliver: Unlimited, MaxWaiting: j.MaxWaiting, StartSeq: j.StartSeq, InsertedAt: j.InsertedAt.Time, UpdatedAt: j.UpdatedAt.Time}
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

// CreateConsumer creates a pull consumer. It receives the stream's messages, from opts.StartFrom on, whose key matches filter.
// A filter is a key in which the token * matches any one token, and the token >, which must be the last, one or more.
//
// Before anything is sent it returns ErrInvalidPattern for a malformed filter, and ErrInvalidArgument for an option outside
// its limits. Other errors are ErrValidation for a name that is in use or not allowed, ErrNotFound for an unknown stream,
// and ErrOutcomeUnknown if the answer was lost; see EnsureConsumer.
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
	if !opts.fromBeginning() {
		if err := c.requireExtension(ctx, wire.Start, stream); err != nil {
			return nil, err
		}
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

// ListConsumers returns all consumers of a stream, or ErrNotFound for an unknown stream.
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

// UpdateConsumer changes the options that are set and returns the changed consumer. Name and filter cannot be changed. A
// running Subscriber notices a new AckWait within about a minute.
//
// Before anything is sent it returns ErrInvalidArgument if no option is set or one is outside its limits. Other errors are
// ErrNotFound if there is no such consumer, and ErrOutcomeUnknown if the answer was lost; GetConsumer then shows whether
// the consumer was changed.
func (c *Client) UpdateConsumer(ctx context.Context, stream, consumer string, opts ConsumerOptions) (*Consumer, error) {
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.StartFrom != "" {
		return nil, fmt.Errorf("%w: StartFrom is %q: the start of a consumer cannot be changed", ErrInvalidArgument, string(opts.StartFrom))
	}
	in := opts.fields()
	if len(in) == 0 {
		return nil, fmt.Errorf("%w: no option to update is set", ErrInvalidArgument)
	}
	return callConsumer(ctx, c, http.MethodPut, path("api", "streams", stream, "consumers", consumer), in)
}

// DeleteConsumer deletes a consumer. Its Subscribers end with ErrNotFound. The error is ErrNotFound if there is no such
// consumer, and ErrOutcomeUnknown if the answer was lost.
func (c *Client) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	if err := checkNames(stream, consumer); err != nil {
		return err
	}
	_, err := call[deleted](ctx, c, http.MethodDelete, path("api", "streams", stream, "consumers", consumer), nil)
	return err
}

// EnsureConsumer returns the stream's consumer with that name, and creates it if there is none. Programs that start at the
// same time may all call it. If the answer to the create was lost, EnsureConsumer looks for the consumer.
//
// It returns the consumer together with ErrMismatch if the consumer exists and has another filter, or another value of an
// option that opts sets. Other errors are those of CreateConsumer.
//
// A StartFrom that names a Seq, or StartBeginning, is compared; StartEnd and a time are not, because a consumer that exists
// keeps where it started.
//
// An empty filter accepts any filter of a consumer that exists, and creates one with ">".
//
// On the 2024 server set opts.MaxAckPending: with the default a new consumer gets some 10,000 messages in its first five
// minutes, and no more.
func (c *Client) EnsureConsumer(ctx context.Context, stream, name, filter string, opts ConsumerOptions) (*Consumer, error) {
	created := cmp.Or(filter, ">")
	if err := checkPattern(created); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	k, err := ensure(
		func() (*Consumer, error) { return c.GetConsumer(ctx, stream, name) },
		func() (*Consumer, error) { return c.CreateConsumer(ctx, stream, name, created, opts) },
	)
	if err != nil {
		return nil, err
	}
	deliveries := deliverLimit(k.MaxDeliver)
	start, _ := opts.StartFrom.seq()
	shownStart := max(k.StartSeq, 1) // a server that does not show it knows no other
	return k, mismatch("consumer", name,
		differs("filter_key_pattern", filter, &k.Filter),
		differs("ack_wait", opts.AckWait, &k.AckWait),
		differs("max_ack_pending", opts.MaxAckPending, &k.MaxAckPending),
		differs("max_deliver", deliverLimit(opts.MaxDeliver), &deliveries),
		differs("max_waiting", opts.MaxWaiting, &k.MaxWaiting),
		differs("start_seq", start, &shownStart),
	)
}

// deliverLimit is a MaxDeliver whose text says "unlimited" instead of -1.
type deliverLimit int

func (d deliverLimit) String() string {
	if d == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(int(d))
}
