package sequin_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestAReceiptReportsTheResultOfItsMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Linger: time.Hour, Lanes: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		good, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "good", Data: "fine"})
		require.NoError(t, err)
		bad, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "bad", Data: "poison"})
		require.NoError(t, err)
		require.NoError(t, good.Err(), "pending")
		select {
		case <-good.Done():
			require.Fail(t, "done while the batch lingers")
		default:
		}
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { require.NoError(t, good.Wait(ctx)) })
			all.Go(func() { require.ErrorIs(t, bad.Wait(ctx), sequin.ErrValidation) })
			all.Go(func() { <-bad.Done() })
		}
		all.Wait()
		require.Zero(t, time.Since(began), "Wait does not linger")
		<-good.Done()
		require.NoError(t, good.Err())
		require.ErrorIs(t, bad.Err(), sequin.ErrValidation)
		require.NoError(t, pub.Close(w.ctx), "a failure that a Receipt reported is reported once")
	})
}

func TestAMessageStaysAcceptedWhenWaitGivesUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		w.Down()
		r, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "a"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, r.Wait(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, pub.SendSync(ctx, sequin.Message{Key: "b"}), context.DeadlineExceeded)
		w.Up()
		require.NoError(t, r.Wait(w.ctx))
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestTheZeroReceiptIsDoneWithAnError(t *testing.T) {
	var r sequin.Receipt
	<-r.Done()
	require.Error(t, r.Err())
	require.Error(t, r.Wait(t.Context()))
}

// 64 receipts share an allocation, and the queue that holds the messages is large enough already.
func TestAReceiptCostsNoAllocationOfItsOwn(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Lanes: 1, MaxBuffered: 5000})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		sendAll(t, pub, 4000) // the queue has grown
		synctest.Wait()       // the request in flight has made its allocations
		keys := make([]string, 640)
		for i := range keys {
			keys[i] = "k." + strconv.Itoa(i)
		}
		receipts := make([]sequin.Receipt, len(keys))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i, key := range keys {
			receipts[i], _ = pub.SendReceipt(w.ctx, sequin.Message{Key: key})
		}
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, after.Mallocs-before.Mallocs, uint64(640/64+20))
		require.NoError(t, pub.Close(w.ctx))
		for _, r := range receipts {
			<-r.Done()
			require.NoError(t, r.Err())
		}
	})
}
