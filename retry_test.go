package sequin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// repeats says how often calls are attempted that meet a fault each time.
var repeats = []struct {
	name    string
	fault   sequintest.Fault
	sends   int  // attempts at sends and receives, and at acks and nacks whose ids belong to one delivery
	reads   int  // attempts at other reads
	changes int  // attempts at create, update, delete
	unknown bool // changes return ErrOutcomeUnknown
}{
	{"400", sequintest.Fault{Status: 400, Body: ownRefusal}, 1, 1, 1, false},
	{"401", sequintest.Fault{Status: 401, Body: ownRefusal}, 1, 1, 1, false},
	{"403", sequintest.Fault{Status: 403, Body: ownRefusal}, 1, 1, 1, false},
	{"404", sequintest.Fault{Status: 404, Body: ownRefusal}, 1, 1, 1, false},
	{"408", sequintest.Fault{Status: 408, Body: ownRefusal}, 4, 4, 1, true},
	{"409", sequintest.Fault{Status: 409, Body: ownRefusal}, 1, 1, 1, false},
	{"413", sequintest.Fault{Status: 413, Body: "Request Entity Too Large"}, 1, 1, 1, false},
	{"422", sequintest.Fault{Status: 422, Body: ownRefusal}, 1, 1, 1, false},
	{"429", sequintest.Fault{Status: 429, Body: ownRefusal}, 4, 4, 4, false},
	{"500 with a summary", sequintest.Fault{Status: 500, Body: ownRefusal}, 1, 1, 1, true},
	{"500 without a summary is repeated at most twice", sequintest.Fault{Status: 500, Body: `{"errors":{"detail":"Internal Server Error"}}`}, 3, 3, 1, true},
	{"502", sequintest.Fault{Status: 502, Body: ownRefusal}, 4, 4, 1, true},
	{"503", sequintest.Fault{Status: 503, Body: ownRefusal}, 4, 4, 4, false},
	{"503 of unknown outcome", sequintest.Fault{Status: 503, Body: `{"summary":"no","outcome":"unknown"}`}, 4, 4, 1, true},
	{"504", sequintest.Fault{Status: 504, Body: ownRefusal}, 4, 4, 1, true},
	{"507", sequintest.Fault{Status: 507, Body: ownRefusal}, 4, 4, 1, true},

	{"a foreign 429", sequintest.Fault{Status: 429}, 4, 4, 4, false},
	{"a foreign 500 is repeated at most twice", sequintest.Fault{Status: 500, Body: "<html>"}, 3, 3, 1, true},
	{"a foreign 502", sequintest.Fault{Status: 502, Body: "<html>"}, 4, 4, 1, true},
	{"a foreign 502 after the server acted", sequintest.Fault{Status: 502, Acted: true}, 4, 4, 1, true},
	{"a foreign 503", sequintest.Fault{Status: 503}, 4, 4, 1, true},
	{"a foreign 503 after the server acted", sequintest.Fault{Status: 503, Acted: true}, 4, 4, 1, true},
	{"a foreign 408", sequintest.Fault{Status: 408}, 4, 4, 1, true},
	{"a foreign 425", sequintest.Fault{Status: 425}, 4, 4, 1, true},
	{"a foreign 509", sequintest.Fault{Status: 509}, 4, 4, 1, true},
	{"a foreign 520", sequintest.Fault{Status: 520}, 4, 4, 1, true},
	{"a foreign 526", sequintest.Fault{Status: 526}, 4, 4, 1, true},
	{"a foreign 200", sequintest.Fault{Status: 200, Body: "<html>Sign in"}, 4, 1, 1, true},
	{"a foreign 204", sequintest.Fault{Status: 204}, 4, 1, 1, true},
	{"the 200 of another API", sequintest.Fault{Status: 200, Body: `{"status":"ok"}`}, 4, 1, 1, true},
	{"a foreign 307", sequintest.Fault{Status: 307}, 4, 1, 1, true},
	{"a foreign 400", sequintest.Fault{Status: 400}, 4, 1, 1, true},
	{"a foreign 401", sequintest.Fault{Status: 401, Body: "<html>"}, 4, 1, 1, true},
	{"a foreign 403", sequintest.Fault{Status: 403, Body: "<html>"}, 4, 1, 1, true},
	{"a foreign 404", sequintest.Fault{Status: 404, Body: "<html>"}, 4, 1, 1, true},
	{"a foreign 405", sequintest.Fault{Status: 405}, 4, 1, 1, true},
	{"a foreign 413", sequintest.Fault{Status: 413, Body: "<html>"}, 4, 1, 1, true},
	{"a foreign 421", sequintest.Fault{Status: 421}, 4, 1, 1, true},
	{"a foreign 422", sequintest.Fault{Status: 422}, 4, 1, 1, true},
	{"a foreign 501", sequintest.Fault{Status: 501}, 4, 1, 1, true},

	{"connection cut before the server acted", sequintest.Fault{CutBefore: true}, 4, 4, 1, true},
	{"connection cut after the server acted", sequintest.Fault{CutAfter: true}, 4, 4, 1, true},
	{"truncated", sequintest.Fault{Truncate: 5}, 4, 4, 1, true},
	{"garbled", sequintest.Fault{Garble: true}, 4, 4, 1, true},
	{"too slow", sequintest.Fault{Delay: time.Hour}, 4, 4, 1, true},
}

func TestWhatIsRepeatedAndHowOften(t *testing.T) {
	for _, row := range repeats {
		t.Run(row.name, func(t *testing.T) {
			forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
				want, before := row.reads, w.Count(o.op)
				switch {
				case o.op == sequintest.Send, o.op == sequintest.Ack, o.op == sequintest.Nack, o.op == sequintest.Extend:
					want = row.sends
				case o.changes:
					want = row.changes
				case o.op == sequintest.Receive && !row.fault.Garble:
					want = row.sends
				case o.op == sequintest.Receive && row.fault.Garble:
					want = 1 // each attempt would lease another batch
				}
				row.fault.Op = o.op
				w.Fault(row.fault)
				err := o.call(w.ctx, w.client)
				require.Error(t, err)
				require.Equal(t, want, w.Count(o.op)-before)
				require.Equal(t, o.changes && row.unknown, errors.Is(err, sequin.ErrOutcomeUnknown), "%v", err)
				var api *sequin.APIError
				require.Equal(t, row.fault.Status != 0, errors.As(err, &api), "the cause is wrapped: %v", err)
				if api != nil {
					require.Equal(t, row.fault.Status, api.Status)
					require.Equal(t, strings.Contains(row.name, "foreign") || row.fault.Status == 200, api.Foreign)
				}
			})
		})
	}
}

func TestACallSucceedsIfALaterAttemptDoes(t *testing.T) {
	for _, status := range []int{429, 503} {
		forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
			w.Fault(sequintest.Fault{Op: o.op, Status: status, Body: ownRefusal, Count: 3})
			require.NoError(t, o.call(w.ctx, w.client))
		})
	}
}

func TestMaxAttemptsIncludesTheFirst(t *testing.T) {
	for _, n := range []int{1, 2, 9} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: n}})
			w.Fault(sequintest.Fault{Status: 503})
			_, err := w.client.ListStreams(w.ctx)
			require.Error(t, err)
			require.Equal(t, n, w.Count(sequintest.ListStreams))
		})
	}
}

func TestAnUnreachableServerEndsACallWithinTwoSecondsWithAdvice(t *testing.T) {
	forEachOperation(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 100}}, func(t *testing.T, w *world, o operation) {
		w.Down()
		synctest.Wait() // until net/http has noticed that its idle connection is closed
		began := time.Now()
		err := o.call(w.ctx, w.client)
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
		require.Greater(t, time.Since(began), 400*time.Millisecond, "the first failed dial does not end it: servers restart")
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.ErrorContains(t, err, w.URL)
		require.ErrorContains(t, err, "is the server running")
		require.ErrorContains(t, err, "$SEQUIN_URL")
	})
}

func TestAServerThatRestartsQuicklyIsReached(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		w.Down()
		synctest.Wait() // until net/http has noticed that its idle connection is closed
		time.AfterFunc(120*time.Millisecond, w.Up)
		require.NoError(t, o.call(w.ctx, w.client), "a failed dial surely did not act")
	})
}

// The two seconds do not begin with the call: a server may answer 503 for a while before it stops.
func TestTheTwoSecondsBeginWithTheFirstFailedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 100, MaxWait: 500 * time.Millisecond}})
		w.Fault(sequintest.Fault{Status: 503})
		time.AfterFunc(3*time.Second, w.Down)
		began := time.Now()
		_, err := w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.Greater(t, time.Since(began), 4*time.Second)
		require.LessOrEqual(t, time.Since(began), 5500*time.Millisecond)
	})
}

// A firewall may drop packets instead of refusing the connection. A dial then hangs for as long as the dialer allows.
func TestADialThatHangsForTwoSecondsIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		hang := func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			time.Sleep(2 * time.Second)
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}
		c, err := sequin.NewClient(sequin.Config{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: hang}}})
		require.NoError(t, err)
		began := time.Now()
		_, err = c.ListStreams(t.Context())
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, 1, dials)
	})
}

func TestAnAnswerRestartsTheTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 100, MaxWait: 500 * time.Millisecond}})
		w.Down()
		w.Fault(sequintest.Fault{Status: 503})
		time.AfterFunc(300*time.Millisecond, w.Up)
		time.AfterFunc(4*time.Second, w.Down)
		began := time.Now()
		_, err := w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.Greater(t, time.Since(began), 5*time.Second)
	})
}

// waits returns the times between the requests that the server received.
func waits(w *world, op sequintest.Op) []time.Duration {
	var gaps []time.Duration
	requests := w.Requests(op)
	for i := 1; i < len(requests); i++ {
		gaps = append(gaps, requests[i].At.Sub(requests[i-1].At))
	}
	return gaps
}

func TestWaitsDoubleUpToMaxWaitAndAreRandom(t *testing.T) {
	const ms = time.Millisecond
	seen := map[time.Duration]bool{}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 6, MinWait: 100 * ms, MaxWait: 500 * ms}})
			w.Fault(sequintest.Fault{Status: 503})
			_, err := w.client.ListStreams(w.ctx)
			require.Error(t, err)
			got := waits(w, sequintest.ListStreams)
			require.Len(t, got, 5)
			for i, most := range []time.Duration{100 * ms, 200 * ms, 400 * ms, 500 * ms, 500 * ms} {
				require.GreaterOrEqual(t, got[i], most/2)
				require.LessOrEqual(t, got[i], most)
			}
			seen[got[4]] = true
		})
	}
	require.Greater(t, len(seen), 1, "the waits are not random")
}

func TestRetryAfterIsFollowedUpToMaxWait(t *testing.T) {
	inThreeSeconds := func() string { return time.Now().Add(3 * time.Second).UTC().Format(http.TimeFormat) }
	for _, row := range []struct {
		name        string
		header      func() string
		least, most time.Duration
	}{
		{"seconds", func() string { return "2" }, 2 * time.Second, 2 * time.Second},
		{"a date", inThreeSeconds, 3 * time.Second, 3 * time.Second},
		{"an hour", func() string { return "3600" }, 5 * time.Second, 5 * time.Second},
		{"more than an int64", func() string { return strings.Repeat("9", 30) }, 5 * time.Second, 5 * time.Second},
		{"nonsense", func() string { return "soon" }, 50 * time.Millisecond, 100 * time.Millisecond},
		{"the past", func() string { return "Thu, 01 Jan 1970 00:00:00 GMT" }, 50 * time.Millisecond, 100 * time.Millisecond},
		{"negative", func() string { return "-5" }, 50 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.Fault(sequintest.Fault{Status: 429, Header: http.Header{"Retry-After": {row.header()}}, Count: 1})
				_, err := w.client.ListStreams(w.ctx)
				require.NoError(t, err)
				got := waits(w, sequintest.ListStreams)
				require.Len(t, got, 1)
				require.GreaterOrEqual(t, got[0], row.least)
				require.LessOrEqual(t, got[0], row.most)
			})
		})
	}
}

func TestAWaitIsNeverOutsideItsLimits(t *testing.T) {
	for _, retry := range []sequin.RetryConfig{
		{}, {MinWait: 1}, {MinWait: time.Hour}, {MaxWait: time.Millisecond}, {MinWait: 1, MaxWait: 1},
		{MinWait: 3600 * time.Hour, MaxWait: 87_600 * time.Hour},
	} {
		least := time.Duration(0)
		for n := range 200 {
			got, err := retry.Wait(n, nil)
			require.NoError(t, err, "if one limit is set, the default of the other does not contradict it")
			most, _ := retry.Wait(199, nil)
			require.Positive(t, got+1)
			require.GreaterOrEqual(t, 2*got+1, least, "failure %d waits less than an earlier one", n)
			require.LessOrEqual(t, got, 2*most+1)
			least = max(least, got)
		}
	}
}

func TestAContextThatEndsDuringAWaitEndsTheCallAndKeepsTheLastError(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		before := w.Count(o.op)
		w.Fault(sequintest.Fault{Op: o.op, Status: 503, Body: `{"summary":"starting"}`, Header: http.Header{"Retry-After": {"5"}}})
		stopped := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(w.ctx)
		time.AfterFunc(time.Second, func() { cancel(stopped) })
		began := time.Now()
		err := o.call(ctx, w.client)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, stopped)
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, "starting", api.Summary)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		time.Sleep(time.Hour)
		require.Equal(t, 1, w.Count(o.op)-before)
	})
}

func TestAContextThatEndsDuringALaterAttemptKeepsTheErrorBefore(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		before := w.Count(o.op)
		w.Fault(sequintest.Fault{Op: o.op, Status: 503, Body: `{"summary":"starting"}`, Count: 1})
		w.Fault(sequintest.Fault{Op: o.op, Delay: 24 * time.Hour})
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err := o.call(ctx, w.client)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, "starting", api.Summary)
		require.Equal(t, o.changes, errors.Is(err, sequin.ErrOutcomeUnknown), "the server may have carried out the second attempt")
		require.Equal(t, 2, w.Count(o.op)-before)
	})
}

func TestAFailedCallHasTheLastErrorAndTheNumberOfAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		for i := range 4 {
			w.Fault(sequintest.Fault{Status: 503, Body: fmt.Sprintf(`{"summary":"trouble %d"}`, i), Count: 1})
		}
		_, err := w.client.ListStreams(w.ctx)
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, "trouble 3", api.Summary)
		require.ErrorContains(t, err, "4 attempts")
	})
}

func TestRepeatsAreLoggedAndSuccessIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Token: ""})
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		require.Empty(t, log.String())
		w.Fault(sequintest.Fault{Status: 503, Count: 2})
		_, err = w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 2, strings.Count(log.String(), "retries a request"))
		require.Contains(t, log.String(), "GET /api/streams: 503")
	})
}
