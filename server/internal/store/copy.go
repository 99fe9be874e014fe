package store

import (
	"context"
	"errors"
	"fmt"

	unsettled "github.com/sequin-go/sequin/server/internal/backlog"
)

// Copyable is an optional interface of a Store: its streams can be copied to another Copyable store, with what their consumers
// have settled. Its Streams are CopyableStreams, and its Consumers CopyableConsumers.
type Copyable interface {
	Store
	// CreateCopy creates a stream with the options and the time of another one, whose id is of. Its mark is CopyTarget.
	CreateCopy(ctx context.Context, info StreamInfo, of string) (Stream, error)
}

// CopyableStream is a Stream of a Copyable store. RestoreMessages, RestoreSends and RestoreConsumer are for a stream with the
// mark CopyTarget.
type CopyableStream interface {
	Stream
	// CopyMark returns the mark of the stream.
	CopyMark(context.Context) (CopyMark, error)
	// SetCopyMark marks the stream. While its mark is another than NotCopied, Queue and every method that changes the stream or
	// a consumer of it return ErrCopying, except for Delete of the stream and the methods of this interface. The mark outlives a
	// Close. When SetCopyMark has returned, no change is under way, and none that was left for the stream in a transaction.
	SetCopyMark(context.Context, CopyMark) error

	// NextSeq returns the seq of the next message.
	NextSeq(context.Context) (int64, error)
	// RestoreMessages stores messages with their seqs and times, which ascend. Those that the stream has already are left out.
	// next is the seq of the next message afterwards. No limit of the stream drops messages.
	RestoreMessages(ctx context.Context, messages []Message, next int64) error
	// Sends returns the sends that the stream remembers, oldest first.
	Sends(context.Context) ([]RememberedSend, error)
	// RestoreSends makes the stream remember sends.
	RestoreSends(context.Context, []RememberedSend) error
	// RestoreConsumer creates a consumer at a position, with the options and times of another one. The stream must have its
	// messages.
	RestoreConsumer(context.Context, ConsumerInfo, Position) error
}

// CopyableConsumer is a Consumer of a Copyable store.
type CopyableConsumer interface {
	Consumer
	// Position ends all leases, as a Nack does, and returns what the consumer has not settled.
	Position(context.Context) (Position, error)
}

// Position is what a consumer has not settled.
type Position = unsettled.Position

// CopyState says what a stream is in a copy from one store to another.
type CopyState uint8

const (
	NotCopied  CopyState = iota
	CopySource           // it is being copied to another store
	CopyDone             // it was copied to another store
	CopyTarget           // it is being copied from another store
)

// CopyMark is what a stream is in a copy, and the id of the stream at the other end.
type CopyMark struct {
	State CopyState
	Peer  string
}

// ErrCopying is the error of a change of a stream with a mark.
var ErrCopying = errors.New("stream is read-only")

// Err returns ErrCopying with the reason, or nil for NotCopied.
func (m CopyMark) Err() error {
	switch m.State {
	case NotCopied:
		return nil
	case CopySource:
		return fmt.Errorf("%w: it is being copied to another store", ErrCopying)
	case CopyDone:
		return fmt.Errorf("%w: it was copied to another store, which serves it now", ErrCopying)
	}
	return fmt.Errorf("%w: it is being copied from another store, and is not complete yet", ErrCopying)
}

// NotTarget returns the error of a Restore method unless the mark is CopyTarget.
func (m CopyMark) NotTarget() error {
	if m.State == CopyTarget {
		return nil
	}
	return fmt.Errorf("%w: the stream is not the target of a copy", ErrFailed)
}

// RememberedSend is a send that has succeeded.
type RememberedSend struct {
	Key       [16]byte // the first half of the SHA-256 of its Idempotency-Key
	Body      BodyHash
	Published int64
	At        int64 // microseconds since 1970
}
