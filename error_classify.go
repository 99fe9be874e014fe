package sequin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// requestFailure says what an error of a request means: what happened, whether the server may have carried the request out, and
// whether the same request may succeed later.
type requestFailure struct {
	kind failureKind
	// mayHaveActed: the server may have carried the request out before its answer was lost.
	mayHaveActed bool
	// repeatable: the cause is likely to pass, so the same request may succeed later.
	repeatable bool
	// api is the server's answer; nil when there was none.
	api *APIError
}

// failureKind says what happened to a request.
type failureKind uint8

const (
	kindOther failureKind = iota // no failure of a request: for instance a closed Publisher

	// No complete answer arrived.
	kindInterrupted // the caller's context ended
	kindUnreachable // no connection was made
	kindLost        // the connection broke, or the attempt took longer than its timeout
	kindUnreadable  // an answer of status 2xx arrived whole, but is not Sequin's
	kindTooLong     // an answer of status 2xx is longer than the client reads

	// The server refused the request.
	kindInvalid      // 400 or 422, or a key or data that the client refused
	kindUnauthorized // 401 or 403
	kindNotFound     // 404
	kindFull         // 409: the stream is full
	kindTooLarge     // 413, or a message that the client refused as too large
	kindRateLimited  // 429
	kindRejected     // any other status below 500

	// The server, or a proxy before it, failed.
	kindUnavailable    // 408, 502, 503 or 504
	kindUnexplained500 // 500 without a summary
	kindServerError    // any other status of 500 or above
)

// surelyNotActed reports whether the request did not reach the server, or the server answered that it does not serve now.
// Such a request may be repeated whatever it does. Every other repeatable request may have been carried out.
func (f requestFailure) surelyNotActed() bool { return f.repeatable && !f.mayHaveActed }

// status returns the status of the answer, or 0 if there was none.
func (f requestFailure) status() int {
	if f.api == nil {
		return 0
	}
	return f.api.Status
}

// explained reports whether the answer has a summary. Sequin's own refusals have one; a proxy's answer rarely does.
func (f requestFailure) explained() bool { return f.api != nil && f.api.Summary != "" }

// classify is the one place that decides what an error of a request means.
func classify(err error) requestFailure {
	var api *APIError
	if errors.As(err, &api) {
		return classifyAnswer(api)
	}
	var lost *connError
	if errors.As(err, &lost) {
		return requestFailure{kind: lost.kind, mayHaveActed: lost.sent, repeatable: true}
	}
	switch {
	case errors.Is(err, ErrResponseTooLarge):
		return requestFailure{kind: kindTooLong}
	case errors.Is(err, ErrTooLarge):
		return requestFailure{kind: kindTooLarge}
	case errors.Is(err, ErrInvalidKey), errors.Is(err, ErrInvalidData):
		return requestFailure{kind: kindInvalid}
	}
	return requestFailure{}
}

// classifyAnswer reads the status of an answer other than success.
func classifyAnswer(api *APIError) requestFailure {
	f := requestFailure{api: api}
	switch api.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		f.kind = kindInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		f.kind = kindUnauthorized
	case http.StatusNotFound:
		f.kind = kindNotFound
	case http.StatusConflict:
		f.kind = kindFull
	case http.StatusRequestEntityTooLarge:
		f.kind = kindTooLarge
	case http.StatusTooManyRequests:
		f.kind, f.repeatable = kindRateLimited, true
	case http.StatusServiceUnavailable: // the server says that it did not serve the request
		f.kind, f.repeatable = kindUnavailable, true
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		f.kind, f.repeatable, f.mayHaveActed = kindUnavailable, true, true
	default:
		switch {
		case api.Status == http.StatusInternalServerError && api.Summary == "":
			// The 2024 server answers this both while it is in trouble and to a message that it cannot store. A single
			// one therefore does not tell whether the message is at fault.
			f.kind, f.repeatable, f.mayHaveActed = kindUnexplained500, true, true
		case api.Status >= 500:
			f.kind, f.mayHaveActed = kindServerError, true
		default:
			f.kind = kindRejected
		}
	}
	return f
}

// sentinels are the exported errors that errors.Is finds in an APIError, by kind.
var sentinels = map[failureKind]error{
	kindInvalid:      ErrValidation,
	kindUnauthorized: ErrUnauthorized,
	kindNotFound:     ErrNotFound,
	kindFull:         ErrStreamFull,
	kindTooLarge:     ErrTooLarge,
	kindRateLimited:  ErrRateLimited,
}

// Is reports whether target is the exported error that stands for the status of e; see [APIError].
func (e *APIError) Is(target error) bool {
	sentinel := sentinels[classifyAnswer(e).kind]
	return sentinel != nil && target == sentinel
}

// connError is the error of a request that got no complete answer, or one that is not Sequin's.
type connError struct {
	method, path, baseURL string
	kind                  failureKind // kindInterrupted, kindUnreachable, kindLost or kindUnreadable
	sent                  bool        // the whole request may have reached the server
	cause                 error
}

func (e *connError) Error() string {
	switch e.kind {
	case kindUnreachable:
		return fmt.Sprintf("sequin: cannot reach %s (%v): is the server running, and does Config.BaseURL or $SEQUIN_URL name it?", e.baseURL, e.cause)
	case kindUnreadable:
		return fmt.Sprintf("sequin: %s %s: the answer of %s is not Sequin's (%v): does Config.BaseURL or $SEQUIN_URL name a Sequin server?",
			e.method, e.path, e.baseURL, e.cause)
	}
	return fmt.Sprintf("sequin: %s %s: no complete answer from %s: %v", e.method, e.path, e.baseURL, e.cause)
}

func (e *connError) Unwrap() error { return e.cause }

func (e *connError) Is(target error) bool {
	return e.kind == kindUnreachable && target == ErrUnreachable
}

// isDial reports whether err means that no connection was made. A failed DNS lookup is a dial error too. So is a TLS
// connection whose peer has no valid certificate or does not speak TLS: nothing was sent over it.
func isDial(err error) bool {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") ||
		errors.As(err, &untrusted) || errors.Is(err, http.ErrSchemeMismatch)
}

// isWrite reports whether err means that the request was not written to its end. No server acts on an incomplete body.
func isWrite(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}
