package sequin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// StreamOptions are the options of CreateStream. Options that are not set are not sent. The 2024 server ignores all of them.
type StreamOptions struct {
	// OneMessagePerKey makes a message replace the one with the same key. Default: every message is appended.
	OneMessagePerKey bool `json:"one_message_per_key,omitempty"`
	// ProcessUnmodified delivers a message again when it is sent with the same data. Default: it is not delivered again.
	ProcessUnmodified bool `json:"process_unmodified,omitempty"`
	// MaxStorageGB limits the stream's storage, in gigabytes; the oldest messages are dropped first. Default no limit.
	MaxStorageGB int `json:"max_storage_gb,omitempty"`
	// RetainUpTo is the largest number of messages that are kept; the oldest ones are dropped first. Default all.
	RetainUpTo int `json:"retain_up_to,omitempty"`
	// RetainAtLeast is the number of newest messages that are never dropped for MaxStorageGB. When only these are left, a
	// send that does not fit is refused with ErrStreamFull.
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

// Stream is a stream as the server shows it. Times are UTC, in seconds.
type Stream struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	AccountID string      `json:"account_id"`
	Stats     StreamStats `json:"stats"`
	// The options are nil if the server does not show them. A server that shows no OneMessagePerKey is the 2024 one: its
	// streams keep one message per key, and it accepts a key once a request.
	OneMessagePerKey  *bool     `json:"one_message_per_key"`
	ProcessUnmodified *bool     `json:"process_unmodified"`
	MaxStorageGB      *int      `json:"max_storage_gb"`
	RetainUpTo        *int      `json:"retain_up_to"`
	RetainAtLeast     *int      `json:"retain_at_least"`
	InsertedAt        time.Time `json:"inserted_at"`
	UpdatedAt         time.Time `json:"updated_at"`
}

// StreamStats are the statistics of a Stream. StorageSize is in bytes.
type StreamStats struct {
	MessageCount  int64 `json:"message_count"`
	ConsumerCount int64 `json:"consumer_count"`
	StorageSize   int64 `json:"storage_size"`
}

// String returns the fields as %+v does, with the options themselves where they are shown, and <nil> where they are not.
func (s Stream) String() string {
	return fmt.Sprintf("{ID:%s Name:%s AccountID:%s Stats:%+v OneMessagePerKey:%v ProcessUnmodified:%v MaxStorageGB:%v RetainUpTo:%v "+
		"RetainAtLeast:%v InsertedAt:%v UpdatedAt:%v}", s.ID, s.Name, s.AccountID, s.Stats, shown(s.OneMessagePerKey),
		shown(s.ProcessUnmodified), shown(s.MaxStorageGB), shown(s.RetainUpTo), shown(s.RetainAtLeast), s.InsertedAt, s.UpdatedAt)
}

// shown returns the value that p points to, or nil.
func shown[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// UnmarshalJSON reads a stream as servers write it. A time that cannot be read stays zero.
func (s *Stream) UnmarshalJSON(text []byte) error {
	type fields Stream // without this method
	read := struct {
		fields
		InsertedAt looseTime `json:"inserted_at"` // instead of the field of the same name in fields
		UpdatedAt  looseTime `json:"updated_at"`
	}{fields: fields(*s)}
	err := json.Unmarshal(text, &read)
	*s = Stream(read.fields)
	s.InsertedAt, s.UpdatedAt = read.InsertedAt.Time, read.UpdatedAt.Time
	return err
}

func (s *Stream) complete() error { return wire.RequireField(s.ID != "", "id") }

// appends reports whether the stream is known to keep every message.
func (s *Stream) appends() bool { return s.OneMessagePerKey != nil && !*s.OneMessagePerKey }

// keepsOne reports whether the stream keeps one message per key.
func (s *Stream) keepsOne() *bool {
	if s.OneMessagePerKey != nil {
		return s.OneMessagePerKey
	}
	keeps := true
	return &keeps
}

// CreateStream creates a stream. The server decides which names are allowed: letters, digits and '_', and on current
// servers also '-'. On the 2024 server the names of a stream and of a consumer are always free if they have at most
// 44 characters together. Longer ones are free until the table consumer_messages_STREAM_CONSUMER, in lower case and cut to 63
// bytes, is that of another consumer; then the create gets a 500 without a summary.
//
// The error is ErrValidation for a name that is in use or not allowed, ErrInvalidArgument for a negative option, and
// ErrOutcomeUnknown if the answer was lost; see EnsureStream.
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

// ListStreams returns all streams, newest first. Their number is not limited.
func (c *Client) ListStreams(ctx context.Context) ([]Stream, error) {
	return list[Stream](ctx, c, path("api", "streams"), nil)
}

// DeleteStream deletes a stream with its messages and consumers. The error is ErrNotFound if there is no such stream, and
// ErrOutcomeUnknown if the answer was lost.
func (c *Client) DeleteStream(ctx context.Context, stream string) error {
	if err := checkName("stream", stream); err != nil {
		return err
	}
	_, err := call[deleted](ctx, c, http.MethodDelete, path("api", "streams", stream), nil)
	return err
}

// PurgeOptions say which messages PurgeStream removes. BeforeSeq and KeyPattern may be combined.
type PurgeOptions struct {
	// BeforeSeq removes only messages with a lower Seq. Default: no bound.
	BeforeSeq int64 `json:"before_seq,omitempty"`
	// KeyPattern removes only messages whose key matches it. Default: every key.
	KeyPattern string `json:"key_pattern,omitempty"`
	// All removes every message. It must be set where neither BeforeSeq nor KeyPattern is, and only there.
	All bool `json:"all,omitempty"`
}

func (o PurgeOptions) validate() error {
	if o.BeforeSeq < 0 {
		return fmt.Errorf("%w: PurgeOptions.BeforeSeq is %d, must not be negative", ErrInvalidArgument, o.BeforeSeq)
	}
	if bounded := o.BeforeSeq > 0 || o.KeyPattern != ""; bounded == o.All {
		return fmt.Errorf("%w: PurgeOptions need BeforeSeq or KeyPattern, or All alone", ErrInvalidArgument)
	}
	if o.KeyPattern != "" {
		return checkPattern(o.KeyPattern)
	}
	return nil
}

// PurgeStream removes messages of a stream, and returns how many it has removed. They are not delivered any more: leases and
// delays of them end, and a message that has waited for one of them is available. What a consumer has acked stays acked, the
// other messages keep their Seq, and a repeated send restores nothing. It cannot be undone.
//
// On a server that does not announce purge it returns ErrUnsupported; until the Client has seen that announced, it reads the
// stream first. Before anything is sent it returns ErrInvalidArgument or ErrInvalidPattern. Other errors are ErrNotFound, and
// ErrOutcomeUnknown if the answer was lost: the messages may have been removed.
func (c *Client) PurgeStream(ctx context.Context, stream string, opts PurgeOptions) (purged int64, err error) {
	if err := checkName("stream", stream); err != nil {
		return 0, err
	}
	if err := opts.validate(); err != nil {
		return 0, err
	}
	if err := c.requireExtension(ctx, wire.Purge, stream); err != nil {
		return 0, err
	}
	got, err := call[data[purgedJSON]](ctx, c, http.MethodPost, path("api", "streams", stream, "purge"), opts)
	if err != nil {
		return 0, err
	}
	return *got.Data.Purged, nil
}

// purgedJSON is the answer to a purge.
type purgedJSON struct {
	Purged *int64 `json:"purged"`
}

func (p *purgedJSON) complete() error { return wire.RequireField(p.Purged != nil, "purged") }

// EnsureStream returns the stream with that name, and creates it if Sequin itself says that there is none. Programs that start at the same time may
// all call it. If the answer to the create was lost, EnsureStream looks for the stream.
//
// It returns the stream together with ErrMismatch if the stream exists and has another value of an option that opts sets, or
// if the server shows no such option, and so ignores it. An option that opts does not set is not compared. OneMessagePerKey
// matches a server that does not show it: that is the 2024 one, all of whose streams keep one message per key.
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
		differs("one_message_per_key", opts.OneMessagePerKey, s.keepsOne()),
		differs("process_unmodified", opts.ProcessUnmodified, s.ProcessUnmodified),
		differs("max_storage_gb", opts.MaxStorageGB, s.MaxStorageGB),
		differs("retain_up_to", opts.RetainUpTo, s.RetainUpTo),
		differs("retain_at_least", opts.RetainAtLeast, s.RetainAtLeast),
	)
}
