package sequin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// meaning is what classify says about an error.
type meaning struct {
	kind           failureKind
	foreign        bool
	mayHaveActed   bool
	transient      bool
	subject        failureSubject
	repeatable     bool
	surelyNotActed bool
}

func meaningOf(err error) meaning {
	f := classify(err)
	return meaning{f.kind, f.foreign, f.mayHaveActed, f.transient, f.subject, f.retryable(), f.surelyNotActed()}
}

func TestEveryStatusOfSequinsOwnHasOneMeaning(t *testing.T) {
	load := meaning{subject: subjectLoad, transient: true, repeatable: true, surelyNotActed: true}
	failed := meaning{kind: kindServerError, subject: subjectUnclear, transient: true, mayHaveActed: true}
	for status := 100; status < 1000; status++ {
		for _, summary := range []string{"", "no"} {
			want := meaning{kind: kindRejected, subject: subjectAccess}
			switch status {
			case 400, 422:
				want = meaning{kind: kindInvalid, subject: subjectRequest}
			case 401, 403:
				want = meaning{kind: kindUnauthorized, subject: subjectAccess}
			case 404:
				want = meaning{kind: kindNotFound, subject: subjectAccess}
			case 409:
				want = meaning{kind: kindFull, subject: subjectLoad, transient: true}
			case 413:
				want = meaning{kind: kindRequestTooLarge, subject: subjectRequest}
			case 429:
				want = load
				want.kind = kindRateLimited
			case 503:
				want = load
				want.kind = kindUnavailable
			case 408, 425, 502, 504, 507, 509, 520, 521, 522, 523, 524, 525, 526:
				want = failed
				want.kind, want.repeatable = kindUnavailable, true
			default:
				if status >= 500 {
					want = failed
				}
				if status == 500 && summary == "" {
					want.kind, want.repeatable = kindUnexplained500, true
				}
			}
			api := &APIError{Status: status, Summary: summary}
			require.Equal(t, want, meaningOf(api), "%d with summary %q", status, summary)
			require.Equal(t, want, meaningOf(fmt.Errorf("%w: %w", ErrOutcomeUnknown, api)), "wrapped")
			require.Equal(t, want.transient, IsTransient(api))
			f := classify(api)
			require.Equal(t, status, f.status())
			require.Same(t, api, f.api)
			require.False(t, f.unserved())
		}
	}
}

func TestEveryForeignStatusHasOneMeaning(t *testing.T) {
	for status := 100; status < 1000; status++ {
		want := meaning{kind: kindForeign, foreign: true, mayHaveActed: true, transient: true, subject: subjectUnclear, repeatable: true}
		switch {
		case status == 429:
			want.kind, want.subject, want.mayHaveActed, want.surelyNotActed = kindRateLimited, subjectLoad, false, true
		case status == 500:
			want.kind = kindUnexplained500
		case status/100 == 2:
			want.kind = kindUnreadable
		}
		api := &APIError{Status: status, Foreign: true}
		require.Equal(t, want, meaningOf(api), status)
		require.True(t, IsTransient(fmt.Errorf("wrapped: %w", api)))
		asksForPatience := &APIError{Status: status, Foreign: true, hasRetryAfter: true}
		want.subject = subjectLoad
		require.Equal(t, want, meaningOf(asksForPatience), status)
		for _, sentinel := range sentinels {
			matches := status == 413 && sentinel == ErrTooLarge || status == 429 && sentinel == ErrRateLimited
			require.Equal(t, matches, errors.Is(api, sentinel), "%d and %v", status, sentinel)
		}
	}
}

func TestAnAnswerThatSaysTheURLIsWrongIsUnserved(t *testing.T) {
	for status, unserved := range map[int]bool{200: true, 204: true, 301: true, 307: true, 400: true, 401: true, 403: true, 404: true,
		405: true, 413: true, 421: true, 501: true, 408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
		505: false, 507: false, 509: false, 520: false, 526: false, 527: false, 530: false, 599: false} {
		require.Equal(t, unserved, classify(&APIError{Status: status, Foreign: true}).unserved(), status)
		require.False(t, classify(&APIError{Status: status}).unserved())
	}
}

// Sequin's 503 says that it did not serve the request, unless it says that it does not know.
func TestA503OfUnknownOutcomeMayHaveActed(t *testing.T) {
	f := classify(&APIError{Status: 503, Summary: "no", unknownOutcome: true})
	require.True(t, f.mayHaveActed)
	require.True(t, f.retryable())
	require.Equal(t, subjectLoad, f.subject)
}

func TestWhoseAnswerItIs(t *testing.T) {
	for _, row := range []struct {
		name           string
		status         int
		body           string
		foreign        bool
		unknownOutcome bool
	}{
		{"a summary in another spelling", 403, `{"Summary":"no"}`, true, false},
		{"a crash in another spelling", 500, `{"Errors":{"Detail":"Internal Server Error"}}`, true, false},
		{"a list of errors with details", 422, `{"errors":[{"detail":"no"}]}`, true, false},
		{"the errors of fields, one of them detail", 422, `{"errors":{"detail":["is too long"]}}`, true, false},
		{"a problem of RFC 9457", 403, `{"type":"about:blank","title":"Forbidden","status":403,"detail":"no"}`, true, false},
		{"a page after a summary", 403, `{"summary":"no"}<html>`, true, false},
		{"compressed", 403, "\x1f\x8b\x08\x00{\"summary\":\"no\"}", true, false},
		{"a summary in capitals beside Sequin's", 403, `{"SUMMARY":"yes","summary":""}`, true, false},
		{"a summary", 403, `{"summary":"no"}`, false, false},
		{"a summary beside unknown fields", 403, `{"summary":"no","hint":1}`, false, false},
		{"a crash", 500, `{"errors":{"detail":"Internal Server Error"}}`, false, false},
		{"a crash of another status", 413, `{"errors":{"detail":"Request Entity Too Large"}}`, false, false},
		{"the recorded 413", 413, "Request Entity Too Large", false, false},
		{"the recorded 413 with a newline", 413, "Request Entity Too Large\n", false, false},
		{"its text with another status", 403, "Request Entity Too Large", true, false},
		{"the 413 of nginx", 413, "<html>\n<head><title>413 Request Entity Too Large</title></head>", true, false},
		{"no body", 503, "", true, false},
		{"a page", 503, "<html>", true, false},
		{"an empty summary", 503, `{"summary":""}`, true, false},
		{"a summary that is no text", 503, `{"summary":{"en":"no"}}`, true, false},
		{"the errors of another API", 404, `{"errors":["not found"]}`, true, false},
		{"the errors of another API, as a text", 404, `{"errors":"not found"}`, true, false},
		{"the detail of another API", 404, `{"detail":"not found"}`, true, false},
		{"an empty detail", 404, `{"errors":{"detail":""}}`, true, false},
		{"a list", 404, `[{"summary":"no"}]`, true, false},
		{"a truncated summary", 404, `{"summary":"n`, true, false},
		{"an outcome", 503, `{"summary":"no","outcome":"unknown"}`, false, true},
		{"another outcome", 503, `{"summary":"no","outcome":"refused"}`, false, false},
		{"an outcome that is no text", 503, `{"summary":"no","outcome":{"a":1}}`, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newAPIError("GET", "/x", "id", &http.Response{StatusCode: row.status}, []byte(row.body))
			require.Equal(t, row.foreign, e.Foreign)
			require.Equal(t, row.unknownOutcome, e.unknownOutcome)
		})
	}
}

// A page for people is not Sequin's, whatever is in it. The exception is the recorded 413.
func TestAPageIsForeignWhateverItHolds(t *testing.T) {
	for _, row := range []struct {
		contentType, body string
		status            int
		foreign           bool
	}{
		{"text/html", `{"summary":"no"}`, 403, true},
		{"Text/HTML; charset=utf-8", `{"errors":{"detail":"no"}}`, 500, true},
		{"text/html; charset=utf-8", "Request Entity Too Large", 413, false},
		{"text/plain; charset=utf-8", `{"summary":"no"}`, 403, false}, // what net/http takes JSON for
		{"application/json; charset=utf-8", `{"summary":"no"}`, 403, false},
		{"", `{"summary":"no"}`, 403, false},
	} {
		resp := &http.Response{StatusCode: row.status, Header: http.Header{"Content-Type": {row.contentType}}}
		require.Equal(t, row.foreign, newAPIError("GET", "/x", "id", resp, []byte(row.body)).Foreign, "%+v", row)
	}
}

// IsTransient says whether the same call may succeed later, whatever the error is wrapped in or joined with.
func TestIsTransientOfWrappedAndJoinedErrors(t *testing.T) {
	busy, invalid := error(&APIError{Status: 503, Summary: "busy"}), error(&APIError{Status: 422, Summary: "no"})
	lost := error(&connError{kind: kindLost, sent: true, cause: context.DeadlineExceeded}) // an attempt timed out
	var none *APIError
	for name, row := range map[string]struct {
		err  error
		want bool
	}{
		"wrapped":                      {fmt.Errorf("a: %w", fmt.Errorf("b: %w", busy)), true},
		"of unknown outcome":           {fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost), true},
		"joined with one like it":      {errors.Join(busy, lost), true},
		"joined with a foreign error":  {errors.Join(io.EOF, busy), true},
		"joined with a refusal":        {errors.Join(busy, invalid), false},
		"joined with a refusal, first": {errors.Join(invalid, busy), false},
		"joined with an invalid key":   {errors.Join(busy, ErrInvalidKey), false},
		"marked as permanent":          {Permanent(busy), false},
		"around a permanent one":       {errors.Join(busy, Permanent(io.EOF)), false},
		"after the ctx ended":          {fmt.Errorf("%w; the last of 2 attempts: %w", context.Canceled, busy), false},
		"after the ctx timed out":      {fmt.Errorf("%w; the last of 2 attempts: %w", context.DeadlineExceeded, busy), false},
		"an attempt that timed out":    {lost, true},
		"one of several messages":      {&UnsentError{Failed: []MessageError{{Err: busy}, {Err: invalid}}}, false},
		"of all of several messages":   {&UnsentError{Failed: []MessageError{{Err: busy}, {Err: lost}}}, true},
		"a token source":               {&tokenError{cause: io.EOF}, true},
		"a token source after a 401":   {&tokenError{refused: &APIError{Status: 401, Summary: "no"}, cause: io.EOF}, true},
		"a typed nil":                  {none, false},
		"a method that panics":         {error(panics{}), false},
		"a panic of a handler":         {&PanicError{Value: busy}, true},
		"a context of the program":     {context.Canceled, false},
		"another program's error":      {io.ErrUnexpectedEOF, false},
		"settled":                      {ErrSettled, false},
		"a full buffer":                {fmt.Errorf("a: %w", ErrBufferFull), true},
		"closed, and why":              {fmt.Errorf("%w: %w", ErrClosed, busy), true},
	} {
		require.Equal(t, row.want, IsTransient(row.err), name)
	}
}

// panics is an error whose methods panic.
type panics struct{}

func (panics) Error() string { panic("Error") }
func (panics) Unwrap() error { panic("Unwrap") }

func TestEveryLostAnswerHasOneMeaning(t *testing.T) {
	client, err := NewClient(Config{BaseURL: "http://sequin.test"})
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	dial := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "sequin.test"}}
	write := &net.OpError{Op: "write", Err: errors.New("broken pipe")}
	read := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for _, row := range []struct {
		name            string
		ctx             context.Context
		cause           error
		connected, sent bool
		kind            failureKind
		subject         failureSubject
		mayHaveActed    bool
	}{
		{"no dial", t.Context(), dial, true, false, kindUnreachable, subjectOutage, false},
		{"no dial, of a RoundTripper that tells nothing", t.Context(), dial, true, true, kindUnreachable, subjectOutage, false},
		{"no proxy", t.Context(), &net.OpError{Op: "proxyconnect", Err: io.EOF}, true, true, kindUnreachable, subjectOutage, false},
		{"an untrusted certificate", t.Context(), &tls.CertificateVerificationError{Err: io.EOF}, true, true, kindUnreachable, subjectOutage, false},
		{"HTTP instead of HTTPS", t.Context(), http.ErrSchemeMismatch, true, true, kindUnreachable, subjectOutage, false},
		{"no TLS handshake", t.Context(), io.EOF, false, true, kindUnreachable, subjectOutage, false},
		{"no connection in time", t.Context(), context.DeadlineExceeded, false, false, kindUnreachable, subjectOutage, false},
		{"the request was not written", t.Context(), io.EOF, true, false, kindLost, subjectOutage, false},
		{"the request was not written to its end", t.Context(), write, true, true, kindLost, subjectUnclear, false},
		{"the connection broke", t.Context(), read, true, true, kindLost, subjectUnclear, true},
		{"the attempt timed out", t.Context(), context.DeadlineExceeded, true, true, kindLost, subjectUnclear, true},
		{"the caller gave up during the dial", over, dial, true, true, kindInterrupted, subjectNone, false},
		{"the caller gave up before the request was written", over, io.EOF, true, false, kindInterrupted, subjectNone, false},
		{"the caller gave up afterwards", over, io.EOF, true, true, kindInterrupted, subjectNone, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := client.lost(row.ctx, request{method: "GET", path: "/x"}, row.cause, row.connected, row.sent)
			want := meaning{kind: row.kind, mayHaveActed: row.mayHaveActed, subject: row.subject}
			if row.kind != kindInterrupted {
				want.transient, want.repeatable, want.surelyNotActed = true, true, !row.mayHaveActed
			}
			require.Equal(t, want, meaningOf(err))
			require.Equal(t, want, meaningOf(fmt.Errorf("sequin: a message: %w", err)), "wrapped")
			require.Equal(t, row.kind == kindUnreachable, errors.Is(err, ErrUnreachable))
			require.Zero(t, classify(err).status())
		})
	}
	unreadable := client.connError(request{}, kindUnreadable, true, io.EOF)
	require.Equal(t, meaning{kind: kindUnreadable, mayHaveActed: true, transient: true, repeatable: true, subject: subjectUnclear}, meaningOf(unreadable))
}

func TestErrorsWithoutARequestAreNotRepeatable(t *testing.T) {
	for err, want := range map[error]meaning{
		ErrResponseTooLarge: {kind: kindResponseTooLarge, subject: subjectUnclear, mayHaveActed: true},
		ErrTooLarge:         {kind: kindRequestTooLarge, subject: subjectRequest},
		ErrInvalidKey:       {kind: kindInvalid, subject: subjectRequest},
		ErrInvalidData:      {kind: kindInvalid, subject: subjectRequest},
		ErrClosed:           {}, ErrLeaseExpired: {}, ErrInvalidArgument: {}, ErrDuplicateKey: {}, io.EOF: {},
	} {
		require.Equal(t, want, meaningOf(fmt.Errorf("%w: a text", err)), err)
		require.False(t, IsTransient(err))
	}
	require.Equal(t, meaning{}, meaningOf(nil))
	require.False(t, IsTransient(nil))
}
