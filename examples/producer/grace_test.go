package main

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// withPublisher runs story in a bubble, in both modes, with a Publisher of one lane and one message per request. The first
// answer takes a second; until then every message is accepted.
func withPublisher(t *testing.T, story func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher)) {
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		t.Run(compat.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := sequintest.NewServer(t, sequintest.Config{Compat: compat})
				srv.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: time.Second})
				client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
				require.NoError(t, err)
				pub, err := client.NewPublisher("s", sequin.PublisherConfig{Lanes: 1, MaxBatch: 1})
				require.NoError(t, err)
				story(t, srv, client, pub)
			})
		})
	}
}

const buffered = 20

func fill(t *testing.T, pub *sequin.Publisher) {
	t.Helper()
	for i := range buffered {
		require.NoError(t, pub.Send(t.Context(), fmt.Sprintf("k.%d", i), ""))
	}
}

func create(t *testing.T, client *sequin.Client) {
	t.Helper()
	_, err := client.CreateStream(t.Context(), "s", sequin.StreamOptions{})
	require.NoError(t, err)
}

const graceTime = 30 * time.Second

func closeWithGrace(t *testing.T, pub *sequin.Publisher) error {
	t.Helper()
	c := newGraceContext(t.Context(), graceTime)
	defer c.cancel(nil)
	return c.closePublisher(pub)
}

func TestARefusalIsToleratedForTheGraceTime(t *testing.T) {
	withPublisher(t, func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher) {
		fill(t, pub)
		time.Sleep(2 * time.Second) // the first answer has refused the stream
		began := time.Now()
		require.ErrorIs(t, closeWithGrace(t, pub), errRefused)
		require.InDelta(t, graceTime, time.Since(began), float64(2*refresh))
	})
}

// LastError stays that of the refusal, while sending takes several times the grace time.
func TestAStreamThatIsCreatedWithinTheGraceTimeGetsEverything(t *testing.T) {
	withPublisher(t, func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher) {
		fill(t, pub)
		srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: graceTime / 4})
		time.AfterFunc(graceTime/2, func() { create(t, client) })
		require.NoError(t, closeWithGrace(t, pub))
		require.Equal(t, uint64(buffered-1), pub.Stats().Sent, "the first one was refused")
	})
}

func TestAnOutageIsToleratedWithoutLimit(t *testing.T) {
	withPublisher(t, func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher) {
		create(t, client)
		outage := srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: http.StatusServiceUnavailable, Body: `{"summary":"no"}`})
		fill(t, pub)
		time.AfterFunc(time.Hour, outage.Remove)
		require.NoError(t, closeWithGrace(t, pub))
		require.Equal(t, uint64(buffered), pub.Stats().Sent)
	})
}

// LastError stays that of the refusal: a server that accepts the stream again, but slowly, is in an outage like any other.
func TestASlowServerIsNotARefusal(t *testing.T) {
	withPublisher(t, func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher) {
		srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: graceTime / 2})
		fill(t, pub)
		time.Sleep(2 * time.Second) // the first answer has refused the stream
		create(t, client)
		time.Sleep(graceTime)
		require.ErrorIs(t, pub.Stats().LastError, sequin.ErrNotFound)
		require.NoError(t, pub.Stats().Refusal)
		c := newGraceContext(t.Context(), graceTime/4)
		defer c.cancel(nil)
		require.NoError(t, c.closePublisher(pub))
	})
}

// Each read of the stream succeeds, and is followed by a send that is refused and fails a message.
func TestATokenThatMayOnlyReadIsARefusal(t *testing.T) {
	withPublisher(t, func(t *testing.T, srv *sequintest.Server, client *sequin.Client, pub *sequin.Publisher) {
		create(t, client)
		srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: http.StatusForbidden, Body: `{"summary":"no"}`})
		fill(t, pub)
		require.ErrorIs(t, closeWithGrace(t, pub), errRefused)
		require.Positive(t, pub.Stats().Buffered)
	})
}

func TestOnlyErrorsOfTheMessageItselfArePermanent(t *testing.T) {
	for status, want := range map[int]bool{302: false, 400: true, 401: false, 403: false, 404: false, 405: false,
		408: false, 409: false, 413: true, 422: true, 429: false, 500: false, 503: false} {
		require.Equal(t, want, isPermanent(fmt.Errorf("wrapped: %w", &sequin.APIError{Status: status})), status)
	}
	for _, err := range []error{sequin.ErrInvalidKey, sequin.ErrInvalidData, sequin.ErrTooLarge} {
		require.True(t, isPermanent(err), err)
	}
	for _, err := range []error{nil, sequin.ErrClosed, sequin.ErrUnreachable, errors.New("other")} {
		require.False(t, isPermanent(err), err)
	}
}

func TestProgressShowsTheLastErrorWhileSomethingIsUnsent(t *testing.T) {
	refused := errors.New("403 Forbidden")
	for _, row := range []struct {
		stats  sequin.PublisherStats
		failed int64
		shows  string
	}{
		{sequin.PublisherStats{LastError: refused, Buffered: 1}, 0, "last error: 403 Forbidden"},
		{sequin.PublisherStats{LastError: refused}, 1, "last error: 403 Forbidden"},
		{sequin.PublisherStats{LastError: refused}, 0, ""},
		{sequin.PublisherStats{Buffered: 1}, 1, ""},
	} {
		m := newMeter()
		for range 2 {
			require.Equal(t, row.shows, m.trouble(row.stats, row.failed))
			require.Empty(t, m.trouble(row.stats, row.failed), "once an outage")
			require.Empty(t, m.trouble(sequin.PublisherStats{LastError: refused}, 0), "it is over")
		}
	}
}

func TestProgressFitsInto80Columns(t *testing.T) {
	m := newMeter()
	m.last = m.last.Add(-10 * time.Second)
	many := sequin.PublisherStats{Sent: 12_345_678, Buffered: 20_000, Batches: 12_345_678, Retries: 12_345_678}
	require.LessOrEqual(t, len(m.line(many, 12_345_678, 0, 0)), 80)
	require.LessOrEqual(t, len(m.summary(many)), 80)
}
