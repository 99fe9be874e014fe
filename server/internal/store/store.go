// Package store keeps streams, their messages, and what each consumer has received and settled.
//
// This file and errors.go are the contract: the interfaces, the values they exchange, and the errors they return. Memory
// is the implementation that keeps everything in memory. The interfaces work on sets (send a batch, receive n, settle
// ids, wait for a change), never on one message at a time, so that a log on disk or a database can implement them.
//
// The caller validates every request first. A store trusts names, keys, patterns and numbers, and returns no errors but
// those of errors.go.
//
// Every method that may have to wait for a disk or a network takes a ctx. The end of ctx ends the wait, not the write: a
// method that changes something then returns ErrUnknown, and the change may still take place. A method that changes
// nothing returns the error of ctx. Memory waits for nothing and does not look at ctx.
//
// A method that returns any other error than ErrUnknown has changed nothing.
//
// In Memory a stream and its consumers share one lock, which locking.go takes. A stream has the log of its messages. A
// consumer has a backlog, which holds what it has not settled, and a waitqueue.Queue of the receives that wait. The dialect
// chooses between the documented behaviour and that of the 2024 server. A store does not know HTTP or JSON.
package store

import (
	"context"
	"math"
	"time"

	"github.com/sequin-go/sequin/server/internal/headers"
)

// Store holds streams. All methods of Store, Stream, Consumer and Place may be called concurrently. Each may return the
// errors of a store that cannot be used: ErrFailed, ErrDamaged, ErrReadOnly, and ErrClosed after Close.
type Store interface {
	// ID returns the UUID of the store. A store that outlives the process keeps it.
	ID() string
	// CreateStream creates a stream. It returns ErrNameTaken or ErrTable for a name that conflicts with another, and
	// ErrClosed after Close.
	CreateStream(context.Context, StreamOptions) (Stream, error)
	// Stream finds a stream by id or name, or returns ErrNoStream.
	Stream(ctx context.Context, ref string) (Stream, error)
	// Streams lists all streams, newest first.
	Streams(context.Context) ([]Stream, error)
	// Consumer finds a consumer of any stream by id or name. It returns ErrNoConsumer when there is none, and
	// ErrAmbiguous when several streams have a consumer of that name.
	Consumer(ctx context.Context, ref string) (Consumer, error)
	// Probe returns nil when the store can take and answer requests, and otherwise what stands against it. A full disk does
	// not count, because all but Send still works.
	Probe(context.Context) error
	// Close ends every wait and releases what the store holds. Afterwards CreateStream, CreateConsumer, Send, Update,
	// Receive, Queue, Settle and Probe return ErrClosed. It returns what went wrong while it stored the last changes. It may
	// be called more than once.
	Close() error
}

// Stream is a handle on a stream. After the stream is deleted, Delete, Send and CreateConsumer return ErrNoStream. The
// other methods may still return what it held.
type Stream interface {
	ID() string
	Info(context.Context) (StreamInfo, error)
	// Delete removes the stream with its messages and consumers, and ends every wait of its consumers with
	// ErrNoConsumer. It returns ErrNoStream when the stream is deleted already.
	Delete(context.Context) error

	// Send stores all messages or none, and returns how many of them changed the stream. It returns ErrFull when they do
	// not fit, ErrDiskFull when the store has no room, and ErrDoubledKey where a batch may not hold a key twice. Send keeps
	// neither the slice nor the strings: what is kept of a message is copied. It may replace the strings by their copies.
	//
	// When a send with this key has succeeded, Send stores nothing and returns the result of that send, or ErrOtherBody when
	// the bodies differ. When one of PartOf has succeeded it stores nothing either, and its own key counts as a success from
	// then on. When such a send still runs Send waits for it. A stream remembers the successes of the last 10 minutes, at
	// most the latest million, and no failures.
	Send(context.Context, Once, []Message) (published int, err error)
	// Get returns the newest message of a key, or ErrNoMessage.
	Get(ctx context.Context, key string) (Message, error)
	// List returns messages in the order of their seq. It may stop early, after the message with which they hold
	// MaxAnswerBytes or more. Another List then continues after it.
	List(context.Context, ListQuery) ([]Message, error)
	// States returns the newest message of a key and its state at every consumer whose filter matches the key, or
	// ErrNoMessage.
	States(ctx context.Context, key string) (Message, []ConsumerView, error)

	// CreateConsumer creates a consumer that starts where its options say. It returns ErrNameTaken when the
	// stream has a consumer of that name, and ErrTable when its name conflicts with another one.
	CreateConsumer(context.Context, ConsumerOptions) (Consumer, error)
	// Consumer finds a consumer of this stream by id or name, or returns ErrNoConsumer.
	Consumer(ctx context.Context, ref string) (Consumer, error)
	// Consumers lists the stream's consumers in the order of their creation.
	Consumers(context.Context) ([]Consumer, error)
}

// Extended is an optional interface of a Store: its Streams are ExtendedStreams, and its consumers start where their options
// say. It is not a part of Store so that a store that is older than it can still be used.
type Extended interface {
	Store
	// Extended does nothing.
	Extended()
}

// KeepsHeaders is an optional interface of a Store: it keeps the headers of messages. The messages for any other store must
// have none.
type KeepsHeaders interface {
	Store
	// KeepsHeaders does nothing.
	KeepsHeaders()
}

// ExtendedStream is a Stream of an Extended store.
type ExtendedStream interface {
	Stream
	// Purge removes the messages that a query asks for, and returns how many it has removed. Leases and delays of them end. The
	// seqs of the others do not change, and sends are remembered as before. After ErrUnknown it may have removed some of them,
	// those with the lowest seqs.
	Purge(context.Context, PurgeQuery) (purged int, err error)

	// SeqAt returns the seq of the first message that was stored at a time or later, or the seq behind the last message. A
	// replaced message counts with its newest version only.
	SeqAt(context.Context, time.Time) (int64, error)
}

// Consumer is a handle on a consumer. After the consumer or its stream is deleted, Update, Receive, Queue and Settle
// return ErrNoConsumer. The other methods may still return what it held.
type Consumer interface {
	ID() string
	StreamID() string
	Info(context.Context) (ConsumerInfo, error)
	// Update replaces the limits and returns the consumer as it is then. New limits apply at once, but leases that are
	// out keep their end.
	Update(context.Context, ConsumerLimits) (ConsumerInfo, error)
	// Delete removes the consumer and ends every wait with ErrNoConsumer. It returns ErrNoConsumer when the consumer is
	// deleted already.
	Delete(context.Context) error

	// Receive leases up to n messages and returns dst with them appended. It stops before the message with which they would
	// hold more than MaxAnswerBytes, but not before the first. It does not wait for messages: when none is available it
	// returns dst unchanged and no error. When it returns an error it appends none.
	Receive(ctx context.Context, n int, dst []Delivery) ([]Delivery, error)
	// Queue adds a place at the end of the queue of waiting receives, or returns ErrTooManyWaiting.
	Queue(context.Context) (Place, error)
	// Settle ends the leases with these ids. It ignores an id that no lease has.
	Settle(ctx context.Context, ids []ID, how Settlement) error
	// Delay ends the leases with these ids as Settle does, with how Nack or Return, but the messages become available only
	// after the delay. Until then they count toward MaxAckPending. A message that is replaced meanwhile takes its delay with
	// it: the message that replaces it is available at once. Delay ignores an id that no lease has.
	Delay(ctx context.Context, ids []ID, how Settlement, delay time.Duration) error
	// Extend makes the leases with these ids end wait from now, unless they end later already, and returns the ids whose
	// leases are out, in the order of ids. It ignores an id that no lease has.
	Extend(ctx context.Context, ids []ID, wait time.Duration) (extended []ID, err error)
	// Peek lists messages that are not settled, in the order of their seq. It leases none. It may stop early as List does.
	Peek(context.Context, PeekQuery) ([]View, error)
	// State returns a copy of the consumer's state, for inspection.
	State(context.Context) (ConsumerState, error)
}

// Place is the place of one waiting receive in its consumer's queue. The receive must call Leave when it is done.
type Place interface {
	// Ready has a value when the receive should call Receive: it is first in the queue and a message is available, or
	// the consumer is deleted, or the store has failed or is closed.
	Ready() <-chan struct{}
	// Receive is Consumer.Receive for a waiting receive. When it returns messages it also leaves the queue. When
	// another receive was faster it returns none, and the place stays first in the queue.
	Receive(ctx context.Context, n int, dst []Delivery) ([]Delivery, error)
	// Leave leaves the queue. A turn that was not used passes to the next place. It may be called more than once.
	Leave()
}

// MaxAnswerBytes limits the keys, headers and data that Receive, List and Peek return at once, so that an answer takes bounded memory.
// It is the size of the largest request. The dialect of the 2024 server does not limit a receive.
const MaxAnswerBytes = 8_000_000

// StreamOptions are the settings of a new stream. A limit of zero means no limit.
type StreamOptions struct {
	Name              string
	OneMessagePerKey  bool  // a message replaces the one with its key
	ProcessUnmodified bool  // a replacement with the same data and headers counts as a change
	MaxBytes          int64 // of keys, headers and data
	RetainUpTo        int   // messages
	RetainAtLeast     int   // messages that MaxBytes does not drop
}

// StreamInfo describes a stream as it is now.
type StreamInfo struct {
	StreamOptions
	ID         string
	InsertedAt time.Time
	UpdatedAt  time.Time
	Messages   int
	Consumers  int
	Bytes      int64 // of keys, headers and data
}

// ConsumerLimits are the settings that Update can change.
type ConsumerLimits struct {
	AckWait       time.Duration
	MaxAckPending int
	MaxDeliver    int // 0 means no limit
	MaxWaiting    int
	Disabled      bool // has no effect; the 2024 server stores it and shows it
}

// ConsumerOptions are the settings of a new consumer.
type ConsumerOptions struct {
	Name   string
	Filter string
	// Start is for Extended stores only. It is the seq of the first message that the consumer gets. One behind the last message, such as StartAtEnd, becomes
	// the seq of the next message; 0 becomes 1.
	Start int64
	ConsumerLimits
}

// StartAtEnd is the Start of a consumer that gets only messages that are stored after it.
const StartAtEnd = math.MaxInt64

// StartIn returns the start of a new consumer in a stream whose last message had a seq.
func (o ConsumerOptions) StartIn(last int64) int64 { return min(max(o.Start, 1), last+1) }

// ConsumerInfo describes a consumer as it is now.
type ConsumerInfo struct {
	ConsumerOptions
	ID         string
	StreamID   string
	InsertedAt time.Time
	UpdatedAt  time.Time
}

// Message is a message of a stream. Times are microseconds since 1970. Send reads Key, Data, Verbatim and Headers only.
type Message struct {
	Key        string
	Data       string
	Verbatim   bool // nothing in Data is escaped in JSON; a store may forget it
	Headers    headers.Packed
	Seq        int64
	InsertedAt int64
	UpdatedAt  int64
}

// Once identifies a send, so that a repeat of it is recognized. The zero value identifies none.
type Once struct {
	Key    string   // "" is never remembered
	Body   []byte   // what a repeat has in common with the first send; Send does not keep it
	PartOf []string // keys of earlier sends, each of which contained all messages of this one
}

// Delivery is a message on lease.
type Delivery struct {
	Message
	ID    ID
	Count int // deliveries of this version to this consumer, including this one
	// Expired is how many of the earlier ones ended with their leases, neither settled nor extended.
	Expired int
	At      time.Time // when the lease began; the same for all deliveries of one Receive
}

// Settlement says how a lease ends.
type Settlement uint8

const (
	Ack    Settlement = iota // the message is done
	Nack                     // the message is available again
	Return                   // the message is available again, and the delivery does not count
)

// ListQuery asks for messages of a stream.
type ListQuery struct {
	Limit   int
	Desc    bool
	Pattern string // "" matches every key
	After   int64  // only messages with a higher seq
	Before  int64  // only messages with a lower seq; 0 means no bound
}

// Next returns the query for what follows the message with this seq.
func (q ListQuery) Next(seq int64) ListQuery {
	if q.Desc {
		q.Before = seq
	} else {
		q.After = seq
	}
	return q
}

// PurgeQuery says which messages of a stream are removed. The zero value removes all that the stream has.
type PurgeQuery struct {
	Pattern string // "" matches every key
	Before  int64  // only messages with a lower seq; 0 means no bound
}

// PeekQuery asks for messages of a consumer.
type PeekQuery struct {
	ListQuery
	Visible *bool // true asks for available messages, false for the others, nil for both
}

// State is the state of a message at a consumer.
type State uint8

const (
	Available State = iota
	Delivered       // on lease
	Withheld        // waits for an earlier message of its key that is not settled
	Acked           // acked, or out of deliveries
	Delayed         // nacked, and not available yet
)

// View is a message as a consumer sees it. Times are microseconds since 1970, or zero for none.
type View struct {
	Message         Message
	ID              ID  // zero for none
	Count           int // or NoCount
	LastDeliveredAt int64
	NotVisibleUntil int64
	State           State
}

// NoCount is the Count of a View when the deliveries are not known.
const NoCount = -1

// ConsumerView is a View with the consumer it belongs to.
type ConsumerView struct {
	ConsumerID, Name, Filter string
	View
}

// ConsumerState is a copy of a consumer's state.
type ConsumerState struct {
	Info        ConsumerInfo
	Waiting     int // places in the queue
	Available   int // messages
	Delayed     int // messages
	Outstanding []Outstanding
}

// Outstanding is a lease.
type Outstanding struct {
	Delivery
	Until time.Time
}
