package token

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// counting returns a source whose n-th token is "token n", and which takes a second.
func counting(calls *int) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		*calls++
		n := *calls
		time.Sleep(time.Second)
		return fmt.Sprintf("token %d", n), nil
	}
}

func TestATokenIsAskedForOnceUntilItIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := Cache{Source: counting(&calls)}
		expect := func(want string) {
			t.Helper()
			got, err := c.Get(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		expect("token 1")
		expect("token 1")
		c.Refuse("token 1")
		expect("token 2")
		c.Refuse("token 1") // by a request that began earlier
		expect("token 2")
		require.Equal(t, 2, calls)
	})
}

func TestConcurrentCallersShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := Cache{Source: counting(&calls)}
		got := make(chan string, 10)
		for range cap(got) {
			go func() {
				token, err := c.Get(t.Context())
				if err == nil {
					got <- token
				}
			}()
		}
		for range cap(got) {
			require.Equal(t, "token 1", <-got)
		}
		require.Equal(t, 1, calls)
	})
}

func TestACallerWhoseCtxEndsTakesNobodyAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Cache{Source: func(ctx context.Context) (string, error) {
			select {
			case <-time.After(time.Minute):
				return "token", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() { _, err := c.Get(short); first <- err }()
		synctest.Wait()
		impatient, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		_, err := c.Get(impatient) // waits for the first
		require.ErrorIs(t, err, context.DeadlineExceeded)
		got, err := c.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "token", got)
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
	})
}

// Many sources take no ctx, and may hang for as long as they like.
func TestASourceThatIgnoresItsCtxDelaysNobodyBeyondTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := Cache{Source: func(context.Context) (string, error) {
			calls++
			time.Sleep(time.Hour)
			return "token", nil
		}}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			_, err := c.Get(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(began))
			cancel()
		}
		got, err := c.Get(t.Context())
		require.NoError(t, err)
		require.Equal(t, "token", got)
		require.Equal(t, 1, calls)
	})
}

func TestASourceThatEndsItsGoroutineIsAnError(t *testing.T) {
	c := Cache{Source: func(context.Context) (string, error) { runtime.Goexit(); return "", nil }}
	_, err := c.Get(t.Context())
	require.ErrorContains(t, err, "ended its goroutine")
}

func TestAnErrorIsNotKept(t *testing.T) {
	locked := errors.New("locked")
	fails := true
	c := Cache{Source: func(context.Context) (string, error) {
		if fails {
			return "", locked
		}
		return "token", nil
	}}
	_, err := c.Get(t.Context())
	require.ErrorIs(t, err, locked)
	fails = false
	got, err := c.Get(t.Context())
	require.NoError(t, err)
	require.Equal(t, "token", got)
}

func TestAPanicOfTheSourceLeavesNobodyWaiting(t *testing.T) {
	panics := true
	c := Cache{Source: func(context.Context) (string, error) {
		if panics {
			panic("no")
		}
		return "token", nil
	}}
	require.Panics(t, func() { _, _ = c.Get(t.Context()) })
	panics = false
	got, err := c.Get(t.Context())
	require.NoError(t, err)
	require.Equal(t, "token", got)
}
