package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// Message is what a producer sends.
//
// Key is not empty, at most 255 characters in at most 16 tokens joined by dots, none of them empty, of printable ASCII
// without space, '*' and '>'. Data is valid UTF-8 without NUL, usually JSON; with its key it takes at most 8,000,000
// bytes of JSON.
type Message struct {
	Key  string `json:"key"`
	Data string `json:"data"`
}

// StoredMessage is a message as the server holds it. Times are UTC, in microseconds.
type StoredMessage struct {
	Key      string `json:"key"`
	Data     string `json:"data"`
	StreamID string `json:"stream_id"`
	// DataHash is base64(sha256(Data)), by which the server tells an unmodified message.
	DataHash string `json:"data_hash"`
	// Seq grows with every change of the stream: a replaced message gets a new one.
	Seq        int64     `json:"seq"`
	InsertedAt time.Time `json:"inserted_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// UnmarshalJSON reads a message as servers write it; a time that it cannot read stays zero.
func (m *StoredMessage) UnmarshalJSON(text []byte) error {
	type plain StoredMessage // without this method
	read := struct {
		*plain
		InsertedAt looseTime `json:"inserted_at"`
		UpdatedAt  looseTime `json:"updated_at"`
	}{plain: (*plain)(m)}
	err := json.Unmarshal(text, &read)
	m.InsertedAt, m.UpdatedAt = read.InsertedAt.Time, read.UpdatedAt.Time
	return err
}

func (m *StoredMessage) complete() error { return wire.RequireField(m.Key != "", "key") }

// ReceivedMessage is a message leased to the caller of ReceiveMessages.
type ReceivedMessage struct {
	// AckID settles the message. On the 2024 server it stays the same over redeliveries and replacements.
	AckID string
	// DeliverCount is how often this version has been delivered, this time included. 0 where the server does not tell.
	DeliverCount int
	StoredMessage
}

// StreamOptions of CreateStream. What is not set never reaches the wire; the 2024 server ignores them all.
type StreamOptions struct {
	// OneMessagePerKey lets a message replace the one with its key. Default: every message is appended.
	OneMessagePerKey bool `json:"one_message_per_key,omitempty"`
	// ProcessUnmodified delivers a message again although its data has not changed. Default: it is no change.
	ProcessUnmodified bool `json:"process_unmodified,omitempty"`
	// MaxStorageGB bounds the stream's storage, in gigabytes; the oldest messages go first. Default no bound.
	MaxStorageGB int `json:"max_storage_gb,omitempty"`
	// RetainUpTo keeps at most the newest so many messages. Default all.
	RetainUpTo int `json:"retain_up_to,omitempty"`
	// RetainAtLeast keeps so many messages whatever MaxStorageGB says; sends are refused with ErrStreamFull instead.
	RetainAtLeast int `json:"retain_at_least,omitempty"`
}

func (o StreamOptions) validate() error {
	for _, limit := range []struct {
		name  string
		value int
	}{{"MaxStorageGB", o.MaxStorageGB}, {"RetainUpTo", o.RetainUpTo}, {"RetainAtLeast", o.RetainAtLeast}} {
		if limit.value < 0 {
			return fmt.Errorf("%w: StreamOptions.%s is %d, must not be negative", ErrInvalidArgument, limit.name, limit.value)
		}
	}
	return nil
}

// Stream as the server shows it. Times are UTC, in seconds.
type Stream struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	AccountID string      `json:"account_id"`
	Stats     StreamStats `json:"stats"`
	// The options are nil where the server does not show them. A server that shows no OneMessagePerKey is the 2024 one:
	// its streams keep one message per key, and take a key once a request.
	OneMessagePerKey  *bool     `json:"one_message_per_key"`
	ProcessUnmodified *bool     `json:"process_unmodified"`
	MaxStorageGB      *int      `json:"max_storage_gb"`
	RetainUpTo        *int      `json:"retain_up_to"`
	RetainAtLeast     *int      `json:"retain_at_least"`
	InsertedAt        time.Time `json:"inserted_at"`
	UpdatedAt         time.Time `json:"updated_at"`
}

// StreamStats of a Stream. StorageSize is in bytes.
type StreamStats struct {
	MessageCount  int64 `json:"message_count"`
	ConsumerCount int64 `json:"consumer_count"`
	StorageSize   int64 `json:"storage_size"`
}

// UnmarshalJSON reads a stream as servers write it; a time that it cannot read stays zero.
func (s *Stream) UnmarshalJSON(text []byte) error {
	type plain Stream // without this method
	read := struct {
		*plain
		InsertedAt looseTime `json:"inserted_at"`
		UpdatedAt  looseTime `json:"updated_at"`
	}{plain: (*plain)(s)}
	err := json.Unmarshal(text, &read)
	s.InsertedAt, s.UpdatedAt = read.InsertedAt.Time, read.UpdatedAt.Time
	return err
}

func (s *Stream) complete() error { return wire.RequireField(s.ID != "", "id") }

// appends reports whether the stream is known to keep every message.
func (s *Stream) appends() bool { return s.OneMessagePerKey != nil && !*s.OneMessagePerKey }

// CreateStream creates a stream. Which names are allowed is the server's to say: letters, digits and '_', and '-' on
// servers of today; on the 2024 server the names of a stream and of its consumer have at most 44 characters together. The
// error is ErrValidation for a name that is taken or not allowed, ErrInvalidArgument for a negative option, and
// ErrOutcomeUnknown when the answer was lost; see EnsureStream.
func (c *Client) CreateStream(ctx context.Context, name string, opts StreamOptions) (*Stream, error) {
	if err := checkName("stream", name); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return call[Stream](ctx, c, http.MethodPost, path("api", "streams"), struct {
		Name string `json:"name"`
		StreamOptions
	}{name, opts})
}

// GetStream returns the stream with that name or id, or ErrNotFound.
func (c *Client) GetStream(ctx context.Context, stream string) (*Stream, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	return call[Stream](ctx, c, http.MethodGet, path("api", "streams", stream), nil)
}

// ListStreams returns all streams, newest first. The API knows no limit here.
func (c *Client) ListStreams(ctx context.Context) ([]Stream, error) {
	return list[Stream](ctx, c, path("api", "streams"), nil)
}

// DeleteStream deletes a stream with its messages and its consumers. The error is ErrNotFound when there is none, and
// ErrOutcomeUnknown when the answer was lost.
func (c *Client) DeleteStream(ctx context.Context, stream string) error {
	if err := checkName("stream", stream); err != nil {
		return err
	}
	_, err := call[deleted](ctx, c, http.MethodDelete, path("api", "streams", stream), nil)
	return err
}

// EnsureStream returns the stream with that name, and creates it where there is none. Programs that start together may
// all call it; a create whose answer was lost is looked for. With the error ErrMismatch, which comes beside the stream, it
// exists and shows another value of an option that opts sets; what opts leaves unset, or the server does not show, is not
// compared.
func (c *Client) EnsureStream(ctx context.Context, name string, opts StreamOptions) (*Stream, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s, err := ensure(
		func() (*Stream, error) { return c.GetStream(ctx, name) },
		func() (*Stream, error) { return c.CreateStream(ctx, name, opts) },
	)
	if err != nil {
		return nil, err
	}
	return s, mismatch("stream", name,
		differs("one_message_per_key", opts.OneMessagePerKey, s.OneMessagePerKey),
		differs("process_unmodified", opts.ProcessUnmodified, s.ProcessUnmodified),
		differs("max_storage_gb", opts.MaxStorageGB, s.MaxStorageGB),
		differs("retain_up_to", opts.RetainUpTo, s.RetainUpTo),
		differs("retain_at_least", opts.RetainAtLeast, s.RetainAtLeast),
	)
}

// ensure gets, creates what is not found, and gets again where somebody else was quicker or an answer was lost.
func ensure[T any](get, create func() (*T, error)) (*T, error) {
	found, err := get()
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	made, err := create()
	var api *APIError
	raced := errors.As(err, &api) && api.Status == http.StatusUnprocessableEntity
	if !raced && !errors.Is(err, ErrOutcomeUnknown) {
		return made, err
	}
	if found, again := get(); again == nil {
		return found, nil
	}
	return nil, err // not taken after all: what create said tells more
}

// differs compares an option that the caller set (not zero) with what the server shows (not nil), and is "" when they agree.
func differs[T comparable](option string, want T, shown *T) string {
	var unset T
	if want == unset || shown == nil || *shown == want {
		return ""
	}
	return fmt.Sprintf("%s is %v, not %v", option, *shown, want)
}

// mismatch is the error of the differences, nil when there are none.
func mismatch(what, name string, differences ...string) error {
	differences = slices.DeleteFunc(differences, func(d string) bool { return d == "" })
	if len(differences) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s %q: %s", ErrMismatch, what, name, strings.Join(differences, "; "))
}

// The orders of ListOptions.Sort.
const (
	SortAscending  = "seq_asc"
	SortDescending = "seq_desc"
)

// ListOptions of ListMessages and PeekMessages.
type ListOptions struct {
	// Limit is the most messages to return, 1 to 10,000. Default 100, the server's.
	Limit int
	// Sort is by seq: SortAscending (default) or SortDescending.
	Sort string
	// KeyPattern keeps messages whose key matches it. Default all.
	KeyPattern string
	// Visible, for PeekMessages alone, keeps what is (true) or is not (false) available for delivery. Default both.
	Visible *bool
}

// maxList is the most messages that the server lists at once.
const maxList = 10_000

func (o ListOptions) query() (url.Values, error) {
	q := url.Values{}
	switch {
	case o.Limit < 0 || o.Limit > maxList:
		return nil, fmt.Errorf("%w: Limit is %d, must be 1 to %d", ErrInvalidArgument, o.Limit, maxList)
	case o.Sort != "" && o.Sort != SortAscending && o.Sort != SortDescending:
		return nil, fmt.Errorf("%w: Sort is %q, must be %q or %q", ErrInvalidArgument, o.Sort, SortAscending, SortDescending)
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

// ListMessages returns messages of a stream by seq, without leasing them: 100, or up to 10,000 with opts.Limit. There is
// no way to ask for those behind them but opts.Sort and opts.KeyPattern. Errors before anything is sent:
// ErrInvalidArgument (Limit, Sort; Visible, which is not for streams) and ErrInvalidPattern; else ErrNotFound.
func (c *Client) ListMessages(ctx context.Context, stream string, opts ListOptions) ([]StoredMessage, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if opts.Visible != nil {
		return nil, fmt.Errorf("%w: Visible is for PeekMessages", ErrInvalidArgument)
	}
	q, err := opts.query()
	if err != nil {
		return nil, err
	}
	return list[StoredMessage](ctx, c, path("api", "streams", stream, "messages"), q)
}

// GetMessage returns the message with that key, or ErrNotFound. The error before anything is sent is ErrInvalidKey.
func (c *Client) GetMessage(ctx context.Context, stream, key string) (*StoredMessage, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	if _, err := checkKey(key); err != nil {
		return nil, err
	}
	return call[StoredMessage](ctx, c, http.MethodGet, path("api", "streams", stream, "messages", key), nil)
}

// call makes a lifecycle request and decodes the bare object of its answer. in nil sends no body. Reads are repeated
// after anything transient, the others only when the server surely did not act.
func call[T any, A answerTo[T]](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	r := request{method: method, path: path, repeat: ifNotActed}
	if method == http.MethodGet {
		r.repeat = idempotent
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("sequin: %s %s: %w", method, path, err)
		}
		r.body = &transport.Payload{JSON: body}
	}
	return decoded[T, A](ctx, c, r)
}

// callOnce is a read for those who own their loop.
func callOnce[T any, A answerTo[T]](ctx context.Context, c *Client, path string) (*T, error) {
	return decoded[T, A](ctx, c, request{method: http.MethodGet, path: path, repeat: once})
}

// answerTo is a pointer to T that can be decoded into.
type answerTo[T any] interface {
	*T
	checkedAnswer
}

func decoded[T any, A answerTo[T]](ctx context.Context, c *Client, r request) (*T, error) {
	out := new(T)
	if err := c.do(ctx, r, decodeJSON(A(out))); err != nil {
		return nil, err
	}
	return out, nil
}

// list makes a read and decodes the {"data":[…]} of its answer.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	got, err := decoded[data[rows[T]]](ctx, c, request{method: http.MethodGet, path: path, query: query, repeat: idempotent})
	if err != nil {
		return nil, err
	}
	return *got.Data, nil
}
