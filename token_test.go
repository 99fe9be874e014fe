package sequin_test

import (
	"context"
	"errors"
	"fmt"
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

// expiring is a source of tokens, of which the server accepts the latest one only.
type expiring struct {
	mu    sync.Mutex
	n     int
	calls int
	err   error
}

func (e *expiring) token(context.Context) (string, error) {
	time.Sleep(time.Second)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	return fmt.Sprintf("token-%d", e.n), e.err
}

// expire ends the present token. The next one is what the source returns from then on.
func (e *expiring) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
}

func (e *expiring) refused(r *sequintest.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", e.n)
}

// withTokens runs promise in a world whose server wants the tokens of a source.
func withTokens(t *testing.T, cfg sequin.Config, promise func(t *testing.T, w *world, source *expiring)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		source := new(expiring)
		w := prepared(t, sequin.Config{})
		cfg.BaseURL, cfg.HTTPClient, cfg.TokenSource = w.URL, w.Server.Client(), source.token
		var err error
		w.client, err = sequin.NewClient(cfg)
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Status: 401, Body: ownRefusal, Match: source.refused})
		promise(t, w, source)
	})
}

func TestATokenIsRenewedAfterA401(t *testing.T) {
	for _, o := range operations {
		t.Run(o.op.String(), func(t *testing.T) {
			withTokens(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}}, func(t *testing.T, w *world, source *expiring) {
				_, err := w.client.ListStreams(w.ctx)
				require.NoError(t, err)
				_, err = w.client.ListStreams(w.ctx)
				require.NoError(t, err)
				require.Equal(t, 1, source.calls, "the token is kept")
				source.expire()
				before, began := w.Count(o.op), time.Now()
				require.NoError(t, o.call(w.ctx, w.client), "the repeat is not counted as an attempt")
				require.Equal(t, 2, w.Count(o.op)-before)
				require.Equal(t, time.Second, time.Since(began), "without a backoff")
				require.Equal(t, 2, source.calls)
			})
		})
	}
}

func TestATokenIsRenewedOnceACall(t *testing.T) {
	withTokens(t, sequin.Config{}, func(t *testing.T, w *world, source *expiring) {
		w.Fault(sequintest.Fault{Status: 401, Body: ownRefusal})
		_, err := w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrUnauthorized)
		require.Equal(t, 2, w.Count(sequintest.ListStreams))
		require.Equal(t, 2, source.calls)
		_, err = w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrUnauthorized)
		require.Equal(t, 3, source.calls, "the token of the repeat is tried again first")
	})
}

func TestTheRepeatWithANewTokenIsNotCountedAsAnAttempt(t *testing.T) {
	withTokens(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 2}}, func(t *testing.T, w *world, source *expiring) {
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		source.expire()
		w.Fault(sequintest.Fault{Status: 503, Body: ownRefusal, Count: 1})
		_, err = w.client.ListStreams(w.ctx)
		require.NoError(t, err, "after a 401 and a 503")
		require.Equal(t, 4, w.Count(sequintest.ListStreams))
	})
}

// Only Sequin knows the token.
func TestAForeign401OrA403RenewsNoToken(t *testing.T) {
	for _, fault := range []sequintest.Fault{{Status: 401, Body: "<html>", Count: 1}, {Status: 403, Body: ownRefusal, Count: 1}} {
		withTokens(t, sequin.Config{}, func(t *testing.T, w *world, source *expiring) {
			w.Fault(fault)
			_, err := w.client.ListStreams(w.ctx)
			require.Error(t, err)
			require.Equal(t, 1, source.calls)
		})
	}
}

func TestConcurrentRequestsShareACallOfTheTokenSource(t *testing.T) {
	withTokens(t, sequin.Config{}, func(t *testing.T, w *world, source *expiring) {
		for range 2 {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					_, err := w.client.ListStreams(w.ctx)
					require.NoError(t, err)
				})
			}
			all.Wait()
			source.expire()
		}
		require.Equal(t, 2, source.calls)
	})
}

func TestTheErrorOfATokenSourceIsWrappedAndNothingIsSent(t *testing.T) {
	withTokens(t, sequin.Config{}, func(t *testing.T, w *world, source *expiring) {
		source.err = errors.New("the vault is locked")
		before := w.Count(sequintest.Any)
		err := w.client.AckMessage(w.ctx, "s", "all", someID)
		require.ErrorIs(t, err, source.err)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Equal(t, before, w.Count(sequintest.Any))

		source.err = nil
		_, err = w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		source.expire()
		source.err = errors.New("the vault is locked again")
		_, err = w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, source.err)
		require.ErrorIs(t, err, sequin.ErrUnauthorized, "both: the token was refused, and there is no other one")
	})
}

func TestATokenSourceThatHangsIsBoundedByTimeoutAndCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		hang := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) }
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), TokenSource: hang, Timeout: 7 * time.Second})
		require.NoError(t, err)
		began := time.Now()
		_, err = c.ListStreams(w.ctx)
		require.ErrorContains(t, err, "no token within 7s")
		require.Equal(t, 7*time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err = c.AckMessage(ctx, "s", "all", someID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.Zero(t, w.Count(sequintest.Any))
	})
}

func TestATokenSourceThatIgnoresItsCtxDelaysNoClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{Token: "good"}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		release, calls := make(chan struct{}), atomic.Int32{}
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), TokenSource: func(context.Context) (string, error) {
			if calls.Add(1) > 1 {
				<-release
			}
			return "good", nil
		}})
		require.NoError(t, err)
		sub := subscribe(t, c, sequin.SubscriberConfig{})
		pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		expired := w.Fault(sequintest.Fault{Status: 401, Body: ownRefusal})
		time.Sleep(time.Minute)
		require.NoError(t, pub.Send(w.ctx, "k", "1"))
		expired.Remove()
		for _, end := range []func(context.Context) error{pub.Flush, pub.Close, sub.Close, func(ctx context.Context) error { _, err := c.ListStreams(ctx); return err }} {
			ctx, cancel := context.WithTimeout(w.ctx, time.Second)
			began := time.Now()
			_ = end(ctx)
			require.LessOrEqual(t, time.Since(began), 3*time.Second)
			cancel()
		}
		require.EqualValues(t, 2, calls.Load())
		close(release)
	})
}

func TestATokenThatFitsNoHeaderIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(),
			TokenSource: func(context.Context) (string, error) { return "secret\n", nil }})
		require.NoError(t, err)
		_, err = c.ListStreams(w.ctx)
		require.ErrorContains(t, err, "control character")
		require.NotContains(t, err.Error(), "secret")
	})
}

func TestTokenAndTokenSourceExcludeEachOther(t *testing.T) {
	_, err := sequin.NewClient(sequin.Config{Token: "x", TokenSource: func(context.Context) (string, error) { return "y", nil }})
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
}

// A Publisher and a Subscriber make single attempts, and go on all the same.
func TestPublisherAndSubscriberSurviveAnExpiredToken(t *testing.T) {
	withTokens(t, sequin.Config{}, func(t *testing.T, w *world, source *expiring) {
		pub, err := w.client.NewPublisher("s", sequin.PublisherConfig{})
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "s", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		<-sub.Deliveries() // of prepared
		for i := range 3 {
			time.Sleep(5 * time.Second) // a token that expires before it is used would be refused for good
			source.expire()
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: fmt.Sprintf("k.%d", i), Data: "1"}))
			d := <-sub.Deliveries()
			time.Sleep(5 * time.Second)
			source.expire()
			require.NoError(t, d.AckSync(w.ctx))
		}
		require.Zero(t, pub.Stats().Retries)
		require.NoError(t, pub.Close(w.ctx))
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		_ = sub.Close(ctx)
		require.NoError(t, sub.Err())
	})
}

// failing is a TokenSource that works until it is told to fail, and takes some time for each call.
type failing struct {
	mu    sync.Mutex
	until time.Time
	takes time.Duration
	n     int
}

func (f *failing) token(ctx context.Context) (string, error) {
	f.mu.Lock()
	until, takes := f.until, f.takes
	f.n++
	n := f.n
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if time.Now().Before(until) {
		return "", errors.New("the vault is locked")
	}
	return fmt.Sprint("token-", n), nil
}

// withFailingTokens runs promise in a world whose server expires the first token when expire is called.
func withFailingTokens(t *testing.T, mode server.Compat, source *failing, promise func(t *testing.T, w *world, expire func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		var err error
		w.client, err = sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), TokenSource: source.token})
		require.NoError(t, err)
		promise(t, w, func() {
			w.Fault(sequintest.Fault{Status: 401, Body: ownRefusal, Match: func(r *sequintest.Request) bool {
				return r.Header.Get("Authorization") == "Bearer token-1"
			}})
		})
	})
}

// A token has expired, and the source of another one is unavailable for a minute. No message is at fault.
func TestATokenSourceThatFailsForAMinuteFailsNoMessage(t *testing.T) {
	source := new(failing)
	withFailingTokens(t, server.Documented, source, func(t *testing.T, w *world, expire func()) {
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "k.0"}))
		source.until = time.Now().Add(time.Minute)
		expire()
		for i := range 100 {
			require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), "x"))
		}
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 100)
	})
}

// Nothing of an ack was sent while there was no token, so it is retried until its deadline.
func TestAnAckIsRetriedWhenATokenSourceFails(t *testing.T) {
	source := new(failing)
	withFailingTokens(t, server.Aug2024, source, func(t *testing.T, w *world, expire func()) {
		w.send(t, "k", "1")
		sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		d := next(t, sub, time.Second)
		source.until = time.Now().Add(3 * time.Second)
		expire()
		require.NoError(t, d.AckSync(w.ctx))
		require.NoError(t, sub.Close(w.ctx))
	})
}

// The source takes longer than the rest of the lease. On the 2024 server a late ack would settle the message of another program.
func TestASlowTokenSourceSendsNoAckAfterTheLease(t *testing.T) {
	source := new(failing)
	withFailingTokens(t, server.Aug2024, source, func(t *testing.T, w *world, expire func()) {
		w.send(t, "k", "1")
		sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Body: ownRefusal})
		time.Sleep(5 * time.Second)
		expire()
		source.takes = 4 * time.Second
		leaseEnd := d.Deadline.Add(2 * time.Second)
		require.ErrorIs(t, d.AckSync(w.ctx), sequin.ErrLeaseExpired)
		for _, r := range w.Requests(sequintest.Ack) {
			require.True(t, r.At.Before(leaseEnd), "%v after the lease", r.At.Sub(leaseEnd))
			require.False(t, r.Acted)
		}
		closeNow(t, sub)
	})
}

// The caller's ctx ends while the source is asked for another token.
func TestACtxThatEndsDuringTheRenewalOfATokenIsReported(t *testing.T) {
	source := new(failing)
	withFailingTokens(t, server.Documented, source, func(t *testing.T, w *world, expire func()) {
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		expire()
		source.takes = time.Minute
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err = w.client.AckMessage(ctx, "orders", "all", someID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, sequin.ErrUnauthorized, "the attempt before")
		require.NotErrorIs(t, err, sequin.ErrOutcomeUnknown)
		require.False(t, sequin.IsTransient(err))
	})
}

// A TokenSource is also called by goroutines of a Publisher and of a Subscriber.
func TestAPanicOfATokenSourceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := prepared(t, sequin.Config{})
		calls := 0
		var err error
		w.client, err = sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client(), TokenSource: func(context.Context) (string, error) {
			if calls++; calls <= 2 {
				panic("no vault")
			}
			return "token", nil
		}})
		require.NoError(t, err)
		_, err = w.client.ListStreams(w.ctx)
		var panicked *sequin.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Equal(t, "no vault", panicked.Value)
		require.ErrorContains(t, err, "TokenSource panicked")
		pub, err := w.client.NewPublisher("s", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "k.1"}))
		require.Equal(t, 3, calls)
		require.NoError(t, pub.Close(w.ctx))
	})
}
