package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// This file decides what a request is answered when the store cannot serve it. Each answer says what happened, what
// became of the request, and what to do.

// errDiskFull answers a send. It has the status of a full stream, because a client does the same about both: it keeps the
// messages and tries again later.
var errDiskFull = &failure{status: http.StatusConflict, summary: "The disk of the server is full. Nothing was stored, receives and acks still work. Repeat the send when there is room again"}

// storeFailureOf returns the answer to an error that says that the store, and not the request, is at fault.
func storeFailureOf(err error) *failure {
	switch {
	case errors.Is(err, store.ErrClosed):
		return errClosed
	// Before the others, because it may be wrapped together with the cause.
	case errors.Is(err, store.ErrUnknown):
		return unknown("The store did not confirm the change: %v. It may have taken place or not. Repeat the request only if it may be carried out twice", err)
	case errors.Is(err, store.ErrDamaged):
		return unavailable("What the request needs cannot be read: %v. Nothing was changed. A repeat does not help until the store is repaired", err)
	case errors.Is(err, store.ErrDiskFull):
		return unavailable("The disk of the server is full: %v. Nothing was changed. Repeat the request when there is room again", err)
	case errors.Is(err, store.ErrReadOnly):
		return unavailable("The store cannot be written: %v. Nothing was changed. A repeat does not help until it can", err)
	case errors.Is(err, store.ErrCopying):
		return unavailable("The %v. Nothing was changed. Repeat the request later", err)
	case errors.Is(err, store.ErrFailed):
		return unavailable("The store cannot serve requests: %v. Nothing was changed. Repeat the request later", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("The request ended before the store answered it: %v. Nothing was changed. Repeat the request later", err)
	}
	// A store should not return other errors. What they mean for a change is not known.
	return unknown("The store failed: %v. A change may have taken place or not. Repeat the request only if it may be carried out twice", err)
}

func unavailable(format string, err error) *failure {
	f := badRequest(format, err)
	f.status = http.StatusServiceUnavailable
	return f
}

func unknown(format string, err error) *failure {
	f := unavailable(format, err)
	f.unknown = true
	return f
}

// outcome is the "outcome" of the answer's body.
func (f *failure) outcome() string {
	if f.unknown {
		return "unknown"
	}
	return ""
}

// changed returns the error of a request that failed after a change of it had taken place.
func changed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}

// failureOf returns the answer to an error of a handler, and logs one that the operator has to know about.
func (c *call) failureOf(err error) *failure {
	f := failureOf(err)
	if f.status == http.StatusServiceUnavailable && f != errClosed && f.retryAfter == "" && c.ctx().Err() == nil {
		c.srv.faults.log(c.srv.log, c.r, f.summary)
	}
	return f
}

// faultInterval is the least time between two lines about failures of the store. While it fails every request does.
const faultInterval = time.Minute

// storeLog logs failures of the store. The zero value is ready for use.
type storeLog struct {
	mu   sync.Mutex // guards last
	last time.Time  // of the last line
}

func (l *storeLog) log(to *slog.Logger, r *http.Request, summary string) {
	if l.due() {
		to.Error("a request failed because of the store", "method", r.Method, "path", r.URL.Path, "summary", summary)
	}
}

func (l *storeLog) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) < faultInterval {
		return false
	}
	l.last = now
	return true
}
