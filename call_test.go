package sequin_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// someID is an ack id that no server issued.
const someID = "7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"

// operation is a call of the client. Each reaches a route of its own.
type operation struct {
	op      sequintest.Op
	changes bool // it is repeated only if the server surely did not act
	call    func(ctx context.Context, c *sequin.Client) error
}

// operations are all calls, on the stream "s", its consumer "all" and its message "k".
var operations = []operation{
	{sequintest.Send, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.SendMessage(ctx, "s", "k", "1")
		return err
	}},
	{sequintest.Receive, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.ReceiveMessages(ctx, "s", "all", sequin.ReceiveOptions{})
		return err
	}},
	{sequintest.Ack, true, func(ctx context.Context, c *sequin.Client) error {
		return c.AckMessage(ctx, "s", "all", someID)
	}},
	{sequintest.Nack, true, func(ctx context.Context, c *sequin.Client) error {
		return c.NackMessage(ctx, "s", "all", someID)
	}},
	{sequintest.CreateStream, true, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.CreateStream(ctx, "t", sequin.StreamOptions{})
		return err
	}},
	{sequintest.GetStream, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.GetStream(ctx, "s")
		return err
	}},
	{sequintest.ListStreams, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.ListStreams(ctx)
		return err
	}},
	{sequintest.DeleteStream, true, func(ctx context.Context, c *sequin.Client) error {
		return c.DeleteStream(ctx, "s")
	}},
	{sequintest.PurgeStream, true, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.PurgeStream(ctx, "s", sequin.PurgeOptions{All: true})
		return err
	}},
	{sequintest.Extend, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.ExtendMessages(ctx, "s", "all", time.Minute, []string{someID})
		return err
	}},
	{sequintest.CreateConsumer, true, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.CreateConsumer(ctx, "s", "c", ">", sequin.ConsumerOptions{})
		return err
	}},
	{sequintest.GetConsumer, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.GetConsumer(ctx, "s", "all")
		return err
	}},
	{sequintest.ListConsumers, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.ListConsumers(ctx, "s")
		return err
	}},
	{sequintest.UpdateConsumer, true, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.UpdateConsumer(ctx, "s", "all", sequin.ConsumerOptions{MaxWaiting: 7})
		return err
	}},
	{sequintest.DeleteConsumer, true, func(ctx context.Context, c *sequin.Client) error {
		return c.DeleteConsumer(ctx, "s", "all")
	}},
	{sequintest.ListMessages, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.ListMessages(ctx, "s", sequin.ListOptions{})
		return err
	}},
	{sequintest.PeekMessages, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.PeekMessages(ctx, "s", "all", sequin.ListOptions{})
		return err
	}},
	{sequintest.GetMessage, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.GetMessage(ctx, "s", "k")
		return err
	}},
	{sequintest.MessageInfo, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.MessageInfo(ctx, "s", "k")
		return err
	}},
	{sequintest.GetSink, false, func(ctx context.Context, c *sequin.Client) error {
		_, err := c.GetSink(ctx, "sink")
		return err
	}},
}

// prepared is a world in which every operation succeeds.
func prepared(t *testing.T, client sequin.Config) *world {
	t.Helper()
	w := newWorld(t, sequintest.Config{}, client)
	w.stream(t, "s", sequin.ConsumerOptions{})
	w.Sink("sink", server.SinkOptions{})
	_, err := w.client.SendMessage(w.ctx, "s", "k", "0")
	require.NoError(t, err)
	return w
}

// forEachOperation runs promise for every operation, each with a server and a synctest bubble of its own.
func forEachOperation(t *testing.T, client sequin.Config, promise func(t *testing.T, w *world, o operation)) {
	t.Helper()
	for _, o := range operations {
		t.Run(o.op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { promise(t, prepared(t, client), o) })
		})
	}
}

func TestEveryOperationIsOneRequest(t *testing.T) {
	covered := map[sequintest.Op]bool{}
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		all, mine := w.Count(sequintest.Any), w.Count(o.op)
		require.NoError(t, o.call(w.ctx, w.client))
		require.Equal(t, 1, w.Count(sequintest.Any)-all)
		require.Equal(t, 1, w.Count(o.op)-mine)
		covered[o.op] = true
	})
	for op := sequintest.Any + 1; op < sequintest.Other; op++ {
		require.True(t, covered[op] || op == sequintest.EndReceive, "no operation reaches the route %v", op) // only a stop makes these
	}
}

func TestNothingIsSentAfterTheContextHasEnded(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		before := w.Count(sequintest.Any)
		stopped := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(w.ctx)
		cancel(stopped)
		err := o.call(ctx, w.client)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, stopped, "the cause says who cancelled")
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.NotErrorIs(t, err, sequin.ErrUnreachable)
		require.Equal(t, before, w.Count(sequintest.Any))
	})
}

// net/http by itself repeats a GET, or a request with an Idempotency-Key, when a reused connection ends early. Such a
// repeat would not count as an attempt, would not wait, and could exceed MaxAttempts.
func TestNetHTTPDoesNotRepeatRequestsByItself(t *testing.T) {
	for _, fault := range []sequintest.Fault{{CutAfter: true}, {CutBefore: true}} {
		forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
			hc, dials := countingDials(w.Server)
			c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
			require.NoError(t, err)
			_, err = c.ListStreams(w.ctx)
			require.NoError(t, err)
			synctest.Wait() // the connection is idle, and is reused below

			before := w.Count(o.op)
			fault.Op, fault.Count = o.op, 1
			w.Fault(fault)
			require.Error(t, o.call(w.ctx, c))
			require.Equal(t, 1, w.Count(o.op)-before)
			require.EqualValues(t, 1, dials.Load(), "the connection was not reused, so that this test proves nothing")
		})
	}
}

func TestAllAttemptsAtASendStoreOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "s", sequin.ConsumerOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal, Count: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Count: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Truncate: 3, Count: 1})
		data := strings.Repeat("all of it, in each attempt. ", 10_000)
		result, err := w.client.SendMessage(w.ctx, "s", "k", data)
		require.NoError(t, err)
		require.Equal(t, 1, result.Published)

		sends := w.Requests(sequintest.Send)
		require.Len(t, sends, 4)
		for _, r := range sends {
			require.Equal(t, []sequintest.Message{{Key: "k", Data: data}}, r.Messages())
			require.Equal(t, sends[0].Body, r.Body)
			for _, name := range []string{"Idempotency-Key", "X-Request-Id"} {
				require.NotEmpty(t, r.Header.Get(name))
				require.Equal(t, sends[0].Header.Get(name), r.Header.Get(name), name)
			}
		}
		stored, err := w.client.ListMessages(w.ctx, "s", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, stored, 1, "the stream appends, and the server carried out three attempts")

		_, err = w.client.SendMessage(w.ctx, "s", "k", data)
		require.NoError(t, err)
		again := w.Requests(sequintest.Send)[4]
		require.NotEqual(t, sends[0].Header.Get("Idempotency-Key"), again.Header.Get("Idempotency-Key"))
	})
}

func TestOnlySendsCarryAnIdempotencyKey(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		require.NoError(t, o.call(w.ctx, w.client))
		r := w.Requests(o.op)
		require.Equal(t, o.op == sequintest.Send, len(r[len(r)-1].Header.Values("Idempotency-Key")) > 0, "also none with an empty value")
	})
}

func TestRedirectsAreErrorsThatNameTheirTarget(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
				all := w.Count(sequintest.Any)
				w.Fault(sequintest.Fault{Op: o.op, Status: status, Header: http.Header{"Location": {"/elsewhere"}},
					Body: `{"summary":"moved"}`})
				err := o.call(w.ctx, w.client)
				var api *sequin.APIError
				require.ErrorAs(t, err, &api)
				require.Equal(t, status, api.Status)
				require.ErrorContains(t, err, "/elsewhere")
				require.ErrorContains(t, err, "BaseURL")
				require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
				require.Equal(t, 1, w.Count(sequintest.Any)-all, "neither followed nor repeated")
			})
		})
	}
}

func TestNamesAreEscapedInPaths(t *testing.T) {
	name := `a/b c?d#e%2Ff"é;+&`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL + "/pre%2Ffix/", HTTPClient: w.Server.Client()})
		require.NoError(t, err)
		_, err = c.GetConsumer(w.ctx, name, name)
		require.ErrorIs(t, err, sequin.ErrNotFound)
		const escaped = "a%2Fb%20c%3Fd%23e%252Ff%22%C3%A9%3B+&"
		require.Equal(t, "/pre%2Ffix/api/streams/"+escaped+"/consumers/"+escaped, w.Requests()[0].Path)
		for _, call := range []func(string) error{
			func(name string) error { _, err := c.GetStream(w.ctx, name); return err },
			func(name string) error { _, err := c.GetConsumer(w.ctx, "s", name); return err },
		} {
			for _, dots := range []string{".", ".."} {
				require.ErrorIs(t, call(dots), sequin.ErrInvalidArgument, "a server or proxy would resolve it to another path")
			}
		}
		require.Equal(t, 1, w.Count(sequintest.Any))
	})
}

func TestOneClientServesManyGoroutines(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		const n = 50
		errs := make(chan error, n)
		for i := range n {
			go func() {
				_, err := w.client.SendMessage(w.ctx, "s", "k."+strings.Repeat("x", i+1), "1")
				errs <- err
			}()
		}
		for range n {
			require.NoError(t, <-errs)
		}
		stored, err := w.client.ListMessages(w.ctx, "s", sequin.ListOptions{})
		require.NoError(t, err)
		require.Len(t, stored, n)
		require.True(t, slices.IsSortedFunc(stored, func(a, b sequin.StoredMessage) int { return int(a.Seq - b.Seq) }))
	})
}

func TestAContextThatEndsBeforeTheAnswerLeavesTheOutcomeUnknown(t *testing.T) {
	forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
		before := w.Count(o.op)
		w.Fault(sequintest.Fault{Op: o.op, DelayAfter: 24 * time.Hour})
		stopped := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(w.ctx)
		time.AfterFunc(time.Second, func() { cancel(stopped) })
		began := time.Now()
		err := o.call(ctx, w.client)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, stopped)
		require.Equal(t, o.changes, errors.Is(err, sequin.ErrOutcomeUnknown))
		time.Sleep(time.Hour)
		require.Equal(t, 1, w.Count(o.op)-before, "nothing is sent after ctx has ended")
	})
}

func TestADialThatTheCallerInterruptsIsNotUnreachable(t *testing.T) {
	hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: r.Context().Err()}
	})}
	synctest.Test(t, func(t *testing.T) {
		c, err := sequin.NewClient(sequin.Config{HTTPClient: hc})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = c.AckMessage(ctx, "s", "all", someID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, sequin.ErrUnreachable)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
	})
}
