package batch

import (
	"context"
	"errors"
	"fmt"
)

// Errors of an Engine. Their texts name the library, because its users see them.
var (
	// ErrClosed: the engine has been closed.
	ErrClosed = errors.New("sequin: closed")
	// ErrBufferFull: there is no room, and Admit was asked not to wait.
	ErrBufferFull = errors.New("sequin: buffer full")
	// ErrFailuresPending: there is no room, and the buffer holds nothing but failed items that have not been released.
	ErrFailuresPending = errors.New("sequin: buffer full of uncollected failures")
)

// ended returns the error of a ctx that has ended, with its cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
