package sequin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
)

// Errors of the caller's own arguments and settings. When one of them is returned, nothing has been sent.
var (
	// ErrInvalidConfig means that a field of a Config, PublisherConfig, SubscriberConfig or HandlerConfig is outside its
	// limits. The text names the field, its value and the limit.
	ErrInvalidConfig = errors.New("sequin: invalid config")
	// ErrInvalidArgument means that an argument of a call is outside its limits: for instance an empty name, a batch size
	// outside 1 to 1,000, a WaitFor outside 500 ms to 5 min, or an empty list of ack ids.
	ErrInvalidArgument = errors.New("sequin: invalid argument")
	// ErrInvalidKey means that a message key breaks a rule of keys; see [Message].
	ErrInvalidKey = errors.New("sequin: invalid key")
	// ErrInvalidPattern means that a filter or key pattern breaks a rule of patterns; see [Client.CreateConsumer].
	ErrInvalidPattern = errors.New("sequin: invalid key pattern")
	// ErrInvalidData means that data is not valid UTF-8 or contains a NUL. JSON would replace the first and Postgres
	// would drop the second, both without an error.
	ErrInvalidData = errors.New("sequin: invalid data")
	// ErrInvalidHeaders means that the headers of a message break a rule; see [Message].
	ErrInvalidHeaders = errors.New("sequin: invalid headers")
	// ErrInvalidAckID means that an ack id is not a UUID in its usual form.
	ErrInvalidAckID = errors.New("sequin: invalid ack id")
	// ErrBatchTooLarge means that a call has more than 1,000 messages or ack ids.
	ErrBatchTooLarge = errors.New("sequin: batch too large")
	// ErrDuplicateKey means that a call has two messages with the same key, and that the server is the 2024 one. It would
	// answer 500 without a summary and store none of them.
	ErrDuplicateKey = errors.New("sequin: duplicate key in one batch")
	// ErrMismatch means that EnsureStream or EnsureConsumer found a stream or consumer with that name and other settings.
	// The text lists the differences.
	ErrMismatch = errors.New("sequin: exists with other settings")
	// ErrUnsupported means that the server has no such feature. Nothing was changed, unless the text says that messages were
	// stored without their headers.
	ErrUnsupported = errors.New("sequin: not supported by the server")
)

// Errors that stand for a server's answer, or for its absence. errors.Is finds those with a status in an [APIError].
var (
	// ErrNotFound means status 404: there is no such stream, consumer or message.
	ErrNotFound = errors.New("sequin: not found")
	// ErrValidation means status 400 or 422: the server refuses the request as it is.
	ErrValidation = errors.New("sequin: refused as invalid")
	// ErrUnauthorized means status 401 or 403. Check Config.Token or Config.TokenSource.
	ErrUnauthorized = errors.New("sequin: unauthorized")
	// ErrTooLarge means status 413, or a message that is larger than a request may be. In the second case nothing was
	// sent.
	ErrTooLarge = errors.New("sequin: too large")
	// ErrStreamFull means status 409: the stream has reached max_storage_gb and may not drop any more messages.
	ErrStreamFull = errors.New("sequin: stream is full")
	// ErrRateLimited means status 429: there are too many requests, or more receives wait than the consumer's
	// max_waiting allows.
	ErrRateLimited = errors.New("sequin: rate limited")
	// ErrUnreachable means that no connection could be made. The text names the URL and what to check.
	ErrUnreachable = errors.New("sequin: server unreachable")
	// ErrOutcomeUnknown means that the request may or may not have been carried out: its answer was lost, is not Sequin's
	// own, or had a status that a server gives in both cases (408, 500, 502, 504). The request was not retried, because a
	// second one could undo a change that another program has made meanwhile. The error wraps the cause.
	ErrOutcomeUnknown = errors.New("sequin: outcome unknown")
	// ErrResponseTooLarge means that an answer is longer than 256 MiB. Ask for fewer messages at once.
	ErrResponseTooLarge = errors.New("sequin: response too large")
)

// Errors of Publisher, Subscriber and Delivery.
var (
	// ErrClosed means that the Publisher or Subscriber has been closed.
	ErrClosed = batch.ErrClosed
	// ErrBufferFull means that TrySend found no room in the Publisher's buffer.
	ErrBufferFull = batch.ErrBufferFull
	// ErrFailuresPending means that the Publisher's buffer is full and contains only failed messages that have not been
	// collected. Flush returns them and frees their room. A Publisher with an OnFailure does not return this error from
	// Send, which waits instead until OnFailure has been called. Exception: a Send that starts while OnFailure runs returns
	// it, because OnFailure itself may have called Send and would wait for ever.
	ErrFailuresPending = batch.ErrFailuresPending
	// ErrLeaseExpired means that the delivery's Deadline has passed. The server redelivers the message, perhaps to
	// another program. The ack or nack was not sent.
	ErrLeaseExpired = errors.New("sequin: lease expired")
	// ErrSettled means that the delivery has already been acked or nacked.
	ErrSettled = errors.New("sequin: already settled")
	// ErrNotDelivered means that the Delivery does not come from a Subscriber: it is a zero or literal Delivery without
	// an Acknowledger.
	ErrNotDelivered = errors.New("sequin: not a delivery of a subscriber")
	// ErrLeaseTooShort means that the consumer's ack_wait is under 100 ms, which is too short to deliver a message and
	// settle it in time.
	ErrLeaseTooShort = errors.New("sequin: ack_wait too short")
	// ErrBusy means that the Subscriber's deliveries are already consumed in another way.
	ErrBusy = errors.New("sequin: deliveries already in use")
	// ErrHandlersRunning means that Handle, HandleBatch or Pipe returned while handlers still ran, although their ctx had
	// ended. The text says how many.
	ErrHandlersRunning = errors.New("sequin: handlers still running")
	// ErrUnmodified means that Redrive found the message in its stream with the same data and headers. The stream keeps one message
	// per key and delivers only changed ones, so that no consumer would receive the message if it were sent again.
	ErrUnmodified = errors.New("sequin: the stream already has this message, and does not deliver it again")
	// ErrNotDeadLetter means that Redrive received a message whose data is not a [DeadMessage].
	ErrNotDeadLetter = errors.New("sequin: not a dead letter")
)

// APIError is any answer other than success. It is made from any body: Sequin's own JSON, a proxy's HTML, or none.
// errors.Is matches it with ErrNotFound (404), ErrValidation (400, 422), ErrUnauthorized (401, 403), ErrTooLarge (413),
// ErrStreamFull (409) and ErrRateLimited (429). A foreign one matches ErrTooLarge and ErrRateLimited only: the 404 of a
// proxy does not mean that a stream does not exist.
type APIError struct {
	// Status is the HTTP status code. It is 2xx if something other than Sequin answered with success, for instance the login
	// page of a proxy.
	Status int
	// Foreign means that the answer is not Sequin's own: a proxy or firewall answered, or the URL is not that of a Sequin
	// server. Sequin may or may not have carried out the request. Sequin's own answers are JSON with a summary, or with
	// errors.detail after a crash, or the plain text of its 413.
	Foreign bool
	// Summary is the server's own explanation. It is empty when the answer is not Sequin's, for instance a proxy's, and
	// when the server crashed (500).
	Summary string
	// ValidationErrors has the errors of each field, for a 422.
	ValidationErrors map[string][]string
	// Method and Path are those of the request. Path is relative to Config.BaseURL.
	Method, Path string
	// RequestID is the X-Request-Id of the answer, or of the request if the answer has none. Look for it in the server's
	// log.
	RequestID string

	retryAfter     time.Duration // from Retry-After; 0 if it is absent or unreadable
	hasRetryAfter  bool
	unknownOutcome bool   // Sequin itself does not know whether it carried the request out
	excerpt        string // the beginning of a body that is not Sequin's, for Error
	redirect       string // the Location of a 3xx
	unreadable     error  // why the body of a 2xx is not Sequin's
}

// Error returns the request, the status, what the server said and the request id.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sequin: %s %s: %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	switch {
	case e.redirect != "":
		fmt.Fprintf(&b, ": redirected to %q; set Config.BaseURL to the final address", e.redirect)
	case e.Summary != "":
		b.WriteString(": " + e.Summary)
	case e.unreadable != nil:
		fmt.Fprintf(&b, ": the answer is not Sequin's (%v): does Config.BaseURL or $SEQUIN_URL name a Sequin server? %q", e.unreadable, e.excerpt)
	case e.excerpt != "":
		fmt.Fprintf(&b, ": %q", e.excerpt)
	}
	fields := make([]string, 0, len(e.ValidationErrors))
	for field, texts := range e.ValidationErrors {
		// The summary of our own server names the first reason.
		if reason := field + " " + strings.Join(texts, ", "); !strings.Contains(e.Summary, reason) {
			fields = append(fields, reason)
		}
	}
	if len(fields) > 0 {
		slices.Sort(fields)
		b.WriteString(" (" + strings.Join(fields, "; ") + ")")
	}
	if e.RequestID != "" {
		b.WriteString(" [request " + e.RequestID + "]")
	}
	if e.Foreign && e.unreadable == nil {
		b.WriteString(" (not an answer of Sequin's own)")
	}
	return b.String()
}

// newAPIError makes the error of an answer other than success to the request with that method, path and id. The body may be
// anything.
func newAPIError(method, path, requestID string, resp *http.Response, body []byte) *APIError {
	e := &APIError{Status: resp.StatusCode, Method: method, Path: path, RequestID: resp.Header.Get("X-Request-Id"),
		retryAfter: retryAfter(resp.Header, time.Now()), hasRetryAfter: resp.Header.Get("Retry-After") != ""}
	if e.RequestID == "" {
		e.RequestID = requestID
	}
	e.readRefusal(resp.Header, body)
	if e.Summary == "" {
		e.excerpt = excerpt(body)
	}
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode/100 == 3 {
		// Redirects are not followed. net/http would turn a POST into a GET, whose answer 200 would look like success.
		e.redirect = location
	}
	return e
}

// tooLargeText is the body of Sequin's own 413. Sequin may write it before it has read that the client accepts JSON.
const tooLargeText = "Request Entity Too Large"

// readRefusal reads the body of an answer other than success. It sets Foreign if the body is not Sequin's own. The names of
// the fields have Sequin's spelling; encoding/json would accept another one, such as "Summary", in a struct.
func (e *APIError) readRefusal(h http.Header, body []byte) {
	e.Foreign = true
	if e.Status == http.StatusRequestEntityTooLarge && string(bytes.TrimSpace(body)) == tooLargeText {
		e.Foreign = false
		return
	}
	var answer map[string]json.RawMessage
	if isPage(h) || json.Unmarshal(body, &answer) != nil {
		return
	}
	var crash map[string]json.RawMessage
	_ = json.Unmarshal(answer["errors"], &crash) // other servers have other types of errors
	e.Summary, e.ValidationErrors = text(answer["summary"]), validationErrors(answer["validation_errors"])
	e.unknownOutcome = text(answer["outcome"]) == "unknown"
	e.Foreign = e.Summary == "" && text(crash["detail"]) == ""
}

// isPage reports whether the header declares a page for people. Sequin's only page is its 413.
func isPage(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/html")
}

// text returns a JSON string, or "" if raw is something else.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

// newUnreadableError is the error of an answer of status 2xx that is not Sequin's.
func newUnreadableError(method, path, requestID string, resp *http.Response, body []byte, why error) *APIError {
	e := newAPIError(method, path, requestID, resp, nil)
	e.Foreign, e.unreadable, e.excerpt = true, why, excerpt(body)
	return e
}

// validationErrors reads the errors of each field of a 422. They are usually a list of texts. Any other form, a single text
// or the structure of a nested field, is kept as it is, so that one unusual field does not hide the others.
func validationErrors(raw json.RawMessage) map[string][]string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || len(fields) == 0 {
		return nil
	}
	errs := make(map[string][]string, len(fields))
	for field, value := range fields {
		var texts []string
		var text string
		switch {
		case json.Unmarshal(value, &texts) == nil:
		case json.Unmarshal(value, &text) == nil:
			texts = []string{text}
		default:
			texts = []string{string(value)}
		}
		errs[field] = texts
	}
	return errs
}

// excerptLen is how many bytes of a foreign body an error quotes. The title of a proxy's page fits, and the error fits on a
// line of a log.
const excerptLen = 120

// excerpt returns the beginning of a body on one line.
func excerpt(body []byte) string {
	text := strings.ToValidUTF8(string(body[:min(len(body), 4*excerptLen)]), "")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > excerptLen {
		return strings.ToValidUTF8(text[:excerptLen], "") + "…"
	}
	return text
}

// retryAfter reads both forms of Retry-After: seconds and a date.
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

// contextError returns the error of a ctx that has ended, together with its cause if there is one.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// permanent wraps an error that Permanent has marked.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that no retry can fix, such as data that cannot be read. When a handler returns it the message
// becomes a dead letter at once or, without a [DeadLetter], is nacked after BackoffMax. The result has the text of err,
// and errors.Is and errors.As find err in it. Permanent(nil) is nil.
//
// When the handler of a batch of several messages returns it, each of them is handled again in a batch of its own, because
// the error may concern any of them.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether [Permanent] has marked err or an error that err wraps. It reports false for nil, and for an
// error whose methods panic, as those of a typed nil may do.
func IsPermanent(err error) (yes bool) {
	defer func() { _ = recover() }()
	var p permanent
	return errors.As(err, &p)
}

// isAny reports whether errors.Is matches err with one of the targets that are not nil. It reports false if a method of err,
// which may be the program's own, panics.
func isAny(err error, targets ...error) (yes bool) {
	defer func() { _ = recover() }()
	return slices.ContainsFunc(targets, func(target error) bool { return target != nil && errors.Is(err, target) })
}

// PanicError is the error that a panic of a handler, of DeadLetter.Key or of Config.TokenSource counts as.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	// Stack is the stack of the goroutine that panicked, as runtime/debug formats it.
	Stack []byte

	function string // the name of the function that panicked; "" is the handler
}

// recovered turns the result of recover into an error. It returns nil for nil.
func recovered(function string, v any) error {
	if v == nil {
		return nil
	}
	return &PanicError{Value: v, Stack: debug.Stack(), function: function}
}

// Error returns a text with the value. The stack is in Stack, and in the log.
func (e *PanicError) Error() string {
	return fmt.Sprintf("sequin: %s panicked: %v", cmp.Or(e.function, "handler"), e.Value)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited is the Value of a handler that called runtime.Goexit, as a test's FailNow does.
var errExited = errors.New("runtime.Goexit was called")

// callApart runs a function of the program on a new goroutine and waits for it. The function may panic, or end its
// goroutine, and the caller's goroutine continues. callApart returns the panic.
func callApart(function string, call func()) (panicked error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recovered(function, recover()) }()
		call()
	}()
	<-done
	return panicked
}

// errorAttrs returns the log attributes of an error: the message's key, the error, and the stack of a panic. It calls no
// method of err, because the program's own methods may panic.
func errorAttrs(key string, err error) []any {
	args := []any{"key", clip(key), "error", err}
	if panicked, ok := err.(*PanicError); ok {
		args = append(args, "stack", string(panicked.Stack))
	}
	return args
}

// clip shortens a quoted string, so that the error around it stays readable.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
