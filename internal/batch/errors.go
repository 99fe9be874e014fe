package batch

import (
	"context"
	"errors"
	"fmt"
)

// The texts name the library, not this package: its users see them.
var (
	// ErrClosed: Close has been called.
	ErrClosed = errors.New("sequin: closed")
	// ErrBufferFull: an Admit that must not wait found no room.
	ErrBufferFull = errors.New("sequin: buffer full")
	// ErrFailuresPending: there is no room, and the buffer holds only failed items that nobody has released.
	ErrFailuresPending = errors.New("sequin: buffer full of uncollected failures")
)

// ended is the error of a ctx that has ended, with its cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
