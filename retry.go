package sequin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/sequin-go/sequin/internal/transport"
)

// RetryConfig says how often, and how patiently, a one-shot call is repeated. Its waits are also the backoff of
// Publisher and Subscriber, which repeat without a limit of attempts.
type RetryConfig struct {
	// MaxAttempts counts the first attempt too; 1 repeats nothing. Default 4. A refused dial gives up within 2 s
	// however many attempts are left.
	MaxAttempts int
	// MinWait is the wait after the first attempt. It doubles with each further one, up to MaxWait; the actual wait is
	// drawn between half of it and all of it. Defaults 100 ms and 5 s. A Retry-After of the server is honoured up to MaxWait.
	MinWait, MaxWait time.Duration
}

func (r RetryConfig) withDefaults() RetryConfig {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 4
	}
	// A bound that the caller set alone moves the other one's default, which is no mistake of the caller's.
	switch minWait, maxWait := 100*time.Millisecond, 5*time.Second; {
	case r.MinWait == 0 && r.MaxWait == 0:
		r.MinWait, r.MaxWait = minWait, maxWait
	case r.MinWait == 0:
		r.MinWait = min(minWait, r.MaxWait)
	case r.MaxWait == 0:
		r.MaxWait = max(maxWait, r.MinWait)
	}
	return r
}

func (r RetryConfig) validate() error {
	switch {
	case r.MaxAttempts < 1:
		return fmt.Errorf("%w: Retry.MaxAttempts is %d, must be at least 1", ErrInvalidConfig, r.MaxAttempts)
	case r.MinWait <= 0 || r.MaxWait < r.MinWait:
		return fmt.Errorf("%w: Retry.MinWait %v and MaxWait %v, must be 0 < MinWait <= MaxWait", ErrInvalidConfig, r.MinWait, r.MaxWait)
	}
	return nil
}

// wait is how long to pause after the n-th failure in a row (n from 0). Drawn at random from the upper half, so that
// clients which failed together do not come back together.
func (r RetryConfig) wait(n int, cause error) time.Duration {
	d := r.MaxWait
	if n < 63 && r.MinWait<<n>>n == r.MinWait { // else the doubling has left the 63 bits of a Duration
		d = min(r.MinWait<<n, r.MaxWait)
	}
	d = d/2 + rand.N(d/2+1)
	var api *APIError
	if errors.As(cause, &api) {
		// The ceiling holds for the server's wish too: a Retry-After of an hour must not stop a producer for an hour.
		d = max(d, min(api.retryAfter, r.MaxWait))
	}
	return d
}

// unreachableFor bounds the repeats of a dial that is refused: nobody listens, and a person may be waiting.
const unreachableFor = 2 * time.Second

// repeat says when a failed attempt may be made again.
type repeat uint8

const (
	once       repeat = iota // never: the caller owns the loop (Publisher, pollers, settles)
	idempotent               // after anything transient: reads, and sends under their Idempotency-Key
	unanswered               // so too, but not after a whole answer that cannot be read: each receive leases another batch
	ifNotActed               // only when the server surely did not act: create, update, delete, ack, nack
)

// isTransient reports whether the same request may succeed later: the connection failed, or the status says so.
func isTransient(err error) bool {
	var api *APIError
	if errors.As(err, &api) {
		switch api.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
	}
	var lost *connError
	return errors.As(err, &lost) || unexplained500(err)
}

// unexplained500 reports whether err is a bare 500, the 2024 server's crash: given both by a server in trouble and for a
// message that the server cannot store, so that it decides nothing by itself.
func unexplained500(err error) bool {
	var api *APIError
	return errors.As(err, &api) && api.Status == http.StatusInternalServerError && api.Summary == ""
}

// mayHaveActed reports whether a failed request may have been carried out all the same.
func mayHaveActed(err error) bool {
	var api *APIError
	if errors.As(err, &api) {
		return api.Status == http.StatusRequestTimeout || api.Status >= 500 && api.Status != http.StatusServiceUnavailable
	}
	var lost *connError
	return errors.As(err, &lost) && lost.sent
}

// surelyNotActed reports whether a failed request left the server untouched: it was never reached, or it said that it
// does not serve now. Everything else transient may have been carried out before its answer was lost.
func surelyNotActed(err error) bool {
	var api *APIError
	if errors.As(err, &api) {
		return api.Status == http.StatusTooManyRequests || api.Status == http.StatusServiceUnavailable
	}
	var lost *connError
	return errors.As(err, &lost) && !lost.sent
}

// connError is a request that got no complete answer.
type connError struct {
	method, path, baseURL string
	dial                  bool // no connection was made
	sent                  bool // the whole request may have reached the server
	cut                   bool // because the caller's context ended
	unreadable            bool // an answer came, whole, and is not Sequin's
	cause                 error
}

func (e *connError) Error() string {
	if e.dial {
		return fmt.Sprintf("sequin: cannot reach %s (%v): is the server running, and does Config.BaseURL or $SEQUIN_URL name it?", e.baseURL, e.cause)
	}
	return fmt.Sprintf("sequin: %s %s: no complete answer from %s: %v", e.method, e.path, e.baseURL, e.cause)
}

func (e *connError) Unwrap() error { return e.cause }

func (e *connError) Is(target error) bool { return e.dial && target == ErrUnreachable }

// isDial reports whether err means that no connection was made. A failed look-up comes as a DNSError inside a dial. A
// connection whose peer cannot show who it is, or does not speak TLS, was not made either: nothing was sent over it.
func isDial(err error) bool {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") ||
		errors.As(err, &untrusted) || errors.Is(err, http.ErrSchemeMismatch)
}

// cutShort reports whether err means that the end of a request was not written: of a body that is not whole no server
// makes anything.
func cutShort(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}

// unreadable reports whether a whole answer came that nobody can read.
func unreadable(err error) bool {
	var lost *connError
	return errors.As(err, &lost) && lost.unreadable
}

// wasCut reports whether an attempt ended because the caller's context did.
func wasCut(err error) bool {
	var lost *connError
	return errors.As(err, &lost) && lost.cut
}

// retryAfter reads both forms of Retry-After: seconds, and a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseUint(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, math.MaxInt64/uint64(time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// loop makes the attempts of one call. go-retryablehttp rewinds the body, waits and drains; what may be repeated, and
// how long to wait, is decided here, because its own policy repeats a POST after a 503 and lets Retry-After exceed the
// maximum.
type loop struct {
	ctx      context.Context
	retry    RetryConfig
	repeat   repeat
	lost     func(cause error) error // names the request whose connection failed
	attempts *transport.Attempts     // of this call
	logger   *slog.Logger

	failures int           // attempts that failed so far
	crashes  int           // of these, bare 500s
	refused  time.Time     // when the first of the dials that fail now began; zero when the latest attempt reached the server
	last     error         // of the latest attempt
	real     error         // the latest failure that was not the end of ctx: what was wrong when the caller gave up
	between  bool          // another attempt is wanted and has not ended yet
	wait     time.Duration // before the next attempt
}

// maxCrashes is how often a bare 500 is repeated: a server that crashes on this very message will do so for ever.
const maxCrashes = 2

// run makes attempts with hc until one ends the call. handle turns an answer into nil or an error; it reads the body
// inside the attempt, so that a truncated answer is a failed attempt and not a failed call.
func (l *loop) run(hc *http.Client, req *retryablehttp.Request, handle func(*http.Response) error) error {
	req.SetResponseHandler(handle)
	client := retryablehttp.Client{
		HTTPClient:   hc,
		RetryMax:     l.retry.MaxAttempts - 1,
		CheckRetry:   l.check,
		Backoff:      l.backoff,
		ErrorHandler: func(_ *http.Response, err error, _ int) (*http.Response, error) { return nil, err },
	}
	if _, err := client.Do(req); err == nil || l.last == nil {
		return err
	}
	switch {
	case l.between && l.ctx.Err() != nil:
		// Whoever gave up wants both: that the time was over, and what was wrong meanwhile.
		return fmt.Errorf("%w; the last of %d attempts: %w", ended(l.ctx), l.failures, l.last)
	case wasCut(l.last) && l.real != nil:
		return fmt.Errorf("%w; the attempt before: %w", l.last, l.real)
	case l.failures > 1:
		return fmt.Errorf("%w (%d attempts)", l.last, l.failures)
	}
	return l.last
}

// check is go-retryablehttp's CheckRetry. It is asked twice for an answer: first before the body is read, where nothing
// is decided yet, then with the error that handle made of it.
func (l *loop) check(_ context.Context, _ *http.Response, err error) (again bool, _ error) {
	l.between = false
	if err == nil {
		return false, nil
	}
	if failed, ok := err.(*url.Error); ok { // what http.Client makes of any failure below HTTP
		err = l.lost(failed.Err)
	}
	l.note(err)
	l.between = l.mayRepeat(err)
	return l.between && l.ctx.Err() == nil, nil
}

// note books a failed attempt.
func (l *loop) note(err error) {
	l.last = err
	l.wait = l.retry.wait(l.failures, err)
	l.failures++
	if unexplained500(err) {
		l.crashes++
	}
	if !wasCut(err) {
		l.real = err
	}
	switch {
	case !errors.Is(err, ErrUnreachable):
		l.refused = time.Time{}
	case l.refused.IsZero():
		l.refused = l.attempts.Began() // and not now: a dial that hangs has used up the time already
	}
}

func (l *loop) mayRepeat(err error) bool {
	switch {
	case wasCut(err), l.repeat == once, l.failures >= l.retry.MaxAttempts, l.crashes > maxCrashes:
		return false
	case l.repeat == ifNotActed && !surelyNotActed(err), l.repeat == unanswered && unreadable(err):
		return false
	case !l.refused.IsZero() && time.Since(l.refused)+l.wait > unreachableFor:
		return false
	}
	return isTransient(err)
}

func (l *loop) backoff(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
	l.logger.LogAttrs(l.ctx, slog.LevelWarn, "sequin: repeats a request", slog.Int("attempts", l.failures),
		slog.Duration("wait", l.wait), slog.Any("error", l.last))
	return l.wait
}
