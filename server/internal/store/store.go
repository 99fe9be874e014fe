// Package store keeps streams, their messages and what each consumer has of them.
//
// The interfaces work on sets (send a batch, receive n, settle ids, wait for change), never on one message at a time, so
// that a database can stand behind them. Everything that a request says is checked before it comes here: a store trusts
// names, keys, patterns and numbers, and answers with the errors below only.
package store

import (
	"errors"
	"time"
)

// What a store refuses.
var (
	ErrNoStream       = errors.New("no such stream")
	ErrNoConsumer     = errors.New("no such consumer")
	ErrNoMessage      = errors.New("no such message")
	ErrNameTaken      = errors.New("name is taken")
	ErrNameCase       = errors.New("name differs from another in case only")
	ErrAmbiguous      = errors.New("name is used by consumers of several streams")
	ErrDoubledKey     = errors.New("a key occurs twice in one batch")
	ErrFull           = errors.New("stream is full")
	ErrTooManyWaiting = errors.New("too many receives are waiting")
	ErrClosed         = errors.New("store is closed")
)

// Store holds streams. All methods of all three interfaces may be called concurrently.
type Store interface {
	CreateStream(StreamOptions) (Stream, error)
	// Stream finds a stream by id or name.
	Stream(ref string) (Stream, error)
	// Streams lists them newest first.
	Streams() []Stream
	// Consumer finds a consumer in whatever stream it is, by id or name: ErrAmbiguous when the name is used twice.
	Consumer(ref string) (Consumer, error)
	// Close wakes everyone who waits; Receive answers ErrClosed from then on.
	Close()
}

// Stream is a handle; after the stream is deleted its methods answer ErrNoStream or nothing.
type Stream interface {
	ID() string
	Info() StreamInfo
	Delete() error

	// Send stores all messages or none and returns how many changed the stream. The slice stays the caller's, the
	// strings become the store's.
	Send([]Message) (published int, err error)
	// Get returns the newest message with this key.
	Get(key string) (Message, error)
	List(ListQuery) []Message
	// States tells how every consumer whose filter matches the key stands to its newest message.
	States(key string) (Message, []ConsumerView, error)

	CreateConsumer(ConsumerOptions) (Consumer, error)
	// Consumer finds a consumer of this stream by id or name.
	Consumer(ref string) (Consumer, error)
	// Consumers lists them in the order of their creation.
	Consumers() []Consumer
}

// Consumer is a handle; after the consumer or its stream is deleted its methods answer ErrNoConsumer or nothing.
type Consumer interface {
	Info() ConsumerInfo
	Update(ConsumerLimits) (ConsumerInfo, error)
	Delete() error

	// Receive leases up to n messages and appends them to dst, which it returns; none is no error. It does not wait.
	Receive(n int, dst []Delivery) ([]Delivery, error)
	// Queue takes a place in the line of the receives that wait.
	Queue() (Place, error)
	// Settle ends the leases with these ids; an id that no lease has is passed over.
	Settle(ids []ID, how Settlement) error
	// Peek lists the messages that are not settled, leasing none.
	Peek(PeekQuery) []View
	// State returns a copy of what the consumer has, for inspection.
	State() ConsumerState
}

// Place is one receive's place in the line. Whoever has one calls Leave when done, always.
type Place interface {
	// Ready receives when it is this place's turn to call Receive, and when the consumer is gone or the store closed.
	Ready() <-chan struct{}
	// Receive is Consumer.Receive for whoever stands in line: with something received the place is given up.
	Receive(n int, dst []Delivery) ([]Delivery, error)
	// Leave gives the place up; a turn that was not used passes to the next in line. It may be called more than once.
	Leave()
}

// StreamOptions say what a new stream keeps. Zero limits are none.
type StreamOptions struct {
	Name              string
	OneMessagePerKey  bool
	ProcessUnmodified bool
	MaxBytes          int64 // of keys and data
	RetainUpTo        int
	RetainAtLeast     int
}

// StreamInfo is a stream as it is now.
type StreamInfo struct {
	StreamOptions
	ID         string
	InsertedAt time.Time
	UpdatedAt  time.Time
	Messages   int
	Consumers  int
	Bytes      int64 // of keys and data
}

// ConsumerLimits are the settings that Update can change.
type ConsumerLimits struct {
	AckWait       time.Duration
	MaxAckPending int
	MaxDeliver    int // 0: without limit
	MaxWaiting    int
}

// ConsumerOptions describe a new consumer.
type ConsumerOptions struct {
	Name   string
	Filter string
	ConsumerLimits
}

// ConsumerInfo is a consumer as it is now.
type ConsumerInfo struct {
	ConsumerOptions
	ID         string
	StreamID   string
	InsertedAt time.Time
	UpdatedAt  time.Time
}

// Message is a message of a stream; a Send looks at Key and Data only. Times are microseconds since 1970.
type Message struct {
	Key        string
	Data       string
	Seq        int64
	InsertedAt int64
	UpdatedAt  int64
}

// Delivery is a message on lease.
type Delivery struct {
	Message
	ID    ID
	Count int       // deliveries of this version to this consumer, this one included
	At    time.Time // when the lease began; the same for all of one Receive
}

// Settlement says how a lease ends.
type Settlement uint8

const (
	Ack    Settlement = iota // the message is done
	Nack                     // it is available again
	Return                   // it is available again, as if it had not been delivered
)

// ListQuery asks for messages of a stream.
type ListQuery struct {
	Limit   int
	Desc    bool
	Pattern string // "" matches every key
}

// PeekQuery asks for messages of a consumer.
type PeekQuery struct {
	ListQuery
	Visible *bool // nil asks for both kinds
}

// State is how a consumer stands to a message.
type State uint8

const (
	Available State = iota
	Delivered       // on lease
	Withheld        // behind an unsettled message of its key
	Acked           // done, or out of deliveries
)

// View is a message as a consumer sees it. Times are microseconds since 1970, zero when there is none.
type View struct {
	Message         Message
	ID              ID // zero when it has none
	Count           int
	LastDeliveredAt int64
	NotVisibleUntil int64
	State           State
}

// ConsumerView is a View and whose it is.
type ConsumerView struct {
	ConsumerID, Name, Filter string
	View
}

// ConsumerState is a copy of a consumer's inside.
type ConsumerState struct {
	Info        ConsumerInfo
	Waiting     int
	Available   int
	Outstanding []Outstanding
}

// Outstanding is a lease.
type Outstanding struct {
	Delivery
	Until time.Time
}
