package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
)

// Errors that say what the caller's own arguments or settings lack. Nothing has been sent when one of them is returned.
var (
	// ErrInvalidConfig: a Config, PublisherConfig or SubscriberConfig field is outside its limits. The text names the
	// field, its value and the limit.
	ErrInvalidConfig = errors.New("sequin: invalid config")
	// ErrInvalidArgument: an argument of a call is outside its limits: an empty name, a batch size outside 1..1000, a
	// WaitFor outside 500 ms..5 min, an empty list of ack ids.
	ErrInvalidArgument = errors.New("sequin: invalid argument")
	// ErrInvalidKey: a message key breaks a rule of keys; see [Message].
	ErrInvalidKey = errors.New("sequin: invalid key")
	// ErrInvalidPattern: a filter or key pattern breaks a rule of patterns; see [Client.CreateConsumer].
	ErrInvalidPattern = errors.New("sequin: invalid key pattern")
	// ErrInvalidData: data is not valid UTF-8, or holds a NUL. JSON would replace the first and Postgres drop the
	// second, both in silence.
	ErrInvalidData = errors.New("sequin: invalid data")
	// ErrInvalidAckID: an ack id is not a UUID in its usual form.
	ErrInvalidAckID = errors.New("sequin: invalid ack id")
	// ErrBatchTooLarge: more than 1,000 messages, or ack ids, in one call.
	ErrBatchTooLarge = errors.New("sequin: batch too large")
	// ErrDuplicateKey: one call holds a key twice, and the server is the 2024 one, which answers that with a bare 500
	// for the whole batch.
	ErrDuplicateKey = errors.New("sequin: key twice in one batch")
	// ErrMismatch: EnsureStream or EnsureConsumer found what it looked for, but with other settings than the caller set.
	ErrMismatch = errors.New("sequin: exists with other settings")
)

// Errors that a server's answer, or its absence, stands for. An [APIError] answers errors.Is for those with a status.
var (
	// ErrNotFound: 404. No such stream, consumer or message.
	ErrNotFound = errors.New("sequin: not found")
	// ErrValidation: 400 or 422. The server refuses the request as it is.
	ErrValidation = errors.New("sequin: refused as invalid")
	// ErrUnauthorized: 401 or 403. Check Config.Token.
	ErrUnauthorized = errors.New("sequin: unauthorized")
	// ErrTooLarge: 413, or a message that is larger than any request may be (then nothing was sent).
	ErrTooLarge = errors.New("sequin: too large")
	// ErrStreamFull: 409. The stream has reached max_storage_gb and may drop nothing more.
	ErrStreamFull = errors.New("sequin: stream is full")
	// ErrRateLimited: 429. Too many requests, or more receives waiting than the consumer's max_waiting.
	ErrRateLimited = errors.New("sequin: rate limited")
	// ErrUnreachable: no connection could be made. The text names the URL that was tried and what to check.
	ErrUnreachable = errors.New("sequin: server unreachable")
	// ErrOutcomeUnknown: the request may or may not have been carried out: its answer was lost, or was one that a
	// server gives in either case (408, 500, 502, 504). It was not repeated, because repeating it could undo what
	// somebody else did meanwhile. The cause is wrapped.
	ErrOutcomeUnknown = errors.New("sequin: outcome unknown")
	// ErrResponseTooLarge: an answer is longer than 256 MiB. Ask for fewer messages at once.
	ErrResponseTooLarge = errors.New("sequin: response too large")
)

// Errors of Publisher, Subscriber and Delivery.
var (
	// ErrClosed: the Publisher or Subscriber has been closed.
	ErrClosed = batch.ErrClosed
	// ErrBufferFull: TrySend found no room in the Publisher's buffer.
	ErrBufferFull = batch.ErrBufferFull
	// ErrFailuresPending: the Publisher has no room, and its buffer holds nothing but failed messages that nobody has
	// collected. Flush returns them and makes room. With an OnFailure, Send waits for it instead; except one that came
	// while a call of OnFailure runs, as long as that does, because it may be what sends.
	ErrFailuresPending = batch.ErrFailuresPending
	// ErrLeaseExpired: the delivery's deadline has passed; the message is, or will be, delivered again, perhaps to
	// somebody else. The settle was not sent.
	ErrLeaseExpired = errors.New("sequin: lease expired")
	// ErrSettled: the delivery has been acked or nacked before.
	ErrSettled = errors.New("sequin: already settled")
	// ErrNotDelivered: the Delivery came from no Subscriber (a zero or literal Delivery without an Acknowledger).
	ErrNotDelivered = errors.New("sequin: not a delivery of a subscriber")
	// ErrLeaseTooShort: the consumer's ack_wait is under 100 ms, too short to hand a message over and settle it in time.
	ErrLeaseTooShort = errors.New("sequin: ack_wait too short")
	// ErrBusy: the deliveries of this Subscriber are already being consumed in another way.
	ErrBusy = errors.New("sequin: deliveries already in use")
	// ErrHandlersRunning: Handle, HandleBatch or Pipe has returned while handlers still run, which ignore that their ctx
	// has ended. The text says how many.
	ErrHandlersRunning = errors.New("sequin: handlers still running")
	// ErrUnmodified: Redrive found a message in its stream as it is. The stream keeps one message per key and delivers
	// only what has changed, so that sending it again would deliver it to nobody.
	ErrUnmodified = errors.New("sequin: the stream has this message already, and does not deliver it again")
)

// APIError is an answer of the server other than success. It survives whatever the body holds: HTML of a proxy, nothing
// at all, or Sequin's own JSON. errors.Is answers it to ErrNotFound (404), ErrValidation (400, 422), ErrUnauthorized
// (401, 403), ErrTooLarge (413), ErrStreamFull (409) and ErrRateLimited (429).
type APIError struct {
	// Status is the HTTP status code.
	Status int
	// Summary is the server's own sentence. Empty when the body was not Sequin's: a crash (500) has none, nor has a proxy's answer.
	Summary string
	// ValidationErrors holds, for a 422, what is wrong with each field.
	ValidationErrors map[string][]string
	// Method and Path are those of the request; Path is relative to Config.BaseURL.
	Method, Path string
	// RequestID is the X-Request-Id of the answer or, where it has none, of the request: what to look for in the server's log.
	RequestID string

	retryAfter time.Duration // what Retry-After asks for; 0 when it is absent or unreadable
	excerpt    string        // the beginning of a body that is not Sequin's, for Error
	redirect   string        // the Location of a 3xx
}

// Error names the request, the status, what the server said and the request id.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sequin: %s %s: %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	switch {
	case e.redirect != "":
		fmt.Fprintf(&b, ": redirected to %q; set Config.BaseURL to the final address", e.redirect)
	case e.Summary != "":
		b.WriteString(": " + e.Summary)
	case e.excerpt != "":
		fmt.Fprintf(&b, ": %q", e.excerpt)
	}
	fields := make([]string, 0, len(e.ValidationErrors))
	for field, texts := range e.ValidationErrors {
		fields = append(fields, field+" "+strings.Join(texts, ", "))
	}
	if len(fields) > 0 {
		slices.Sort(fields)
		b.WriteString(" (" + strings.Join(fields, "; ") + ")")
	}
	if e.RequestID != "" {
		b.WriteString(" [request " + e.RequestID + "]")
	}
	return b.String()
}

// Is reports whether target is the sentinel of the error's status.
func (e *APIError) Is(target error) bool {
	sentinel := sentinelOf(e.Status)
	return sentinel != nil && target == sentinel
}

// ended says that ctx has ended, and why where somebody gave a cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func sentinelOf(status int) error {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return ErrValidation
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusConflict:
		return ErrStreamFull
	case http.StatusRequestEntityTooLarge:
		return ErrTooLarge
	case http.StatusTooManyRequests:
		return ErrRateLimited
	}
	return nil
}

// excerptLen is how much of a foreign body an error quotes: enough for a proxy's title, short enough for a log line.
const excerptLen = 120

// validationErrors reads what a 422 says of each field: a list of texts as a rule. What a server writes instead, a text
// alone or a structure for a nested field, is kept as it stands: it is for people, and must not cost the other fields.
func validationErrors(raw json.RawMessage) map[string][]string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || len(fields) == 0 {
		return nil
	}
	errs := make(map[string][]string, len(fields))
	for field, said := range fields {
		var texts []string
		var text string
		switch {
		case json.Unmarshal(said, &texts) == nil:
		case json.Unmarshal(said, &text) == nil:
			texts = []string{text}
		default:
			texts = []string{string(said)}
		}
		errs[field] = texts
	}
	return errs
}

// newAPIError reads the status first and the body second, so that no body can hide the status.
func newAPIError(r request, requestID string, resp *http.Response, body []byte) *APIError {
	e := &APIError{Status: resp.StatusCode, Method: r.method, Path: r.path,
		RequestID: resp.Header.Get("X-Request-Id"), retryAfter: retryAfter(resp.Header, time.Now())}
	if e.RequestID == "" {
		e.RequestID = requestID
	}
	var said struct {
		Summary          string          `json:"summary"`
		ValidationErrors json.RawMessage `json:"validation_errors"`
	}
	if json.Unmarshal(body, &said) == nil {
		e.Summary, e.ValidationErrors = said.Summary, validationErrors(said.ValidationErrors)
	}
	if e.Summary == "" {
		e.excerpt = strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 4*excerptLen)]), "")), " ")
		if len(e.excerpt) > excerptLen {
			e.excerpt = strings.ToValidUTF8(e.excerpt[:excerptLen], "") + "…"
		}
	}
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode/100 == 3 {
		// Redirects are not followed: net/http would turn a POST into a GET, whose 200 looks like success.
		e.redirect = location
	}
	return e
}
