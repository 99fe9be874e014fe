package extend

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

var (
	errExpired = errors.New("expired")
	errSettled = errors.New("settled")
	errRefused = errors.New("refused")
	errBusy    = errors.New("busy")
)

// server answers requests. With err set it refuses them; ids in gone have no lease.
type server struct {
	mu       sync.Mutex
	requests []request
	gone     []string
	err      error
	took     time.Duration
}

type request struct {
	ids  []string
	wait time.Duration
}

func (s *server) send(ctx context.Context, ids []string, wait, timeout time.Duration) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, request{slices.Clone(ids), wait})
	if s.err != nil {
		return nil, s.err
	}
	time.Sleep(s.took)
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(s.gone, id) }), nil
}

// sent returns the requests so far.
func (s *server) sent() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// fixture is an Extender with a ledger and a server.
type fixture struct {
	extender *Extender
	server
	ledger  *lease.Ledger[string, string]
	changed atomic.Int32
	lease   *lease.Lease
}

// newFixture returns a fixture with n deliveries whose leases end for the program after 6 s.
func newFixture(t *testing.T, n int) (f *fixture, all []*lease.Held) {
	f = &fixture{ledger: lease.NewLedger[string, string](100)}
	terms := lease.NewTerms(8*time.Second, 0)
	f.lease = lease.New(time.Now(), 0, time.Now(), terms, terms, t.Context())
	f.ledger.Add(f.lease, n, 0, "")
	f.extender = New(Config{MaxIDs: 100, Ledger: f.ledger, Expired: errExpired, Settled: errSettled, Send: f.send,
		Retry:   func(err error, n int) (bool, time.Duration) { return errors.Is(err, errRefused), time.Second << n },
		Changed: func() { f.changed.Add(1) }})
	for i := range n {
		all = append(all, lease.NewHeld(strconv.Itoa(i), new(atomic.Bool), f.lease))
	}
	return f, all
}

func TestExtensionsThatStartTogetherShareARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, all := newFixture(t, 50)
		f.took = time.Second
		for _, h := range all {
			require.True(t, f.extender.Start(h, 8*time.Second))
			require.False(t, f.extender.Start(h, 8*time.Second), "one at a time")
			time.Sleep(time.Millisecond / 50)
		}
		time.Sleep(2 * time.Second)
		require.Len(t, f.sent(), 1)
		require.Len(t, f.sent()[0].ids, 50)
		require.NotSame(t, f.lease, all[0].Lease())
		require.Same(t, all[0].Lease(), all[49].Lease())
		require.Equal(t, int32(1), f.changed.Load())
		require.True(t, f.extender.Start(all[0], 8*time.Second), "the one before has ended")
		f.extender.Close()
		require.False(t, f.extender.Start(all[1], 8*time.Second), "the Extender is closed")
	})
}

func TestALeaseIsCountedFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, all := newFixture(t, 1)
		f.took = time.Second
		sent := time.Now()
		require.NoError(t, f.extender.Extend(t.Context(), all[0], time.Minute))
		require.Equal(t, sent.Add(58*time.Second), all[0].Lease().Deadline)
		require.Equal(t, sent.Add(61*time.Second), all[0].Lease().Until, "the server may have begun as late as that")
		f.extender.Close()
	})
}

func TestARequestHasOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, all := newFixture(t, 4)
		for i, h := range all {
			f.extender.Start(h, time.Duration(8+i%2)*time.Second)
		}
		time.Sleep(time.Second)
		require.ElementsMatch(t, []request{{[]string{"0", "2"}, 8 * time.Second}, {[]string{"1", "3"}, 9 * time.Second}}, f.sent())
		f.extender.Close()
	})
}

func TestAnAbsentIDIsALostLeaseUnlessItIsSettledHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, all := newFixture(t, 3)
		f.gone = []string{"0", "1"}
		work, _ := all[0].Work()
		all[1].Settled.Store(true)
		results := make([]error, 3)
		var waiting sync.WaitGroup
		for i, h := range all {
			waiting.Go(func() { results[i] = f.extender.Extend(t.Context(), h, time.Minute) })
		}
		waiting.Wait()
		require.Equal(t, []error{errExpired, errSettled, nil}, results)
		require.Equal(t, []bool{true, false, false}, []bool{all[0].Lost(), all[1].Lost(), all[2].Lost()})
		require.ErrorIs(t, context.Cause(work), errExpired)
		require.Same(t, f.lease, all[1].Lease())
		f.extender.Close()
	})
}

func TestAnExtensionIsRepeatedUntilTheLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, failure := range []error{errBusy, errRefused} {
			f, all := newFixture(t, 2)
			f.err = failure
			f.extender.Start(all[0], time.Minute)
			err := f.extender.Extend(t.Context(), all[1], time.Minute)
			if failure == errRefused {
				require.Equal(t, errRefused, err, "who waits is told")
			} else {
				require.Equal(t, errExpired, err)
			}
			time.Sleep(time.Until(f.lease.Deadline) + 2*time.Second)
			n := len(f.sent())
			require.InDelta(t, 7, n, 3, "at most half a margin apart")
			require.False(t, all[0].Extending.Load())
			time.Sleep(time.Minute)
			require.Len(t, f.sent(), n)
			f.extender.Close()
		}
	})
}

func TestTheEndOfACtxDoesNotWithdrawAnExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, all := newFixture(t, 1)
		f.took = 2 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.extender.Extend(ctx, all[0], time.Minute), context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		require.NotSame(t, f.lease, all[0].Lease())
		f.extender.Close()
	})
}
