package sequin_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestEveryFailureIsReportedOnce(t *testing.T) {
	const n = 500
	bad := []int{3, 77, 78, 250, 499}
	for _, row := range []struct {
		name       string
		onFailure  bool
		flush      bool
		byFlush    int
		byClose    int
		byCallback int
	}{
		{"by Flush", false, true, len(bad), 0, 0},
		{"by Close", false, false, 0, len(bad), 0},
		{"by OnFailure", true, true, 0, 0, len(bad)},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				var mu sync.Mutex
				reported := 0
				cfg := sequin.PublisherConfig{MaxBatch: 100}
				if row.onFailure {
					cfg.OnFailure = func(e sequin.MessageError) {
						mu.Lock()
						defer mu.Unlock()
						reported++
					}
				}
				pub := w.orders(t, cfg)
				w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
				sendAll(t, pub, n, bad...)
				if row.flush {
					err := pub.Flush(w.ctx)
					if row.byFlush == 0 {
						require.NoError(t, err)
					} else {
						require.Len(t, failed(t, err), row.byFlush)
						require.ErrorIs(t, err, sequin.ErrValidation)
					}
					require.NoError(t, pub.Flush(w.ctx))
				}
				err := pub.Close(w.ctx)
				if row.byClose == 0 {
					require.NoError(t, err)
				} else {
					require.Len(t, failed(t, err), row.byClose)
				}
				require.Equal(t, row.byCallback, reported)
				s := pub.Stats()
				require.Equal(t, [3]uint64{n, n - uint64(len(bad)), uint64(len(bad))}, [3]uint64{s.Accepted, s.Sent, s.Failed})
				require.Zero(t, s.BufferedBytes, "their room is free")
			})
		})
	}
}

func TestSendDoesNotWaitForEverOnABufferFullOfFailures(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 20})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		for i := range 20 {
			require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(i), "poison"))
		}
		require.ErrorIs(t, pub.Send(w.ctx, "good", ""), sequin.ErrFailuresPending)
		require.ErrorIs(t, pub.TrySend("good", ""), sequin.ErrFailuresPending)
		require.Len(t, failed(t, pub.Flush(w.ctx)), 20)
		require.NoError(t, pub.Send(w.ctx, "good", ""))
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestOnFailureMaySend(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		var pub *sequin.Publisher
		pub = w.orders(t, sequin.PublisherConfig{MaxBuffered: 20, OnFailure: func(e sequin.MessageError) {
			require.NoError(t, pub.Send(context.Background(), "dead."+e.Message.Key, e.Err.Error()))
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		sendAll(t, pub, 50, 1, 2, 3, 4, 20, 49)
		require.NoError(t, pub.Flush(w.ctx))
		synctest.Wait()
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 50)
		require.Contains(t, w.stored(t, "orders"), "dead.orders.49")
	})
}

// The messages that OnFailure sends fail too. Once the buffer is full of failures, only OnFailure could make room: its
// own Send must not wait for that. Any other Send waits.
func TestOnFailureNeverWaitsForItself(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		var pub *sequin.Publisher
		refused, calls := 0, 0
		pub = w.orders(t, sequin.PublisherConfig{MaxBuffered: 4, OnFailure: func(sequin.MessageError) {
			if calls++; calls > 10 {
				return
			}
			for i := range 6 {
				if err := pub.Send(context.Background(), "again."+strconv.Itoa(i), "poison"); err != nil {
					require.ErrorIs(t, err, sequin.ErrFailuresPending)
					refused++
				}
			}
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned, Delay: time.Millisecond})
		for i := range 4 {
			require.NoError(t, pub.Send(w.ctx, "k."+strconv.Itoa(i), "poison"))
		}
		require.NoError(t, pub.Flush(w.ctx))
		time.Sleep(time.Minute)
		require.NoError(t, pub.Close(w.ctx))
		require.Positive(t, refused)
		require.Equal(t, pub.Stats().Failed, uint64(calls))
	})
}

func TestCloseWaitsForASlowOnFailureUntilItsCtxEnds(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		var reported atomic.Int32
		pub := w.orders(t, sequin.PublisherConfig{OnFailure: func(sequin.MessageError) {
			reported.Add(1)
			time.Sleep(10 * time.Second)
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal})
		sendAll(t, pub, 5)
		patient := make(chan error, 1)
		go func() { patient <- pub.Close(context.Background()) }()
		ctx, cancel := context.WithTimeout(w.ctx, 25*time.Second)
		defer cancel()
		began := time.Now()
		err := pub.Close(ctx)
		require.Equal(t, 25*time.Second, time.Since(began))
		require.Len(t, failed(t, err), 2, "those that OnFailure was not called for")
		require.Same(t, err, <-patient)
		require.Equal(t, 25*time.Second, time.Since(began), "the first ctx that ends counts for every Close")
		time.Sleep(time.Minute)
		require.Equal(t, int32(3), reported.Load())
	})
}

func TestAFailureSaysWhetherALaterVersionWasSent(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		require.NoError(t, pub.Send(w.ctx, "a", "good 1"))
		require.NoError(t, pub.Send(w.ctx, "a", "poison 2"))
		require.NoError(t, pub.Send(w.ctx, "b", "poison 1"))
		require.NoError(t, pub.Send(w.ctx, "a", "good 3"))
		require.NoError(t, pub.Send(w.ctx, "c", "good 1"))
		require.NoError(t, pub.Send(w.ctx, "c", "poison 2"))
		superseded := map[string]bool{}
		for _, f := range failed(t, pub.Close(w.ctx)) {
			superseded[f.Message.Key] = f.Superseded
		}
		require.Equal(t, map[string]bool{"a": true, "b": false, "c": false}, superseded)
	})
}

func TestUnsentErrorUnwraps(t *testing.T) {
	cause := errors.New("cause")
	err := error(&sequin.UnsentError{Failed: []sequin.MessageError{{Message: sequin.Message{Key: "a"}, Err: cause}}, Unsent: make([]sequin.Message, 2)})
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "1 messages failed, 2 unsent")
	require.ErrorContains(t, err, `message "a": cause`)
	var one sequin.MessageError
	require.ErrorAs(t, err, &one)
}

// A Send that has waited since before a report is ahead of the Send that the report itself makes.
func TestSendInOnFailureDoesNotWaitBehindSendsThatWaitForOnFailure(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		var pub *sequin.Publisher
		calls := 0
		pub = w.orders(t, sequin.PublisherConfig{MaxBuffered: 2, OnFailure: func(sequin.MessageError) {
			if calls++; calls <= 3 {
				if err := pub.Send(context.Background(), "again."+strconv.Itoa(calls), "poison"); err != nil {
					require.ErrorIs(t, err, sequin.ErrFailuresPending)
				}
			}
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned, Delay: 10 * time.Millisecond})
		done := make(chan error, 8)
		for i := range 8 {
			go func() { done <- pub.Send(context.Background(), "k."+strconv.Itoa(i), "poison") }()
		}
		time.Sleep(time.Hour)
		require.Len(t, done, 8)
		require.NoError(t, pub.Close(w.ctx))
	})
}
