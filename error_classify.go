package sequin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// requestFailure says what the error of a request means. Only classify decides it; Client, Publisher, Subscriber and
// handlers read the value.
type requestFailure struct {
	kind failureKind
	// foreign: the answer comes from a proxy, a firewall, a load balancer or another server, and not from Sequin. Nothing
	// follows from it about the messages or about what Sequin did.
	foreign bool
	// mayHaveActed: the server may have carried the request out.
	mayHaveActed bool
	// transient: the cause may pass by itself. It is what IsTransient reports.
	transient bool
	subject   failureSubject
	// api is the answer; nil when there was none.
	api *APIError
}

// failureKind says what happened to a request.
type failureKind uint8

const (
	kindOther failureKind = iota // no failure of a request: for instance a closed Publisher

	// No complete answer arrived.
	kindInterrupted      // the caller's context ended
	kindNoToken          // Config.TokenSource failed, so that nothing was sent, or nothing after Sequin refused the token
	kindUnreachable      // no connection was made
	kindLost             // the connection broke, or the attempt took longer than its timeout
	kindUnreadable       // an answer of status 2xx arrived whole, but cannot be read; foreign unless it begins like Sequin's
	kindResponseTooLarge // an answer of status 2xx is longer than the client reads

	// Something other than Sequin answered, with a status other than 2xx, 429 and 500.
	kindForeign

	// Sequin refused the request, or the client did so in advance. A 429 may be foreign.
	kindInvalid         // 400 or 422, or a key or data that the client refused
	kindUnauthorized    // 401 or 403
	kindNotFound        // 404
	kindFull            // 409: the stream is full
	kindRequestTooLarge // 413, or a message that the client refused as too large
	kindRateLimited     // 429
	kindRejected        // any other status below 500

	// Sequin failed. A 500 without a summary may be foreign.
	kindUnavailable    // 408, 425, 502, 503, 504, 507, 509 or 520 to 526
	kindUnexplained500 // 500 without a summary
	kindServerError    // any other status of 500 or above
)

// failureSubject says what caused a failure. It determines what is done with the messages of the request.
type failureSubject uint8

const (
	subjectNone    failureSubject = iota // not a failure of a request, or the caller's own ctx ended
	subjectRequest                       // the contents of the request: Sequin refuses it, and would refuse it each time
	subjectAccess                        // the token or the name: Sequin would refuse other requests with them as well
	subjectLoad                          // the server is busy and may accept the same request later; not evidence against a message
	subjectOutage                        // there was no token or no connection, or nothing was written; not evidence against a message
	// subjectUnclear: the server, the network, or one message of the request, for instance one that a firewall refuses. The
	// failure is evidence against the message if other requests succeed meanwhile.
	subjectUnclear
)

// retryable reports whether one-shot calls retry the request, if it may be carried out twice.
func (f requestFailure) retryable() bool {
	return f.transient && f.kind != kindServerError && f.kind != kindFull
}

// surelyNotActed reports whether the request did not reach the server, or the server answered that it had not served
// it. Such a request may be retried whatever it does. The server may have carried out any other retryable request.
func (f requestFailure) surelyNotActed() bool { return f.retryable() && !f.mayHaveActed }

// unserved reports whether the answer comes from something that does not serve the API: a page, a redirect, or a
// refusal with a permanent status. A wrong URL always gives such answers; a proxy gives them during maintenance. Of the
// statuses of a server that failed only 501 counts, with which servers of files answer a POST.
func (f requestFailure) unserved() bool {
	return f.foreign && !isTemporary(f.api.Status) &&
		(f.api.Status < http.StatusInternalServerError || f.api.Status == http.StatusNotImplemented)
}

// spoilsConnection reports whether the connection of the answer must not be used again. The 2024 server closes it after
// a 500 without a summary or a 413 without announcing that, and the next request on it would get no answer. A proxy
// that refuses a request may do the same.
func (f requestFailure) spoilsConnection() bool {
	return f.foreign || f.kind == kindUnexplained500 || f.status() == http.StatusRequestEntityTooLarge
}

// status returns the status of the answer, or 0 if there was none.
func (f requestFailure) status() int {
	if f.api == nil {
		return 0
	}
	return f.api.Status
}

// classify decides what an error of a request means.
func classify(err error) requestFailure {
	var untold *tokenError // first, because it may wrap the APIError that refused the token before
	if errors.As(err, &untold) {
		return requestFailure{kind: kindNoToken, subject: subjectOutage, transient: true}
	}
	var api *APIError
	if errors.As(err, &api) {
		return classifyAnswer(api)
	}
	var lost *connError
	if errors.As(err, &lost) {
		return lost.classify()
	}
	switch {
	case errors.Is(err, ErrResponseTooLarge):
		return requestFailure{kind: kindResponseTooLarge, subject: subjectUnclear, mayHaveActed: true}
	case errors.Is(err, ErrTooLarge):
		return requestFailure{kind: kindRequestTooLarge, subject: subjectRequest}
	case errors.Is(err, ErrInvalidKey), errors.Is(err, ErrInvalidData), errors.Is(err, ErrInvalidHeaders):
		return requestFailure{kind: kindInvalid, subject: subjectRequest}
	}
	return requestFailure{kind: kindOther}
}

// classifyAnswer classifies an answer other than success.
func classifyAnswer(api *APIError) requestFailure {
	if api.Foreign {
		return classifyForeign(api)
	}
	f := requestFailure{api: api}
	switch {
	case api.Status == http.StatusBadRequest || api.Status == http.StatusUnprocessableEntity:
		f.kind, f.subject = kindInvalid, subjectRequest
	case api.Status == http.StatusUnauthorized || api.Status == http.StatusForbidden:
		f.kind, f.subject = kindUnauthorized, subjectAccess
	case api.Status == http.StatusNotFound:
		f.kind, f.subject = kindNotFound, subjectAccess
	case api.Status == http.StatusConflict:
		f.kind, f.subject, f.transient = kindFull, subjectLoad, true
	case api.Status == http.StatusRequestEntityTooLarge:
		f.kind, f.subject = kindRequestTooLarge, subjectRequest
	case api.Status == http.StatusTooManyRequests:
		f.kind, f.subject, f.transient = kindRateLimited, subjectLoad, true
	case api.Status == http.StatusServiceUnavailable:
		// Sequin did not carry out the request, unless the answer says that the outcome is unknown.
		f.kind, f.subject, f.transient, f.mayHaveActed = kindUnavailable, subjectLoad, true, api.unknownOutcome
	case isTemporary(api.Status):
		f.kind, f.subject, f.transient, f.mayHaveActed = kindUnavailable, subjectUnclear, true, true
	case api.Status == http.StatusInternalServerError && api.Summary == "":
		// The 2024 server gives this answer both when it is unavailable and when it cannot store a message. A single
		// answer therefore does not show whether the message is at fault.
		f.kind, f.subject, f.transient, f.mayHaveActed = kindUnexplained500, subjectUnclear, true, true
	case api.Status >= http.StatusInternalServerError:
		f.kind, f.subject, f.transient, f.mayHaveActed = kindServerError, subjectUnclear, true, true
	default:
		f.kind, f.subject = kindRejected, subjectAccess
	}
	return f.orLoad()
}

// classifyForeign classifies an answer that is not Sequin's own. Such an answer proves nothing: a proxy may give any status
// after the server behind it has acted, and a proxy's maintenance page may be there for a minute only.
func classifyForeign(api *APIError) requestFailure {
	f := requestFailure{kind: kindForeign, foreign: true, subject: subjectUnclear, transient: true, mayHaveActed: true, api: api}
	switch {
	case api.Status == http.StatusTooManyRequests:
		// Limiters answer before they pass a request on.
		f.kind, f.subject, f.mayHaveActed = kindRateLimited, subjectLoad, false
	case api.Status == http.StatusInternalServerError:
		f.kind = kindUnexplained500
	case api.Status/100 == 2:
		f.kind = kindUnreadable
	}
	return f.orLoad()
}

// orLoad changes subjectUnclear to subjectLoad if the answer has a Retry-After. A server that sends it is overloaded
// and does not refuse a message.
func (f requestFailure) orLoad() requestFailure {
	if f.subject == subjectUnclear && f.api.hasRetryAfter {
		f.subject = subjectLoad
	}
	return f
}

// isTemporary reports whether a status means that the same request may succeed later. Hosting providers answer 509 when a
// bandwidth limit is used up. Content delivery networks answer 520 to 526 when they cannot reach the server.
func isTemporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage, 509:
		return true
	}
	return status >= 520 && status <= 526
}

// IsTransient reports whether err is the failure of a request whose cause may pass by itself, so that the same call may
// succeed later: no connection was made, the answer was lost or is not Sequin's own (see [APIError]), the server is
// overloaded (408, 425, 429, 502 to 504 and others), it failed (500 and above), the stream is full (409), or
// Config.TokenSource failed. It is true for ErrBufferFull, too: a buffer has room again when its messages are sent.
//
// It is false for Sequin's own refusals, for errors of arguments and settings, for errors that [Permanent] has marked, for nil,
// and if the caller's ctx ended. If err joins several errors, one for which it is false decides. A transient error does
// not mean that the server did not act; ErrOutcomeUnknown means that it may have acted.
func IsTransient(err error) (yes bool) {
	defer func() { // a method of err may panic, as that of a typed nil may do
		if recover() != nil {
			yes = false
		}
	}()
	yes, no := transience(err)
	return yes && !no
}

// transience reports whether err holds a failure that may pass by itself, and whether it holds one that does not.
func transience(err error) (yes, no bool) {
	switch e := err.(type) {
	case *APIError, *connError, *tokenError:
		yes = classify(err).transient
		return yes, !yes
	case permanent:
		return false, true
	case interface{ Unwrap() error }:
		return transience(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			y, n := transience(part)
			yes, no = yes || y, no || n
		}
		return yes, no
	}
	if err == ErrBufferFull {
		return true, false
	}
	// The errors of a ctx are compared, because those of time-outs within an attempt match context.DeadlineExceeded, too.
	return false, err == context.Canceled || err == context.DeadlineExceeded || classify(err).kind != kindOther
}

// sentinels are the exported errors that errors.Is finds in an APIError, by kind.
var sentinels = map[failureKind]error{
	kindInvalid:         ErrValidation,
	kindUnauthorized:    ErrUnauthorized,
	kindNotFound:        ErrNotFound,
	kindFull:            ErrStreamFull,
	kindRequestTooLarge: ErrTooLarge,
	kindRateLimited:     ErrRateLimited,
}

// Is reports whether target is the exported error that stands for the status of e; see [APIError].
func (e *APIError) Is(target error) bool {
	if target == ErrTooLarge {
		return e.Status == http.StatusRequestEntityTooLarge // also of a foreign answer: a smaller request may succeed
	}
	sentinel := sentinels[classifyAnswer(e).kind]
	return sentinel != nil && target == sentinel
}

// tokenError is the error of a request for which Config.TokenSource returned no token.
type tokenError struct {
	method, path string
	refused      error // the answer of Sequin that refused the token before; nil if nothing was sent
	cause        error
}

func (e *tokenError) Error() string {
	if e.refused != nil {
		return fmt.Sprintf("%v; Config.TokenSource: %v", e.refused, e.cause)
	}
	return fmt.Sprintf("sequin: %s %s: Config.TokenSource: %v", e.method, e.path, e.cause)
}

func (e *tokenError) Unwrap() []error {
	if e.refused == nil {
		return []error{e.cause}
	}
	return []error{e.refused, e.cause}
}

// connError is the error of a request without a complete answer, or with one that begins like Sequin's and cannot be read.
type connError struct {
	method, path, baseURL string
	kind                  failureKind // kindInterrupted, kindUnreachable, kindLost or kindUnreadable
	sent                  bool        // the whole request may have reached the server
	cause                 error
}

func (e *connError) Error() string {
	switch e.kind {
	case kindUnreachable:
		return fmt.Sprintf("sequin: cannot reach %s (%v): %s", e.baseURL, e.cause, e.advice())
	case kindUnreadable:
		return fmt.Sprintf("sequin: %s %s: the answer of %s cannot be read: %v", e.method, e.path, e.baseURL, e.cause)
	}
	return fmt.Sprintf("sequin: %s %s: no complete answer from %s: %v", e.method, e.path, e.baseURL, e.cause)
}

// advice says what to look at when there was no connection.
func (e *connError) advice() string {
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(e.cause, &untrusted):
		return "does the certificate have the name in the URL, and does this machine trust who signed it? $SSL_CERT_FILE may name a file of authorities"
	case errors.Is(e.cause, http.ErrSchemeMismatch):
		return "the server has no certificate: the URL must begin with http:// and not with https://"
	}
	return "is the server running, and does Config.BaseURL or $SEQUIN_URL name it?"
}

func (e *connError) Unwrap() error { return e.cause }

func (e *connError) classify() requestFailure {
	f := requestFailure{kind: e.kind, mayHaveActed: e.sent, transient: true, subject: subjectUnclear}
	switch {
	case e.kind == kindInterrupted:
		f.transient, f.subject = false, subjectNone
	case e.kind == kindUnreachable, !e.sent && !isWrite(e.cause):
		f.subject = subjectOutage
	}
	return f
}

func (e *connError) Is(target error) bool {
	return e.kind == kindUnreachable && target == ErrUnreachable
}

// isDial reports whether err means that no connection was made. A failed DNS lookup counts. A TLS connection whose peer
// has no valid certificate, or does not speak TLS, counts too, because nothing was sent over it.
func isDial(err error) bool {
	var op *net.OpError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") ||
		errors.As(err, &untrusted) || errors.Is(err, http.ErrSchemeMismatch)
}

// isWrite reports whether err means that the request was not written completely. A server does not act on an incomplete
// body.
func isWrite(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "write"
}

// noRoute reports whether Sequin answered that it has no such route.
func noRoute(err error) bool {
	var api *APIError
	return errors.Is(err, ErrNotFound) && errors.As(err, &api) && api.Summary == ""
}

// isForbidden reports whether Sequin answered 403: the token lacks a right, or the request must not be made in this way.
func isForbidden(err error) bool {
	f := classify(err)
	return f.kind == kindUnauthorized && f.status() == http.StatusForbidden
}

// endsWait reports whether a proxy may give such an answer when a receive has waited for longer than its read time-out. Some
// give other statuses than 504, an empty success, or JSON that looks like Sequin's.
func (f requestFailure) endsWait() bool {
	return f.foreign || f.kind == kindUnreadable || f.status() == http.StatusRequestTimeout || f.status() == http.StatusGatewayTimeout
}
