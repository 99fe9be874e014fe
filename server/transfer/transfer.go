// Package transfer copies streams from one store to another: from a directory to a Postgres, between two of them, or back.
//
//	from, err := durable.Open("/var/lib/sequin", durable.Options{})
//	to, err := postgres.Open(ctx, url, postgres.Options{})
//	report, err := transfer.Copy(ctx, from, to, transfer.Options{})
//
// A copy of a stream has its messages with their seqs and times, its consumers with their options and with what each of them
// has settled, delivery counts and delays, and the sends that the stream remembers by their idempotency keys. What is on lease
// is available again. The ids of streams and consumers are new, and ack ids of the other store are not known.
//
// The stream that is copied becomes read-only: sends, receives and acks are refused with 503 on every server that uses
// the store. It stays so after the copy, so that nobody sends to the wrong place. The copy can be used when it is complete. A copy
// that was stopped, by a crash too, goes on when it is started again. Cancel gives it up.
package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Options says what is copied.
type Options struct {
	// Streams are the names or ids of the streams. Default: all.
	Streams []string
	// Progress is called after each step, from the goroutine that called Copy. Default: none.
	Progress func(Progress)
}

// Progress is how far a copy is.
type Progress struct {
	Stream string // the one that is copied
	Copied int64  // messages of all streams, those of earlier runs among them
	Total  int64  // messages of all streams when the copy began
}

// Report is what Copy has done.
type Report struct {
	Streams []StreamReport `json:"streams"`
}

// StreamReport is what was copied of a stream.
type StreamReport struct {
	Name      string `json:"name"`
	Messages  int64  `json:"messages"`
	Bytes     int64  `json:"bytes"` // of keys and data
	Consumers int    `json:"consumers"`
	// Before says that an earlier run has copied the stream.
	Before bool `json:"before"`
}

// The errors of Copy and Cancel, for errors.Is.
var (
	// ErrNoStream says that there is no such stream to copy.
	ErrNoStream = store.ErrNoStream
	// ErrTaken says that the other store has a stream of the name that is not a copy of this one.
	ErrTaken = errors.New("the target has another stream of that name")
	// ErrElsewhere says that the stream is being copied, or was copied, to another store.
	ErrElsewhere = errors.New("the stream is being copied, or was copied, to another store")
	// ErrIncomplete says that the stream is itself a copy that is not complete.
	ErrIncomplete = errors.New("the stream is a copy that is not complete")
	// ErrHeaders says that messages have headers, which the other store does not keep.
	ErrHeaders = errors.New("the stream has messages with headers, which the target does not keep")
	// ErrUnsupported says that a store cannot be copied: one in memory.
	ErrUnsupported = errors.New("the store cannot be copied from or to: use a directory or a Postgres")
)

// Copy copies streams from one store to another. All streams are checked before the first is made read-only. It returns what it
// has copied, also with an error. It holds about 32 MB in memory, and what one consumer has not settled. It starts no goroutine.
func Copy(ctx context.Context, from, to server.Store, o Options) (Report, error) {
	report := Report{Streams: []StreamReport{}}
	c, err := newCopies(ctx, from, to, o, false)
	if err != nil {
		return report, err
	}
	for _, p := range c.pairs {
		done, err := c.copy(ctx, p)
		if err != nil {
			return report, fmt.Errorf("stream %s: %w", p.info.Name, err)
		}
		report.Streams = append(report.Streams, done)
	}
	return report, nil
}

// Cancel makes streams writable again that are being copied, and deletes what was copied of them. A stream whose copy is complete
// stays as it is. When to is nil it makes all of them writable again, and deletes nothing: that is for a target that is gone. It
// returns the names of the streams that are writable again.
func Cancel(ctx context.Context, from, to server.Store, o Options) ([]string, error) {
	canceled := []string{}
	c, err := newCopies(ctx, from, to, o, true)
	if err != nil {
		return canceled, err
	}
	for _, p := range c.pairs {
		done, err := p.cancel(ctx)
		if err != nil {
			return canceled, fmt.Errorf("stream %s: %w", p.info.Name, err)
		}
		if done {
			canceled = append(canceled, p.info.Name)
		}
	}
	return canceled, nil
}
