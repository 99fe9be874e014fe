package sequin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// StoredMessage is a message as the server stores it. Times are UTC, in microseconds.
type StoredMessage struct {
	Key  string `json:"key"`
	Data string `json:"data"`
	// Headers are nil if the message has none.
	Headers  map[string]string `json:"headers,omitempty"`
	StreamID string            `json:"stream_id"`
	// DataHash is base64(sha256(Data)). The server compares it to find out whether a message was modified.
	DataHash string `json:"data_hash"`
	// Seq grows with every change of the stream. A message gets a new one when it is replaced.
	Seq        int64     `json:"seq"`
	InsertedAt time.Time `json:"inserted_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// UnmarshalJSON reads a message as servers write it. A time that cannot be read stays zero.
func (m *StoredMessage) UnmarshalJSON(text []byte) error {
	type fields StoredMessage // without this method
	read := struct {
		fields
		InsertedAt looseTime `json:"inserted_at"` // instead of the field of the same name in fields
		UpdatedAt  looseTime `json:"updated_at"`
	}{fields: fields(*m)}
	err := json.Unmarshal(text, &read)
	*m = StoredMessage(read.fields)
	m.InsertedAt, m.UpdatedAt = read.InsertedAt.Time, read.UpdatedAt.Time
	return err
}

func (m *StoredMessage) complete() error { return wire.RequireField(m.Key != "", "key") }

// The orders of ListOptions.Sort.
const (
	SortAscending  = "seq_asc"
	SortDescending = "seq_desc"
)

// ListOptions are the options of ListMessages, AllMessages and PeekMessages.
type ListOptions struct {
	// Limit is the largest number of messages to return, 1 to 10,000. Default 100, the server's.
	Limit int
	// Sort is the order by Seq: SortAscending (default) or SortDescending.
	Sort string
	// KeyPattern selects the messages whose key matches it. Default all.
	KeyPattern string
	// AfterSeq and BeforeSeq select the messages with a higher and with a lower Seq, in either order. Default all. A server
	// that does not announce paging has no such bounds: the error is ErrUnsupported, and until the Client has seen that
	// announced, it reads the stream first.
	AfterSeq, BeforeSeq int64
	// Visible selects the messages that are (true) or are not (false) available for delivery. Default both. It is for
	// PeekMessages only.
	Visible *bool
}

// maxList is the largest number of messages that the server lists in one answer.
const maxList = 10_000

func (o ListOptions) query() (url.Values, error) {
	q := url.Values{}
	switch {
	case o.Limit < 0 || o.Limit > maxList:
		return nil, fmt.Errorf("%w: Limit is %d, must be 1 to %d", ErrInvalidArgument, o.Limit, maxList)
	case o.Sort != "" && o.Sort != SortAscending && o.Sort != SortDescending:
		return nil, fmt.Errorf("%w: Sort is %q, must be %q or %q", ErrInvalidArgument, o.Sort, SortAscending, SortDescending)
	case o.AfterSeq < 0 || o.BeforeSeq < 0:
		return nil, fmt.Errorf("%w: AfterSeq is %d and BeforeSeq %d, must be at least 0", ErrInvalidArgument, o.AfterSeq, o.BeforeSeq)
	}
	if o.AfterSeq > 0 {
		q.Set("after_seq", strconv.FormatInt(o.AfterSeq, 10))
	}
	if o.BeforeSeq > 0 {
		q.Set("before_seq", strconv.FormatInt(o.BeforeSeq, 10))
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Sort != "" {
		q.Set("sort", o.Sort)
	}
	if o.KeyPattern != "" {
		if err := checkPattern(o.KeyPattern); err != nil {
			return nil, err
		}
		q.Set("key_pattern", o.KeyPattern)
	}
	if o.Visible != nil {
		q.Set("visible", strconv.FormatBool(*o.Visible))
	}
	return q, nil
}

// requireBounds returns ErrUnsupported if the options have bounds that the server does not read.
func (c *Client) requireBounds(ctx context.Context, stream string, o ListOptions) error {
	if o.AfterSeq == 0 && o.BeforeSeq == 0 {
		return nil
	}
	return c.requireExtension(ctx, wire.Paging, stream)
}

// ListMessages returns messages of a stream in the order of Seq, without leasing them: up to 100, or up to opts.Limit.
// AllMessages returns more.
//
// Before anything is sent it returns ErrInvalidArgument (Limit, Sort, a bound, or a Visible) or ErrInvalidPattern. If there is
// no such stream the error is ErrNotFound.
func (c *Client) ListMessages(ctx context.Context, stream string, opts ListOptions) ([]StoredMessage, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if opts.Visible != nil {
		return nil, fmt.Errorf("%w: Visible is for PeekMessages only", ErrInvalidArgument)
	}
	q, err := opts.query()
	if err != nil {
		return nil, err
	}
	if err := c.requireBounds(ctx, stream, opts); err != nil {
		return nil, err
	}
	return list[StoredMessage](ctx, c, path("api", "streams", stream, "messages"), q)
}

// pageSize is the default size of a page of AllMessages. A page of large messages takes a few MB.
const pageSize = 1_000

// AllMessages returns the messages of a stream in the order of Seq, without leasing them. It reads them in pages of 1,000, or
// of opts.Limit, while the loop runs. The newest message is that of the first page: what is stored later is not returned. A
// message that is replaced meanwhile may be missed, because the new one has a later Seq.
//
// The loop ends after an error, which comes with a zero message: those of ListMessages, and ErrUnsupported if the server does
// not announce paging. The Client may be used concurrently, also in the loop.
func (c *Client) AllMessages(ctx context.Context, stream string, opts ListOptions) iter.Seq2[StoredMessage, error] {
	return func(yield func(StoredMessage, error) bool) {
		next := opts
		next.Limit = cmp.Or(opts.Limit, pageSize)
		err := c.requirePaging(ctx, stream, &next)
		for err == nil {
			var page []StoredMessage
			if page, err = c.ListMessages(ctx, stream, next); err != nil {
				break
			}
			for _, m := range page {
				if !yield(m, nil) {
					return
				}
			}
			if len(page) < next.Limit {
				return
			}
			if last := page[len(page)-1].Seq; next.Sort == SortDescending {
				next.BeforeSeq = last
			} else {
				next.AfterSeq = last
			}
		}
		yield(StoredMessage{}, err)
	}
}

// requirePaging checks the stream and the server, and fixes the newest message of an ascending list.
func (c *Client) requirePaging(ctx context.Context, stream string, o *ListOptions) error {
	if err := checkName("stream", stream); err != nil {
		return err
	}
	if _, err := o.query(); err != nil {
		return err
	}
	if err := c.requireExtension(ctx, wire.Paging, stream); err != nil || o.Sort == SortDescending {
		return err
	}
	newest, err := c.ListMessages(ctx, stream, ListOptions{Limit: 1, Sort: SortDescending})
	if err == nil && len(newest) > 0 && (o.BeforeSeq == 0 || o.BeforeSeq > newest[0].Seq) {
		o.BeforeSeq = newest[0].Seq + 1
	}
	return err
}

// GetMessage returns the message with that key, or ErrNotFound. Before anything is sent it returns ErrInvalidKey.
func (c *Client) GetMessage(ctx context.Context, stream, key string) (*StoredMessage, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if _, err := checkKey(key); err != nil {
		return nil, err
	}
	return call[StoredMessage](ctx, c, http.MethodGet, path("api", "streams", stream, "messages", key), nil)
}

// The values of DeliveryInfo.State. PeekMessages and MessageInfo may use different words for the same message; recordings
// of the 2024 server show both.
const (
	StateAvailable = "available" // for delivery
	StateDelivered = "delivered" // leased, in PeekMessages
	StatePending   = "pending"   // leased, in MessageInfo
	StateAcked     = "acked"     // in MessageInfo only; PeekMessages omits acked messages
	// StateWithheld means that an earlier message of the same key is not settled yet. Only streams that append have it.
	StateWithheld = "withheld"
	// StateDelayed means that a nack keeps the message back. Only servers that announce nack-delay have it.
	StateDelayed = "delayed"
	// StatePendingRedelivery means that the message was replaced while it was leased. Only the 2024 server has it.
	StatePendingRedelivery = "pending_redelivery"
)

// DeliveryInfo is the state of a message for one consumer. Times are zero if the server says null.
type DeliveryInfo struct {
	AckID           string    `json:"ack_id"`
	DeliverCount    int       `json:"deliver_count"`
	LastDeliveredAt time.Time `json:"last_delivered_at"`
	NotVisibleUntil time.Time `json:"not_visible_until"` // the end of the lease, or of the delay
	State           string    `json:"state"`
}

// UnmarshalJSON reads the state as servers write it. A time that cannot be read stays zero.
func (i *DeliveryInfo) UnmarshalJSON(text []byte) error {
	type fields DeliveryInfo // without this method
	read := struct {
		fields
		LastDeliveredAt looseTime `json:"last_delivered_at"` // instead of the field of the same name in fields
		NotVisibleUntil looseTime `json:"not_visible_until"`
	}{fields: fields(*i)}
	err := json.Unmarshal(text, &read)
	*i = DeliveryInfo(read.fields)
	i.LastDeliveredAt, i.NotVisibleUntil = read.LastDeliveredAt.Time, read.NotVisibleUntil.Time
	return err
}

// PeekedMessage is a message that PeekMessages returns.
type PeekedMessage struct {
	Message StoredMessage `json:"message"`
	Info    DeliveryInfo  `json:"info"`
}

func (m *PeekedMessage) complete() error { return m.Message.complete() }

// PeekMessages returns messages that the consumer has not acked, without leasing them: up to 100, or up to opts.Limit.
// Before anything is sent it returns ErrInvalidArgument (Limit, Sort, a bound) or ErrInvalidPattern. If there is no such stream or
// consumer the error is ErrNotFound.
func (c *Client) PeekMessages(ctx context.Context, stream, consumer string, opts ListOptions) ([]PeekedMessage, error) {
	if err := checkNames(stream, consumer); err != nil {
		return nil, err
	}
	q, err := opts.query()
	if err != nil {
		return nil, err
	}
	if err := c.requireBounds(ctx, stream, opts); err != nil {
		return nil, err
	}
	return list[PeekedMessage](ctx, c, path("api", "streams", stream, "consumers", consumer, "messages"), q)
}

// ConsumerInfo is the state of a message for one consumer, with the consumer's name.
type ConsumerInfo struct {
	ConsumerID     string `json:"consumer_id"`
	ConsumerName   string `json:"consumer_name"`
	ConsumerFilter string `json:"consumer_filter_key_pattern"`
	DeliveryInfo
}

// UnmarshalJSON reads the names and the state. Without it, ConsumerInfo would have the method of DeliveryInfo.
func (i *ConsumerInfo) UnmarshalJSON(text []byte) error {
	var names struct {
		ID     string `json:"consumer_id"`
		Name   string `json:"consumer_name"`
		Filter string `json:"consumer_filter_key_pattern"`
	}
	err := json.Unmarshal(text, &names)
	i.ConsumerID, i.ConsumerName, i.ConsumerFilter = names.ID, names.Name, names.Filter
	return errors.Join(err, json.Unmarshal(text, &i.DeliveryInfo))
}

// MessageInfo is a message with its state for every consumer whose filter matches it.
type MessageInfo struct {
	Message   StoredMessage  `json:"message"`
	Consumers []ConsumerInfo `json:"consumer_info"`
}

func (m *MessageInfo) complete() error { return m.Message.complete() }

// MessageInfo returns the message with that key and its state for every consumer whose filter matches it, or ErrNotFound.
// Before anything is sent it returns ErrInvalidKey.
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

// availableMessage identifies a message that the consumer could deliver. It is zero if there is none, or if none was looked
// for.
type availableMessage struct {
	key        string
	seq        int64
	deliveries int // how often it was delivered
}

// lookFor is how long a look for an available message may take. It delays the news of a changed ack_wait by as much.
const lookFor = 5 * time.Second

// firstAvailable returns the first available message of the list at that path. It ignores errors, because the message is
// for a line in the log only.
func (c *Client) firstAvailable(ctx context.Context, path string) availableMessage {
	list, err := decoded[data[rows[PeekedMessage]]](ctx, c, request{method: http.MethodGet, path: path,
		query: url.Values{"limit": {"1"}, "visible": {"true"}}, timeout: lookFor, retry: neverRetry})
	if err != nil || len(*list.Data) == 0 {
		return availableMessage{}
	}
	m := (*list.Data)[0]
	return availableMessage{m.Message.Key, m.Message.Seq, m.Info.DeliverCount}
}
