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
	mayHaveActed   bool
	repeatable     bool
	surelyNotActed bool
}

func meaningOf(err error) meaning {
	f := classify(err)
	return meaning{f.kind, f.mayHaveActed, f.repeatable, f.surelyNotActed()}
}

func TestEveryStatusHasOneMeaning(t *testing.T) {
	for status := 100; status < 1000; status++ {
		for _, summary := range []string{"", "no"} {
			want := meaning{kind: kindRejected}
			switch status {
			case 400, 422:
				want = meaning{kind: kindInvalid}
			case 401, 403:
				want = meaning{kind: kindUnauthorized}
			case 404:
				want = meaning{kind: kindNotFound}
			case 409:
				want = meaning{kind: kindFull}
			case 413:
				want = meaning{kind: kindTooLarge}
			case 429:
				want = meaning{kind: kindRateLimited, repeatable: true, surelyNotActed: true}
			case 503:
				want = meaning{kind: kindUnavailable, repeatable: true, surelyNotActed: true}
			case 408, 502, 504:
				want = meaning{kind: kindUnavailable, repeatable: true, mayHaveActed: true}
			default:
				if status >= 500 {
					want = meaning{kind: kindServerError, mayHaveActed: true}
				}
				if status == 500 && summary == "" {
					want = meaning{kind: kindUnexplained500, repeatable: true, mayHaveActed: true}
				}
			}
			api := &APIError{Status: status, Summary: summary}
			require.Equal(t, want, meaningOf(api), "%d with summary %q", status, summary)
			require.Equal(t, want, meaningOf(fmt.Errorf("%w: %w", ErrOutcomeUnknown, api)), "wrapped")
			f := classify(api)
			require.Equal(t, status, f.status())
			require.Equal(t, summary != "", f.explained())
			require.Same(t, api, f.api)
		}
	}
}

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
		sent, untrusted bool
		kind            failureKind
		mayHaveActed    bool
	}{
		{"no dial", t.Context(), dial, false, false, kindUnreachable, false},
		{"no dial, of a RoundTripper that tells nothing", t.Context(), dial, true, false, kindUnreachable, false},
		{"no proxy", t.Context(), &net.OpError{Op: "proxyconnect", Err: io.EOF}, true, false, kindUnreachable, false},
		{"an untrusted certificate", t.Context(), &tls.CertificateVerificationError{Err: io.EOF}, true, false, kindUnreachable, false},
		{"HTTP instead of HTTPS", t.Context(), http.ErrSchemeMismatch, true, false, kindUnreachable, false},
		{"no TLS handshake", t.Context(), io.EOF, true, true, kindUnreachable, false},
		{"the request was not written", t.Context(), io.EOF, false, false, kindLost, false},
		{"the request was not written to its end", t.Context(), write, true, false, kindLost, false},
		{"the connection broke", t.Context(), read, true, false, kindLost, true},
		{"the attempt timed out", t.Context(), context.DeadlineExceeded, true, false, kindLost, true},
		{"the caller gave up during the dial", over, dial, true, false, kindInterrupted, false},
		{"the caller gave up before the request was written", over, io.EOF, false, false, kindInterrupted, false},
		{"the caller gave up afterwards", over, io.EOF, true, false, kindInterrupted, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := client.lost(row.ctx, request{method: "GET", path: "/x"}, row.cause, row.sent, row.untrusted)
			want := meaning{kind: row.kind, mayHaveActed: row.mayHaveActed, repeatable: true, surelyNotActed: !row.mayHaveActed}
			require.Equal(t, want, meaningOf(err))
			require.Equal(t, want, meaningOf(fmt.Errorf("sequin: a message: %w", err)), "wrapped")
			require.Equal(t, row.kind == kindUnreachable, errors.Is(err, ErrUnreachable))
			require.Zero(t, classify(err).status())
		})
	}
	unreadable := client.connError(request{}, kindUnreadable, true, io.EOF)
	require.Equal(t, meaning{kind: kindUnreadable, mayHaveActed: true, repeatable: true}, meaningOf(unreadable))
}

func TestErrorsWithoutARequestAreNotRepeatable(t *testing.T) {
	for err, kind := range map[error]failureKind{
		ErrResponseTooLarge: kindTooLong, ErrTooLarge: kindTooLarge, ErrInvalidKey: kindInvalid, ErrInvalidData: kindInvalid,
		ErrClosed: kindOther, ErrLeaseExpired: kindOther, ErrInvalidArgument: kindOther, ErrDuplicateKey: kindOther, io.EOF: kindOther,
	} {
		require.Equal(t, meaning{kind: kind}, meaningOf(fmt.Errorf("%w: a text", err)), err)
	}
	require.Equal(t, meaning{}, meaningOf(nil))
}
