package sequin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/transport"
	"github.com/sequin-go/sequin/internal/wire"
)

// Each call makes its own go-retryablehttp client. CheckRetry and Backoff are fields of the client, and Backoff does not get
// the request, so only a client of its own gives a call access to its state. The client is a value without connections, and
// costs nothing to make. It rewinds bodies, waits, and drains answers. This file decides what is retried and after how long,
// because the policy of go-retryablehttp retries a POST after a 503 and follows a Retry-After of any length.

// retryPolicy says when a failed attempt may be retried.
type retryPolicy uint8

const (
	neverRetry     retryPolicy = iota // the caller has its own loop (Publisher, Subscriber)
	idempotent                        // after any retryable failure: sends, which have an Idempotency-Key
	unlessDamaged                     // as idempotent, but not if Sequin's own answer is unreadable: receives
	unlessUnserved                    // as idempotent, but not if the URL seems wrong: reads
	ifNotActed                        // only if the server surely did not act: create, update, delete
	ifFenced                          // as idempotent if an ack id belongs to one delivery, otherwise as ifNotActed: ack, nack
)

const (
	// unreachableFor limits how long a call is retried while the server refuses connections. No server listens there, and
	// a person may be waiting.
	unreachableFor = 2 * time.Second
	// maxUnexplained is how often a 500 without a summary is retried. If the server crashes on this message, it does so
	// each time.
	maxUnexplained = 2
)

// retryLoop makes the attempts of one call and holds the call's state.
type retryLoop struct {
	ctx      context.Context
	client   *Client
	request  *retryablehttp.Request
	token    string // of the request
	retry    retryPolicy
	attempts *transport.Attempts
	ends     time.Time               // when the call must have ended; zero if only its attempts are limited
	lost     func(cause error) error // makes the error of an attempt without a complete answer
	observed *observed
	logged   []any // names the call in the log; nil if it has no lines

	failures         int            // failed attempts so far
	unexplained      int            // answers 500 without a summary so far
	unreachableSince time.Time      // when the first failed dial in a row began; zero if the latest attempt had a connection
	last             error          // error of the latest attempt
	lastFailure      requestFailure // classify(last)
	lastReal         error          // the latest error that was not the end of ctx
	renewed          bool           // the token was renewed
	acted            bool           // the server may have carried out an attempt
	retrying         bool           // another attempt is planned or runs
	wait             time.Duration  // before the next attempt
}

// run makes attempts with hc until one ends the call. handle turns an answer into nil or an error. It reads the body within
// the attempt, so that a truncated answer is a failed attempt and can be retried.
func (l *retryLoop) run(hc *http.Client, handle func(*http.Response) error) error {
	l.request.SetResponseHandler(handle)
	client := retryablehttp.Client{
		HTTPClient:   hc,
		RetryMax:     l.client.cfg.Retry.MaxAttempts, // one more than mayRetry allows, for a renewed token
		CheckRetry:   l.check,
		Backoff:      l.backoff,
		ErrorHandler: func(_ *http.Response, err error, _ int) (*http.Response, error) { return nil, err },
	}
	if _, err := client.Do(l.request); err == nil || l.last == nil {
		return err
	}
	switch {
	case l.retrying && l.ctx.Err() != nil:
		// ctx ended while the loop waited. Report both: that ctx ended, and the last failure before that.
		return fmt.Errorf("%w; the last of %d attempts: %w", contextError(l.ctx), l.failures, l.last)
	case l.lastFailure.kind == kindInterrupted && l.lastReal != nil:
		return fmt.Errorf("%w; the attempt before: %w", l.last, l.lastReal)
	case l.failures > 1:
		return fmt.Errorf("%w (%d attempts)", l.last, l.failures)
	}
	return l.last
}

// check is go-retryablehttp's CheckRetry. It is called twice for an answer: with a nil error before the body is read, and
// then with the error that handle returned.
func (l *retryLoop) check(_ context.Context, _ *http.Response, err error) (again bool, _ error) {
	l.retrying = false
	if err == nil {
		return false, nil
	}
	if failed, ok := err.(*url.Error); ok { // the form in which http.Client returns the error of a RoundTripper
		err = l.lost(failed.Err)
		l.observed.done(0, err)
	}
	l.record(err)
	l.retrying = l.renewToken() || l.mayRetry()
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
		l.unreachableSince = l.attempts.Began() // not time.Now: a dial that timed out has used up this time already
	}
}

// renewToken asks Config.TokenSource for another token if Sequin has refused the token of the request with 401. It does so
// once in a call. It reports whether the request has a new token; it is then retried at once, and the refused attempt does
// not count.
func (l *retryLoop) renewToken() bool {
	tokens := &l.client.tokens
	if l.renewed || tokens.Source == nil || l.lastFailure.kind != kindUnauthorized || l.lastFailure.status() != http.StatusUnauthorized {
		return false
	}
	l.renewed = true
	tokens.Refuse(l.token)
	token, err := l.client.token(l.ctx)
	if err == nil {
		err = leaveTime(l.attempts, l.ends)
	}
	if err != nil {
		api := l.lastFailure.api
		l.last = l.client.noToken(l.ctx, api.Method, api.Path, l.last, err)
		l.lastFailure = classify(l.last)
		return false
	}
	l.token = token
	// The header is copied, because net/http may still be writing the header of the previous attempt.
	l.request.Header = l.request.Header.Clone()
	authorize(l.request.Header, token)
	l.failures--
	l.wait = 0
	return true
}

// noToken makes the error of a request for which there was no token. refused is Sequin's answer that refused the token before,
// nil if nothing was sent.
func (c *Client) noToken(ctx context.Context, method, path string, refused, err error) error {
	if ctx.Err() != nil {
		return &connError{method: method, path: path, baseURL: c.cfg.BaseURL, kind: kindInterrupted, cause: contextError(ctx)}
	}
	return &tokenError{method: method, path: path, refused: refused, cause: err}
}

// errLateToken is the cause of a tokenError if a token came when the call must have ended.
var errLateToken = errors.New("the token came too late for this attempt")

// leaveTime limits the next attempt to the time that Config.TokenSource has left of a call. A settle must not reach the server
// after the end of its lease. ends is zero if the call is not limited.
func leaveTime(a *transport.Attempts, ends time.Time) error {
	if ends.IsZero() {
		return nil
	}
	if a.Timeout = time.Until(ends); a.Timeout <= 0 {
		return errLateToken
	}
	return nil
}

// outcomeUnknown reports whether the server may have carried out the failed call, for calls where that matters. With
// ifNotActed only the latest attempt counts: the earlier ones were retried because the server surely had not acted.
func (l *retryLoop) outcomeUnknown() bool {
	return l.retry == ifNotActed && l.lastFailure.mayHaveActed || l.retry == ifFenced && l.acted
}

// mayRetry reports whether the latest failed attempt may be retried.
func (l *retryLoop) mayRetry() bool {
	f := l.lastFailure
	switch {
	case f.kind == kindInterrupted, f.kind == kindNoToken, l.retry == neverRetry, l.failures >= l.client.cfg.Retry.MaxAttempts, l.unexplained > maxUnexplained:
		return false
	case l.mustNotRepeat() && !f.surelyNotActed(), l.retry == unlessDamaged && f.kind == kindUnreadable && !f.foreign,
		l.retry == unlessUnserved && f.unserved():
		return false
	case !l.unreachableSince.IsZero() && time.Since(l.unreachableSince)+l.wait > unreachableFor:
		return false
	}
	return f.retryable()
}

// mustNotRepeat reports whether the request must not be carried out twice.
func (l *retryLoop) mustNotRepeat() bool {
	return l.retry == ifNotActed || l.retry == ifFenced && !l.client.extensions().Has(wire.FencedAcks)
}

// backoff is go-retryablehttp's Backoff. It logs the retry and returns the wait before it.
func (l *retryLoop) backoff(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	if l.wait == 0 { // a token was renewed, which is not logged
		return 0
	}
	if l.logged != nil {
		args := append(slices.Clip(l.logged), "attempts", l.failures, "retry_in", l.wait, "error", l.last)
		l.client.log.Later(l.ctx, slog.LevelWarn, "retries a request", args...)
	}
	return l.wait
}

// observed is a call whose attempts are reported to RequestStart and RequestDone, or logged. A nil *observed reports nothing.
type observed struct {
	hooks *hooks
	lines *linelog.Log
	info  RequestInfo
	got   func() int      // see request
	logs  bool            // there is a line for each attempt
	ctx   context.Context // of the latest attempt
	began time.Time       // the same
	bytes int             // read of its answer
}

// start begins an attempt and returns its context.
func (o *observed) start(ctx context.Context) context.Context {
	o.info.Attempt++
	o.began, o.bytes = time.Now(), 0
	o.ctx = o.hooks.startRequest(ctx, o.info)
	return o.ctx
}

// read notes the length of an answer.
func (o *observed) read(bytes int) {
	if o != nil {
		o.bytes = bytes
	}
}

// done ends an attempt.
func (o *observed) done(status int, err error) {
	if o == nil {
		return
	}
	result := RequestResult{Status: status, Err: err, Duration: time.Since(o.began), Bytes: o.bytes}
	var api *APIError
	if errors.As(err, &api) {
		result.RetryAfter = api.retryAfter
	}
	if o.got != nil && err == nil {
		result.Messages = o.got()
	}
	o.hooks.endRequest(o.ctx, o.info, result)
	if o.logs {
		o.log(result)
	}
}

// log writes the line of an attempt in the background: no request waits for the log.
func (o *observed) log(r RequestResult) {
	messages := o.info.Messages
	if o.got != nil {
		messages = r.Messages
	}
	args := append(o.info.attrs(), "attempt", o.info.Attempt, "messages", messages, "bytes", o.info.Bytes+r.Bytes,
		"status", r.Status, "took", r.Duration, "request_id", o.info.RequestID)
	if r.Err != nil {
		args = append(args, "error", r.Err)
	}
	o.lines.Later(o.ctx, slog.LevelDebug, "request", args...)
}
