package sequin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// publish sends n messages with keys of their own.
func (w *world) publish(t *testing.T, prefix string, n int) {
	t.Helper()
	for from := 0; from < n; from += sequin.MaxBatch {
		var batch []sequin.Message
		for i := from; i < min(n, from+sequin.MaxBatch); i++ {
			batch = append(batch, sequin.Message{Key: fmt.Sprintf("%s.%d", prefix, i), Data: fmt.Sprint(i)})
		}
		_, err := w.client.SendMessages(w.ctx, "orders", batch)
		require.NoError(t, err)
	}
}

func (w *world) send(t *testing.T, key, data string) {
	t.Helper()
	_, err := w.client.SendMessage(w.ctx, "orders", key, data)
	require.NoError(t, err)
}

// subscribe subscribes to the consumer of everything.
func (w *world) subscribe(t *testing.T, cfg sequin.SubscriberConfig) *sequin.Subscriber {
	t.Helper()
	return subscribe(t, w.client, cfg)
}

func subscribe(t *testing.T, client *sequin.Client, cfg sequin.SubscriberConfig) *sequin.Subscriber {
	t.Helper()
	sub, err := client.Subscribe(t.Context(), "orders", "all", cfg)
	require.NoError(t, err)
	// In case the test fails before it closes sub: a bubble that ends with goroutines in it panics and hides the failure.
	t.Cleanup(func() { _ = sub.Close(t.Context()) })
	return sub
}

// consumer returns the server's state of the consumer of everything.
func (w *world) consumer(t *testing.T) server.ConsumerState {
	t.Helper()
	state, ok := w.Stream("orders")
	require.True(t, ok)
	require.NotEmpty(t, state.Consumers)
	return state.Consumers[0]
}

// requireDone requires that the consumer has no message left, neither available nor leased.
func (w *world) requireDone(t *testing.T) {
	t.Helper()
	c := w.consumer(t)
	require.Zero(t, c.Available, "available")
	require.Zero(t, c.Delayed, "delayed")
	require.Empty(t, c.Outstanding, "outstanding")
}

// as returns a client of the same server for another program, which is identified by its name in User-Agent.
func (w *world) as(t *testing.T, name string) *sequin.Client {
	t.Helper()
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Client(), UserAgent: name})
	require.NoError(t, err)
	return c
}

// by matches the requests of a client of that name.
func by(name string) func(*sequintest.Request) bool {
	return func(r *sequintest.Request) bool { return r.Header.Get("User-Agent") == name }
}

// next returns the next delivery, which must arrive within the given time.
func next(t *testing.T, sub *sequin.Subscriber, within time.Duration) sequin.Delivery {
	t.Helper()
	select {
	case d, ok := <-sub.Deliveries():
		require.True(t, ok, "the channel closed: %v", sub.Err())
		return d
	case <-time.After(within):
		require.Fail(t, "no delivery", "within %v; %+v", within, sub.Stats())
		panic("unreachable")
	}
}

// closeNow stops sub, which must have no unsettled delivery.
func closeNow(t *testing.T, sub *sequin.Subscriber) {
	t.Helper()
	require.NoError(t, sub.Close(t.Context()))
	_, open := <-sub.Deliveries()
	require.False(t, open, "a delivery after Close")
}

// through puts a RoundTripper around a world's client.
func (w *world) through(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper) *sequin.Client {
	t.Helper()
	hc := w.Client()
	hc.Transport = wrap(hc.Transport)
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc})
	require.NoError(t, err)
	return c
}

// counted is a client of a world, with the number of its requests that run.
func (w *world) counted(t *testing.T) (c *sequin.Client, running *atomic.Int32) {
	t.Helper()
	running = new(atomic.Int32)
	return w.through(t, func(behind http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			running.Add(1)
			defer running.Add(-1)
			defer time.Sleep(time.Millisecond) // so that a test notices a stop that does not wait for its end
			return behind.RoundTrip(r)
		})
	}), running
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// withoutWaited is a proxy that drops headers that it does not know.
func withoutWaited(behind http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := behind.RoundTrip(r)
		if err == nil {
			resp.Header.Del("Sequin-Waited-Ms")
		}
		return resp, err
	})
}

// withSlowBody makes the body of the first good answer to a path arrive so much later than its header.
func withSlowBody(path string, late time.Duration) func(http.RoundTripper) http.RoundTripper {
	return func(behind http.RoundTripper) http.RoundTripper {
		var once sync.Once
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := behind.RoundTrip(r)
			if err == nil && resp.StatusCode == http.StatusOK && strings.HasSuffix(r.URL.Path, path) {
				once.Do(func() { resp.Body = &slowBody{resp.Body, r.Context(), late} })
			}
			return resp, err
		})
	}
}

type slowBody struct {
	io.ReadCloser
	ctx  context.Context // of the request
	late time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	select {
	case <-time.After(b.late):
		b.late = 0
		return b.ReadCloser.Read(p)
	case <-b.ctx.Done(): // the transport may have read the body already
		return 0, b.ctx.Err()
	}
}

func TestSubscribeReturnsAnErrorThatNamesTheCause(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 4 * time.Second})
		_, err := w.client.CreateConsumer(w.ctx, "orders", "hasty", ">", sequin.ConsumerOptions{AckWait: 99 * time.Millisecond})
		require.NoError(t, err)
		for _, row := range []struct {
			stream, consumer string
			cfg              sequin.SubscriberConfig
			want             error
		}{
			{"nowhere", "all", sequin.SubscriberConfig{}, sequin.ErrNotFound},
			{"orders", "nobody", sequin.SubscriberConfig{}, sequin.ErrNotFound},
			{"", "all", sequin.SubscriberConfig{}, sequin.ErrInvalidArgument},
			{"orders", "hasty", sequin.SubscriberConfig{}, sequin.ErrLeaseTooShort},
			{"orders", "all", sequin.SubscriberConfig{MaxInFlight: -1}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{MaxInFlight: 100_001}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{Pollers: -1}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{Pollers: 65}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{PollMin: 2 * time.Second, PollMax: time.Second}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{PollMin: time.Microsecond}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{WaitFor: 499 * time.Millisecond}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{WaitFor: 5*time.Minute + time.Millisecond}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{LeaseMargin: -1}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{LeaseMargin: 2001 * time.Millisecond}, sequin.ErrInvalidConfig},
			{"orders", "all", sequin.SubscriberConfig{DrainTimeout: -1}, sequin.ErrInvalidConfig},
		} {
			_, err := w.client.Subscribe(w.ctx, row.stream, row.consumer, row.cfg)
			require.ErrorIs(t, err, row.want, "%+v", row)
		}
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		_, err = w.client.Subscribe(ended, "orders", "all", sequin.SubscriberConfig{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestASubscriberReceivesTheMessagesOfItsOwnStream(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		got := map[string][]string{}
		for _, stream := range []string{"orders", "payments"} {
			w.stream(t, stream, sequin.ConsumerOptions{})
			for i := range 20 {
				_, err := w.client.SendMessage(w.ctx, stream, fmt.Sprintf("%s.%d", stream, i), "x")
				require.NoError(t, err)
			}
		}
		for _, stream := range []string{"orders", "payments"} {
			sub, err := w.client.Subscribe(w.ctx, stream, "all", sequin.SubscriberConfig{})
			require.NoError(t, err)
			for range 20 {
				d := next(t, sub, time.Second)
				got[stream] = append(got[stream], d.Key)
				require.NoError(t, d.Ack())
			}
			time.Sleep(time.Minute)
			require.Equal(t, uint64(20), sub.Stats().Received)
			closeNow(t, sub)
		}
		for stream, keys := range got {
			for i, key := range keys {
				require.Equal(t, fmt.Sprintf("%s.%d", stream, i), key, "in order of seq, and from no other stream")
			}
		}
	})
}

// A consumer that is created again under the same name begins at the beginning of the stream. A Subscriber that went on
// with it silently would process every message twice.
func TestADeletedConsumerStopsTheSubscriber(t *testing.T) {
	for name, again := range map[string]func(t *testing.T, w *world){
		"consumer": func(t *testing.T, w *world) {
			require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
			_, err := w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
			require.NoError(t, err)
		},
		"stream": func(t *testing.T, w *world) {
			require.NoError(t, w.client.DeleteStream(w.ctx, "orders"))
			w.stream(t, "orders", sequin.ConsumerOptions{})
			w.send(t, "new.1", "x")
		},
		"for_good": func(t *testing.T, w *world) {
			require.NoError(t, w.client.DeleteConsumer(w.ctx, "orders", "all"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				time.Sleep(time.Minute + time.Second)
				again(t, w)
				select {
				case _, open := <-sub.Deliveries():
					require.False(t, open)
				case <-time.After(time.Minute):
					require.Fail(t, "the channel is open")
				}
				var api *sequin.APIError
				require.ErrorAs(t, sub.Err(), &api)
				require.ErrorIs(t, sub.Err(), sequin.ErrNotFound)
				require.NotEmpty(t, api.Summary)
				require.NoError(t, sub.Close(w.ctx))
			})
		})
	}
}

// everySecond matches the first request, the third, and so on.
func everySecond() func(*sequintest.Request) bool {
	var n atomic.Int32
	return func(*sequintest.Request) bool { return n.Add(1)%2 == 1 }
}

// during matches all requests for the given time after the first one.
func during(d time.Duration) func(*sequintest.Request) bool {
	var once sync.Once
	var began time.Time
	return func(*sequintest.Request) bool {
		once.Do(func() { began = time.Now() })
		return time.Since(began) < d
	}
}

// notEveryEighth matches seven of eight requests for two minutes.
func notEveryEighth() func(*sequintest.Request) bool {
	var n atomic.Int32
	lasts := during(2 * time.Minute)
	return func(r *sequintest.Request) bool { return n.Add(1)%8 != 0 && lasts(r) }
}

func TestOnlyAPermanentErrorStopsTheSubscriber(t *testing.T) {
	for _, row := range []struct {
		name  string
		op    sequintest.Op
		fault sequintest.Fault
		ends  error
	}{
		{"unauthorized", sequintest.Receive, sequintest.Fault{Status: 401, Body: `{"summary":"no"}`}, sequin.ErrUnauthorized},
		{"forbidden", sequintest.Receive, sequintest.Fault{Status: 403, Body: ownRefusal}, sequin.ErrUnauthorized},
		{"unauthorized_when_read_again", sequintest.GetConsumer, sequintest.Fault{Status: 401, Body: ownRefusal}, nil},
		{"refused_for_20s", sequintest.Receive, sequintest.Fault{Status: 401, Body: ownRefusal, Match: during(20 * time.Second)}, nil},
		{"refused_but_for_one_answer_in_8", sequintest.Receive, sequintest.Fault{Status: 403, Body: ownRefusal, Match: notEveryEighth()}, nil},
		{"a_proxys_401", sequintest.Receive, sequintest.Fault{Status: 401, Body: "<html>", Match: during(2 * time.Minute)}, nil},
		{"a_proxys_403", sequintest.Receive, sequintest.Fault{Status: 403, Body: "<html>", Match: during(2 * time.Minute)}, nil},
		{"a_proxys_405", sequintest.Receive, sequintest.Fault{Status: 405, Body: "<html>", Match: during(2 * time.Minute)}, nil},
		{"a_404_while_the_consumer_exists", sequintest.Receive, sequintest.Fault{Status: 404, Body: `{"summary":"no"}`, Count: 3}, nil},
		{"a_proxys_404", sequintest.Receive, sequintest.Fault{Status: 404, Body: "<html>", Count: 5}, nil},
		{"one_404_when_read_again", sequintest.GetConsumer, sequintest.Fault{Status: 404, Body: `{"summary":"no"}`, Count: 1}, nil},
		{"a_proxys_404_when_read_again", sequintest.GetConsumer, sequintest.Fault{Status: 404, Body: "<html>"}, nil},
		{"404s_with_good_answers_between", sequintest.GetConsumer, sequintest.Fault{Status: 404, Body: `{"summary":"no"}`, Match: everySecond()}, nil},
		{"a_500_without_a_summary", sequintest.Receive, sequintest.Fault{Status: 500, Body: "{}", Count: 7}, nil},
		{"a_bad_request", sequintest.Receive, sequintest.Fault{Status: 400, Body: `{"summary":"no"}`, Count: 7}, nil},
		{"garbage", sequintest.Receive, sequintest.Fault{Garble: true, Count: 3}, nil},
		{"truncated", sequintest.Receive, sequintest.Fault{Truncate: 5, Count: 3}, nil},
		{"connection_closed", sequintest.Receive, sequintest.Fault{CutAfter: true, Count: 3}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				synctest.Wait()
				row.fault.Op = row.op
				w.Fault(row.fault)
				time.Sleep(3 * time.Minute)
				if row.ends != nil {
					_, open := <-sub.Deliveries()
					require.False(t, open)
					require.ErrorIs(t, sub.Err(), row.ends)
					require.NoError(t, sub.Close(w.ctx))
					return
				}
				w.send(t, "k.1", "x")
				require.NoError(t, next(t, sub, 5*time.Second).AckSync(w.ctx))
				require.NoError(t, sub.Err())
				closeNow(t, sub)
			})
		})
	}
}

// A read that finds no consumer is repeated at once, and soon again if that fails: a program that waits for the channel to
// close should not wait for the next minute.
func TestAMissingConsumerIsConfirmedSoon(t *testing.T) {
	for name, row := range map[string]struct {
		unanswered int // reads after the first
		within     time.Duration
	}{
		"the server answers":                   {0, 0},
		"the server is unavailable in between": {3, 700 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				missing := sequintest.Fault{Op: sequintest.GetConsumer, Status: 404, Body: `{"summary":"no"}`, Count: 1}
				first := w.Fault(missing)
				if row.unanswered > 0 {
					w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Status: 503, Body: ownRefusal, Count: row.unanswered})
				}
				w.Fault(missing)
				require.NoError(t, first.Wait(w.ctx, 1))
				began := time.Now()
				_, open := <-sub.Deliveries()
				require.False(t, open)
				require.LessOrEqual(t, time.Since(began), row.within)
				require.ErrorIs(t, sub.Err(), sequin.ErrNotFound)
				require.NoError(t, sub.Close(w.ctx))
			})
		})
	}
}

// With the server unavailable for long, the pauses between the reads grow.
func TestReadsOfAMissingConsumerAreBackedOff(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Status: 404, Body: `{"summary":"no"}`, Count: 1})
		unavailable := w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Status: 503, Body: ownRefusal})
		require.NoError(t, unavailable.Wait(w.ctx, 1))
		time.Sleep(10 * time.Minute)
		require.Less(t, unavailable.Hits(), 10*60/2) // half of MaxWait apart
		unavailable.Remove()
		time.Sleep(10 * time.Second)
		require.NoError(t, sub.Err(), "the consumer exists")
		closeNow(t, sub)
	})
}

// During an outage the Subscriber must not close the channel or retry without a pause. After it, receives must continue.
func TestTheSubscriberWorksAgainAfterAnOutage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "before", 3)
		failed := make(chan error, 10)
		var attempts atomic.Int32
		client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				attempts.Add(1)
				return behind.RoundTrip(r)
			})
		})
		sub := subscribe(t, client, sequin.SubscriberConfig{Pollers: 1, OnAckError: func(_ sequin.Delivery, err error) { failed <- err }})
		held := next(t, sub, time.Second)
		require.NoError(t, next(t, sub, time.Second).AckSync(w.ctx))

		w.Down()
		attempts.Store(0)
		require.NoError(t, held.Ack())
		time.Sleep(10 * time.Minute)
		require.Less(t, attempts.Load(), int32(10*60), "attempts in ten minutes")
		require.Len(t, failed, 1)
		require.ErrorIs(t, <-failed, sequin.ErrLeaseExpired)
		require.NotNil(t, sub.Stats().LastError)

		w.Up()
		w.publish(t, "after", 3)
		var keys []string
		for range 5 { // the three, the one that the program held, and the one in the channel
			d := next(t, sub, 10*time.Second)
			keys = append(keys, d.Key)
			require.NoError(t, d.AckSync(w.ctx))
		}
		slices.Sort(keys)
		require.Equal(t, []string{"after.0", "after.1", "after.2"}, keys[:3])
		require.NoError(t, sub.Err())
		closeNow(t, sub)
		w.requireDone(t)
	})
}

// WaitFor is not set: its default is shortened to what HTTPClient.Timeout leaves. If that is less than 500 ms the Subscriber
// short-polls.
func TestTheDefaultWaitForFitsAnyTimeoutOfTheHTTPClient(t *testing.T) {
	for timeout, want := range map[time.Duration]string{
		300 * time.Millisecond:  `{"batch_size":32,"bare":true}`,
		1200 * time.Millisecond: `{"batch_size":32,"bare":true}`,
		1600 * time.Millisecond: `{"batch_size":32,"wait_for":600,"bare":true}`,
		time.Minute:             `{"batch_size":32,"wait_for":10000,"bare":true}`, // a third of the lease, at the first receive
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := sequintest.NewServer(t, sequintest.Config{})
			hc := srv.Client()
			hc.Timeout = timeout
			c, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: hc})
			require.NoError(t, err)
			w := &world{Server: srv, client: c, ctx: t.Context()}
			w.stream(t, "orders", sequin.ConsumerOptions{})
			sub, err := c.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, want, string(w.Requests(sequintest.Receive)[0].Body))
			require.NoError(t, sub.Close(w.ctx))
		})
	}
}
