package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/sequin-go/sequin/server/internal/store"
)

// failure is an answer that is not 200.
type failure struct {
	status  int
	summary string
	invalid fieldErrors // validation_errors of a 422
	detail  string      // instead of a summary: the text of the 2024 server's web framework
	plain   bool        // the detail is sent as plain text, unless the client accepts JSON
	noID    bool        // the answer has no X-Request-Id
	hangUp  bool        // the connection is closed
	unknown bool        // it is not known whether the change took place
	spoils  bool        // the 2024 server takes what follows on the connection for another request

	retryAfter string // the Retry-After header
}

func (f *failure) Error() string { return strconv.Itoa(f.status) + " " + f.summary + f.detail }

var (
	errNoRoute      = &failure{status: http.StatusNotFound, detail: "Not Found", plain: true}
	errEncoded      = badRequest("The body is compressed: send it without `Content-Encoding`")
	errBOM          = badRequest("The body begins with a byte order mark: send JSON in UTF-8 without it")
	errUntyped      = badRequest("The request has a body and no `Content-Type`: send `Content-Type: application/json`")
	errMalformed    = &failure{status: http.StatusBadRequest, detail: "Bad Request", plain: true, noID: true}
	errPlugTooLarge = &failure{status: http.StatusRequestEntityTooLarge, detail: "Request Entity Too Large", plain: true, noID: true, spoils: true}
	errLongURI      = &failure{status: http.StatusRequestURITooLong, plain: true, noID: true, hangUp: true}
	errLongHeader   = &failure{status: http.StatusRequestHeaderFieldsTooLarge, plain: true, noID: true, hangUp: true}
	errUnacceptable = &failure{status: http.StatusNotAcceptable, detail: "Not Acceptable", plain: true}
	errSlowBody     = &failure{status: http.StatusRequestTimeout, detail: "Request Timeout", plain: true, hangUp: true}
	errInternal     = &failure{status: http.StatusInternalServerError, detail: "Internal Server Error"}
	errBadCast      = &failure{status: http.StatusBadRequest, detail: "Bad Request"}
	errClosed       = &failure{status: http.StatusServiceUnavailable, summary: "Server is closed"}
	errUnauthorized = &failure{status: http.StatusUnauthorized, summary: "Unauthorized: send the server's token as `Authorization: Bearer TOKEN`"}
	errNoStream     = &failure{status: http.StatusNotFound, summary: "Not found: No `stream` found matching the provided ID or name"}
	errNoConsumer   = &failure{status: http.StatusNotFound, summary: "Not found: No `consumer` found matching the provided ID or name"}
	errNoMessage    = &failure{status: http.StatusNotFound, summary: "Not found: No `message` found matching the provided ID or name"}
	errFull         = &failure{status: http.StatusConflict, summary: "Stream is full: the messages do not fit within `max_storage_gb`, and `retain_at_least` keeps the ones it has. Nothing was stored"}

	errNoMessages = badRequest("Missing or invalid messages")
	errFormat     = badRequest("Invalid message format")
	errBatchSize  = badRequest("Invalid `batch_size`. `batch_size` must be an integer between 1 and 1000.")
	errBare       = badRequest("Invalid `bare`. Must be true or false")
	errNoWait     = badRequest("This endpoint doesn't support the `wait_for` param at the moment. Please ask the Sequin team for help.")
	errWaitFor    = badRequest("Invalid `wait_for`. Must be between 500 and 300,000 milliseconds, or use duration format like '60s', '5m', '1000ms'.")
	errAckIDs     = badRequest("Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings")
	errDelay      = badRequest("Invalid `delay_ms`. Must be an integer between 0 and %d (7 days)", maxDelay.Milliseconds())
	errExtension  = badRequest("Invalid `ack_wait_ms`. Must be an integer between 1 and %d", maxInteger)
	errRequestID  = badRequest("Invalid `request_id`. Must be the `X-Request-Id` of a receive: a string of 20 to 200 bytes")
	errPurge      = badRequest("A purge needs `before_seq`, `key_pattern` or both, or `\"all\":true` alone")
	errSeq        = badRequest("Invalid `after_seq` or `before_seq`. Must be an integer from 0")

	errOtherBody = &failure{status: http.StatusUnprocessableEntity, summary: "Idempotency-Key was used with another body"}
	errPartOf    = badRequest("Invalid Sequin-Part-Of: it must be a list of Idempotency-Keys with commas between them, each of 1 to %d printable ASCII characters without spaces", maxIdempotencyKey)
)

// errTooLarge refuses a body of more than limit bytes.
func errTooLarge(limit int) *failure {
	return &failure{
		status:  http.StatusRequestEntityTooLarge,
		summary: fmt.Sprintf("Request body is too large: it may have at most %d bytes. Send fewer or smaller messages in a request", limit),
		noID:    true, hangUp: true,
	}
}

// unread is added to the summary of a refusal if the type of the body is one that is not read. The 2024 server refuses such
// a request as one with an empty body.
const unread = ". The body was not read: send `Content-Type: application/json`"

// taken is what is wrong with a name that is in use.
const taken = "has already been taken"

// brief returns the beginning of what a client has sent, for a summary: the whole may have megabytes.
func brief[T string | []byte](text T) T { return text[:min(len(text), store.MaxKey)] }

func badRequest(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, summary: fmt.Sprintf(format, args...)}
}

// fieldErrors are what is wrong with fields, by their names: texts, or for an object the fieldErrors of its fields.
type fieldErrors map[string]any

// add adds a text about a field.
func (e *fieldErrors) add(field, text string) {
	if *e == nil {
		*e = fieldErrors{}
	}
	texts, _ := (*e)[field].([]string)
	(*e)[field] = append(texts, text)
}

func invalid(errors fieldErrors) *failure {
	return &failure{status: http.StatusUnprocessableEntity, summary: "Validation failed", invalid: errors}
}

func invalidField(field, text string) *failure { return invalid(fieldErrors{field: []string{text}}) }

// refused is invalid with a summary that names what was wrong first.
func refused(first string, errors fieldErrors) *failure {
	f := invalid(errors)
	f.summary += ": " + first
	return f
}

func refusedField(field, text string) *failure {
	return refused(field+" "+text, fieldErrors{field: []string{text}})
}

// failureOf returns the answer to an error of a handler or of the store.
func failureOf(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, store.ErrNoStream):
		return errNoStream
	case errors.Is(err, store.ErrNoConsumer):
		return errNoConsumer
	case errors.Is(err, store.ErrNoMessage):
		return errNoMessage
	case errors.Is(err, store.ErrFull):
		return errFull
	case errors.Is(err, store.ErrOtherBody):
		return errOtherBody
	case errors.Is(err, store.ErrDoubledKey), errors.Is(err, store.ErrTable), errors.Is(err, store.ErrAmbiguous):
		return errInternal // the 2024 server has no summary for them; the documented store does not return them
	}
	return storeFailureOf(err)
}
