package sequin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/sequin-go/sequin/internal/transport"
)

// Each call makes its own go-retryablehttp client. CheckRetry and Backoff are fields of the client, and Backoff is not told
// which request it is for, so the state of a call can only be reached through a client of its own. The client is a value
// without connections, and costs nothing to make. It rewinds bodies, waits and drains answers. What is repeated, and after
// how long, is decided here: its own policy repeats a POST after a 503 and follows a Retry-After of any length.

// repeat says when a failed attempt may be repeated.
type repeat uint8

const (
	once           repeat = iota // never: the caller has a loop of its own (Publisher, Subscriber)
	idempotent                   // after any repeatable failure: sends, which have an Idempotency-Key
	unlessDamaged                // the same, but not if Sequin's own answer cannot be read: each receive leases another batch
	unlessUnserved               // the same as idempotent, but not if the URL seems wrong: reads
	ifNotActed                   // only if the server surely did not act: create, update, delete
	ifFenced                     // the same as idempotent if ack ids belong to one delivery, otherwise as ifNotActed: ack, nack
)

const (
	// unreachableFor limits how long a server that refuses connections is tried: nothing listens there, and a person may
	// be waiting.
	unreachableFor = 2 * time.Second
	// maxUnexplained is how often a 500 without a summary is repeated: if the server crashes on this message, it will do
	// so each time.
	maxUnexplained = 2
)

// retryLoop makes the attempts of one call and holds the call's state.
type retryLoop struct {
	ctx      context.Context
	client   *Client
	request  *retryablehttp.Request
	token    string // of the request
	repeat   repeat
	attempts *transport.Attempts
	lost     func(cause error) error // makes the error of an attempt without a complete answer

	failures         int            // failed attempts so far
	unexplained      int            // of these, 500s without a summary
	unreachableSince time.Time      // when the first of the latest failed dials in a row began; zero if a connection was made
	last             error          // of the latest attempt
	lastFailure      requestFailure // what last means
	lastReal         error          // the latest error that was not the end of ctx
	renewed          bool           // the token was renewed
	acted            bool           // an attempt may have been carried out
	retrying         bool           // another attempt is wanted and has not ended yet
	wait             time.Duration
}

// run makes attempts with hc until one ends the call. handle makes nil or an error of an answer. It reads the body within
// the attempt, so that a truncated answer is a failed attempt and can be repeated.
func (l *retryLoop) run(hc *http.Client, handle func(*http.Response) error) error {
	l.request.SetResponseHandler(handle)
	client := retryablehttp.Client{
		HTTPClient:   hc,
		RetryMax:     l.client.cfg.Retry.MaxAttempts, // one more than mayRepeat allows, for a renewed token
		CheckRetry:   l.check,
		Backoff:      l.backoff,
		ErrorHandler: func(_ *http.Response, err error, _ int) (*http.Response, error) { return nil, err },
	}
	if _, err := client.Do(l.request); err == nil || l.last == nil {
		return err
	}
	switch {
	case l.retrying && l.ctx.Err() != nil:
		// ctx ended while the loop waited. The error has both its end and what was wrong until then.
		return fmt.Errorf("%w; the last of %d attempts: %w", contextError(l.ctx), l.failures, l.last)
	case l.lastFailure.kind == kindInterrupted && l.lastReal != nil:
		return fmt.Errorf("%w; the attempt before: %w", l.last, l.lastReal)
	case l.failures > 1:
		return fmt.Errorf("%w (%d attempts)", l.last, l.failures)
	}
	return l.last
}

// check is go-retryablehttp's CheckRetry. It is called twice for an answer: before the body is read, with a nil error, and
// then with the error that handle returned.
func (l *retryLoop) check(_ context.Context, _ *http.Response, err error) (again bool, _ error) {
	l.retrying = false
	if err == nil {
		return false, nil
	}
	if failed, ok := err.(*url.Error); ok { // http.Client wraps every error of a RoundTripper so
		err = l.lost(failed.Err)
	}
	l.record(err)
	l.retrying = l.renewToken() || l.mayRepeat()
	return l.retrying && l.ctx.Err() == nil, nil
}

// record counts a failed attempt and chooses the wait after it.
func (l *retryLoop) record(err error) {
	l.last, l.lastFailure = err, classify(err)
	l.acted = l.acted || l.lastFailure.mayHaveActed
	l.wait = l.client.cfg.Retry.wait(l.failures, err)
	l.failures++
	if l.lastFailure.kind == kindUnexplained500 {
		l.unexplained++
	}
	if l.lastFailure.kind != kindInterrupted {
		l.lastReal = err
	}
	switch {
	case l.lastFailure.kind != kindUnreachable:
		l.unreachableSince = time.Time{}
	case l.unreachableSince.IsZero():
		l.unreachableSince = l.attempts.Began() // not time.Now: a dial that hangs has used up its time already
	}
}

// renewToken asks Config.TokenSource for another token if Sequin has refused the one of the request, once a call. It reports
// whether the request has a new one, to be repeated with it at once; that attempt is not counted.
func (l *retryLoop) renewToken() bool {
	tokens := &l.client.tokens
	if l.renewed || tokens.Source == nil || l.lastFailure.kind != kindUnauthorized || l.lastFailure.status() != http.StatusUnauthorized {
		return false
	}
	l.renewed = true
	tokens.Refuse(l.token)
	token, err := l.client.token(l.ctx)
	if err != nil {
		l.last = fmt.Errorf("%w; Config.TokenSource: %w", l.last, err)
		return false
	}
	l.token = token
	// A copy: net/http may still be writing the header of the attempt before.
	l.request.Header = l.request.Header.Clone()
	authorize(l.request.Header, token)
	l.failures--
	l.wait = 0
	return true
}

// outcomeUnknown reports whether the call, which failed, may have been carried out, and matters if it was. With ifNotActed
// only the latest attempt counts: those before it were repeated because the server surely had not acted.
func (l *retryLoop) outcomeUnknown() bool {
	return l.repeat == ifNotActed && l.lastFailure.mayHaveActed || l.repeat == ifFenced && l.acted
}

// mayRepeat reports whether the latest failed attempt may be repeated.
func (l *retryLoop) mayRepeat() bool {
	f := l.lastFailure
	switch {
	case f.kind == kindInterrupted, l.repeat == once, l.failures >= l.client.cfg.Retry.MaxAttempts, l.unexplained > maxUnexplained:
		return false
	case l.changes() && !f.surelyNotActed(), l.repeat == unlessDamaged && f.kind == kindUnreadable && !f.foreign,
		l.repeat == unlessUnserved && f.unserved():
		return false
	case !l.unreachableSince.IsZero() && time.Since(l.unreachableSince)+l.wait > unreachableFor:
		return false
	}
	return f.repeatable()
}

// changes reports whether the request must not be carried out twice.
func (l *retryLoop) changes() bool {
	return l.repeat == ifNotActed || l.repeat == ifFenced && !l.client.extensions().fencedAcks
}

// backoff is go-retryablehttp's Backoff. It logs the repeat and returns the wait before it.
func (l *retryLoop) backoff(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	if l.wait == 0 { // a token was renewed, which is no trouble
		return 0
	}
	l.client.cfg.Logger.LogAttrs(l.ctx, slog.LevelWarn, "sequin: repeats a request", slog.Int("attempts", l.failures),
		slog.Duration("wait", l.wait), slog.Any("error", l.last))
	return l.wait
}
