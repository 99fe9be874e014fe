package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net/http"
	"reflect"
	"time"

	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// SinkConfig configures a Subscriber of a sink. The zero value works.
type SinkConfig struct {
	// AckWait is the visibility time-out of the sink, its ack_wait_ms. Default 30 s, which is that of Sequin. The server does
	// not report it. If it is set too long, messages that the program still holds are delivered again, and an ack that comes
	// after that settles the redelivery. If it is set too short, the program has less time than the server gives it.
	AckWait time.Duration
	// Subscriber configures the Subscriber as for a stream. The default of its PollMax is 500 ms here: a server of sinks
	// answers a waiting receive at once while any message is outstanding, and the Subscriber then polls.
	Subscriber SubscriberConfig
}

const (
	defaultSinkAckWait = 30 * time.Second       // Sequin's
	defaultSinkPollMax = 500 * time.Millisecond // a change is received within that time while others are outstanding
)

// SubscribeSink starts receiving the messages of a sink of the kind sequin_stream, by its name or id. Sequin v0.6.0 and later
// have such sinks; see [Client.Subscribe] for streams. Each message is a change of a row: see [DecodeChange].
//
// The Subscriber works as one of a stream, with these differences. Delivery.Key is made of the table and the primary key; with
// long columns it is longer than the 255 characters that the key of a message may have. Sequin before v0.11.0 does not tell the
// primary key, so that all changes of a table have one Key. Delivery.Data is the JSON of the change, and Delivery.Seq is 0. The
// changes of a row are delivered one after the other. Ack ids survive redelivery, so that settles whose answer was lost are not
// repeated. The lease is SinkConfig.AckWait.
//
// A sink with a transform delivers what the transform returns. Delivery.Data is its JSON, for [DecodeJSON], and Delivery.Key is
// empty unless the result has the metadata of a change.
//
// SubscribeSink first makes an ack request for an id that does not exist, which changes nothing, to find out whether the sink
// exists. Its errors are those of Subscribe. It starts the goroutines of Subscribe, but for the reads of the consumer.
func (c *Client) SubscribeSink(ctx context.Context, sink string, cfg SinkConfig) (*Subscriber, error) {
	if cfg.AckWait == 0 {
		cfg.AckWait = defaultSinkAckWait
	}
	sub := cfg.Subscriber
	if sub.PollMax == 0 {
		sub.PollMax = max(defaultSinkPollMax, sub.PollMin)
	}
	sub, err := c.checkSubscriber(sub)
	if err == nil {
		err = checkName("sink", sink)
	}
	if err == nil {
		err = sub.checkLease(cfg.AckWait)
	}
	if err != nil {
		return nil, err
	}
	if err := c.findSink(ctx, sink, unlessUnserved); err != nil {
		return nil, c.explainMissingSinks(ctx, err)
	}
	from := &origin{stream: &Stream{}, consumer: &Consumer{MaxDeliver: Unlimited}, sink: sink, path: sinkPath(sink)}
	return c.subscribe(ctx, sub, from, cfg.AckWait, false), nil
}

// explainMissingSinks adds to the error of a server without sinks what it serves instead.
func (c *Client) explainMissingSinks(ctx context.Context, err error) error {
	if !noRoute(err) {
		return err
	}
	if _, asked := list[Stream](ctx, c, path("api", "streams"), nil); asked == nil {
		return fmt.Errorf("sequin: this Sequin serves streams, not sinks: use Subscribe: %w", err)
	}
	return fmt.Errorf("sequin: this Sequin serves no sinks: SubscribeSink needs v0.6.0 or later: %w", err)
}

// SinkMessage is a message of a sink, leased to the caller of ReceiveSink.
type SinkMessage struct {
	// AckID identifies the message in AckSink and NackSink. It stays the same when the message is redelivered, until the
	// server restarts.
	AckID string
	Key   string // as Delivery.Key of a sink
	Data  string // the JSON of the change, for DecodeChange
}

// ReceiveSink receives up to BatchSize messages of a sink. It returns an empty slice if none is available. Each message is
// leased to the caller for the ack_wait of the sink. While any message of the sink is outstanding, the server does not wait for
// another one, whatever WaitFor says. Retries and errors are those of ReceiveMessages.
func (c *Client) ReceiveSink(ctx context.Context, sink string, opts ReceiveOptions) ([]SinkMessage, error) {
	if opts.BatchSize == 0 {
		opts.BatchSize = 10
	}
	if err := checkName("sink", sink); err != nil {
		return nil, err
	}
	if err := c.checkReceiveOptions(opts); err != nil {
		return nil, err
	}
	var got []SinkMessage
	r := receiveRequest(sinkPath(sink), opts, false)
	r.retry, r.got = unlessDamaged, func() int { return len(got) }
	err := c.do(ctx, r, func(_ http.Header, body []byte) error {
		got = []SinkMessage{} // an earlier attempt may have filled it
		decoder, m := wire.ChangeDecoder{}, wire.Change{}
		for decoder.Reset(body); decoder.Next(&m); {
			got = append(got, SinkMessage(m))
		}
		return decoder.Err()
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// AckSink acks 1 to 1,000 messages of a sink. Retries and errors are those of AckMessages on a server without fenced-acks.
func (c *Client) AckSink(ctx context.Context, sink string, ackIDs []string) error {
	return c.settleSink(ctx, sink, "ack", ackIDs)
}

// NackSink makes 1 to 1,000 messages of a sink available again at once. In all other respects it is like AckSink.
func (c *Client) NackSink(ctx context.Context, sink string, ackIDs []string) error {
	return c.settleSink(ctx, sink, "nack", ackIDs)
}

func (c *Client) settleSink(ctx context.Context, sink, verb string, ackIDs []string) error {
	if err := errors.Join(checkName("sink", sink), checkAckIDs(ackIDs)); err != nil {
		return err
	}
	return c.settle(ctx, settleRequest(sinkPath(sink), verb, settleBody(ackIDs, false, 0), len(ackIDs), ifNotActed))
}

// Sink is a sink as the management API of Sequin shows it.
type Sink struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Status   string `json:"status"` // "active", "disabled" or "paused"
	Database string `json:"database"`
	// Kind is the type of its destination. SubscribeSink works with "sequin_stream".
	Kind string `json:"-"`
	// Actions are the kinds of changes that it delivers; a back-fill delivers ActionRead besides.
	Actions []Action `json:"actions"`
}

type sinkJSON struct {
	Sink
	Destination struct{ Type string }
}

func (s *sinkJSON) complete() error { return wire.RequireField(s.ID != "", "id") }

// GetSink returns the sink with that name or id, or ErrNotFound. The token needs access to the management API.
func (c *Client) GetSink(ctx context.Context, sink string) (*Sink, error) {
	if err := checkName("sink", sink); err != nil {
		return nil, err
	}
	shown, err := call[sinkJSON](ctx, c, http.MethodGet, path("api", "sinks", sink), nil)
	if err != nil {
		return nil, err
	}
	shown.Kind = shown.Destination.Type
	return &shown.Sink, nil
}

// Action is what happened to a row.
type Action string

// The actions.
const (
	ActionInsert Action = "insert"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionRead   Action = "read" // the row was read by a back-fill
)

// Change is a change of a row.
type Change[T any] struct {
	Action Action
	// Record is the row after the change, and for a delete the row before it. Without REPLICA IDENTITY FULL Postgres tells
	// only the primary key of a deleted row, and the other columns are null.
	Record T
	// Changes are the old values of the columns that an update changed. They are empty if the table has no REPLICA IDENTITY
	// FULL.
	Changes  map[string]json.RawMessage
	Metadata ChangeMetadata

	record string // its JSON
}

// ChangeMetadata says where a change comes from. Other members that Sequin sends are in Delivery.Data.
type ChangeMetadata struct {
	TableSchema string `json:"table_schema"`
	TableName   string `json:"table_name"`
	// CommitTimestamp is when the transaction was committed; it is zero if the sink writes it in an unknown form. CommitLSN is
	// where it was committed, and CommitIdx counts its changes from 0.
	CommitTimestamp time.Time `json:"commit_timestamp"`
	CommitLSN       int64     `json:"commit_lsn"`
	CommitIdx       int       `json:"commit_idx"`
	// IdempotencyKey is the same each time that the change is delivered, also after a restart of the server.
	IdempotencyKey         string          `json:"idempotency_key"`
	RecordPKs              []string        `json:"record_pks"` // the values of the primary key, as text
	TransactionAnnotations json.RawMessage `json:"transaction_annotations"`
	Enrichment             json.RawMessage `json:"enrichment"`
	DatabaseName           string          `json:"database_name"`
	Consumer               SinkRef         `json:"consumer"` // the sink
}

// SinkRef names a sink in the metadata of a change.
type SinkRef struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Annotations json.RawMessage `json:"annotations"`
}

// ErrNoBefore is returned by Change.Before for a row that did not exist before the change, or is not known.
var ErrNoBefore = errors.New("sequin: the change has no row before it")

// DecodeChange decodes the data of a delivery of a sink. T is the type of a row. The JSON of a row has the columns by name, and
// becomes the T, or the error, that encoding/json would make of it.
//
// DecodeChange is fast where T is a struct whose fields are strings, booleans, numbers, [time.Time], [json.RawMessage] or pointers
// to them, in embedded structs too. It has encoding/json decode each field of another type; and the whole row if T is no struct or
// has an UnmarshalJSON, an embedded pointer, two fields with one name or the option "string".
//
// The Metadata keeps Delivery.Data and the Record in memory. The Record keeps Delivery.Data if its strings are more than half of it.
// The error is [Permanent], because the same data will never decode.
func DecodeChange[T any](d Delivery) (Change[T], error) {
	var x struct { // in one allocation
		record T
		room   wire.ChangeRoom
	}
	into := reflect.ValueOf(&x.record).Elem()
	in, fits, err := wire.ChangePlanOf(into.Type()).Decode(d.Data, into, &x.room)
	if err == nil && !fits {
		into.SetZero()
		err = json.Unmarshal([]byte(in.Record), &x.record)
	}
	if err != nil {
		return Change[T]{}, Permanent(fmt.Errorf("sequin: decode the change of %q into %T: %w", clip(d.Key), x.record, err))
	}
	return Change[T]{
		Action: Action(in.Action), Record: x.record, Changes: in.Changes, record: in.Record,
		Metadata: ChangeMetadata{
			TableSchema: in.TableSchema, TableName: in.TableName, CommitTimestamp: in.CommitTimestamp, CommitLSN: in.CommitLSN,
			CommitIdx: in.CommitIdx, IdempotencyKey: in.IdempotencyKey, RecordPKs: in.RecordPKs,
			TransactionAnnotations: in.TransactionAnnotations, Enrichment: in.Enrichment, DatabaseName: in.DatabaseName,
			Consumer: SinkRef{ID: in.SinkID, Name: in.SinkName, Annotations: in.SinkAnnotations},
		},
	}, nil
}

// Before returns the row before an update or a delete. It returns ErrNoBefore for other actions, and for an update without
// old values: the table has no REPLICA IDENTITY FULL, or the update changed nothing.
func (c Change[T]) Before() (T, error) {
	var before T
	switch {
	case c.Action == ActionDelete:
		return c.Record, nil
	case c.Action != ActionUpdate || len(c.Changes) == 0:
		return before, ErrNoBefore
	}
	row := map[string]json.RawMessage{}
	err := json.Unmarshal([]byte(c.record), &row)
	if err == nil {
		// A column that was null has to be decoded from null, and not over the new value.
		maps.Copy(row, c.Changes)
		var text []byte
		if text, err = json.Marshal(row); err == nil {
			err = json.Unmarshal(text, &before)
		}
	}
	if err != nil {
		return before, Permanent(fmt.Errorf("sequin: decode the row before the change: %w", err))
	}
	return before, nil
}

// sinkAttempts counts the deliveries of the messages of a sink, because the server does not. It knows the latest messages, at
// least knownAttempts of them.
type sinkAttempts struct{ latest, older map[uint64]int } // by a hash of the ack id, which would keep the message in memory

// knownAttempts is the largest MaxInFlight.
const knownAttempts = maxInFlight

// count sets the Attempt of deliveries.
func (a *sinkAttempts) count(ds []Delivery) {
	if a.latest == nil || len(a.latest) >= knownAttempts {
		a.latest, a.older = map[uint64]int{}, a.latest
	}
	for i := range ds {
		id := maphash.String(keySeed, ds[i].AckID)
		ds[i].Attempt = max(a.latest[id], a.older[id]) + 1
		a.latest[id] = ds[i].Attempt
	}
}

// Sink returns the name of the sink that the message comes from, as it was given to SubscribeSink. It is empty for a message of
// a stream, and for a Delivery that no Subscriber has made.
func (d Delivery) Sink() string {
	if d.state == nil {
		return ""
	}
	return d.state.fetched.origin.sink
}

// sinkPath is the path of a sink, below BaseURL.
func sinkPath(sink string) string { return path("api", "sequin_streams", sink) }

// noID is an id that no message, no stream and no sink has.
const noID = "00000000-0000-4000-8000-000000000000"

// findSink returns an error if there is no such sink. An ack of an unknown id changes nothing, and does not need the rights of
// the management API.
func (c *Client) findSink(ctx context.Context, sink string, retry retryPolicy) error {
	body := &transport.Payload{JSON: wire.AppendSettleTail(wire.AppendAckID(wire.AppendSettleHead(nil), noID), false, 0)}
	return c.do(ctx, request{method: http.MethodPost, path: path("api", "sequin_streams", sink, "ack"), body: body, retry: retry},
		func(_ http.Header, answer []byte) error { return wire.DecodeSettled(answer) })
}
