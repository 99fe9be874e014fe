package seglog

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// gate holds changes of one kind back until it is opened, and counts those of each kind.
type gate struct {
	mu     sync.Mutex
	counts map[crashfs.Kind]int
	kind   crashfs.Kind
	open   chan struct{}
	takes  time.Duration // of each sync
}

func newGate(fs *crashfs.FS) *gate {
	g := &gate{counts: map[crashfs.Kind]int{}}
	fs.SetGate(g.pass)
	return g
}

func (g *gate) pass(op crashfs.Op) {
	g.mu.Lock()
	g.counts[op.Kind]++
	open, takes := g.open, g.takes
	if op.Kind == crashfs.Sync && takes > 0 {
		defer time.Sleep(takes)
	}
	if op.Kind != g.kind {
		open = nil
	}
	g.mu.Unlock()
	if open != nil {
		<-open
	}
}

func (g *gate) hold(kind crashfs.Kind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kind, g.open = kind, make(chan struct{})
}

// step lets the changes go on that are held back now, and holds later ones back.
func (g *gate) step() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = make(chan struct{})
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open, g.kind = nil, ""
}

// count returns how many changes of a kind there were since it was asked for the last time.
func (g *gate) count(kind crashfs.Kind) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.counts[kind] = 0 }()
	return g.counts[kind]
}

// bubble runs f with a started log in virtual time. The log has one synced record.
func bubble(t *testing.T, policy Policy, f func(t *testing.T, l *Log, g *gate)) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		o := Options{FS: fs, MinFree: -1, SegmentBytes: 1 << 20, MaxQueued: 1000, Policy: policy}
		l, _ := started(t, o)
		require.NoError(t, l.WaitDurable(t.Context(), appendNumber(l, 0)))
		synctest.Wait()
		g := newGate(fs)
		f(t, l, g)
		require.NoError(t, l.Close())
	})
}

// result runs a wait in a goroutine. The function that it returns says whether the wait has ended.
func result(wait func() error) (done func() (bool, error)) {
	c := make(chan error, 1)
	go func() { c <- wait() }()
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err := <-c:
			return true, err
		default:
			return false, nil
		}
	}
}

func requireWaits(t *testing.T, done func() (bool, error)) {
	t.Helper()
	ended, err := done()
	require.False(t, ended, "%v", err)
}

func requireDone(t *testing.T, done func() (bool, error)) {
	t.Helper()
	ended, err := done()
	require.True(t, ended)
	require.NoError(t, err)
}

func TestAlwaysAnswersWhenTheRecordIsSynced(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		g.hold(crashfs.Sync)
		pos := appendNumber(l, 1)
		written := result(func() error { return l.WaitWritten(t.Context(), pos) })
		committed := result(func() error { return l.Wait(t.Context(), pos) })
		requireDone(t, written)
		requireWaits(t, committed)
		require.Greater(t, l.Written(), pos)
		require.LessOrEqual(t, l.Durable(), pos)
		require.False(t, l.Committed(pos))
		g.release()
		requireDone(t, committed)
		require.True(t, l.Committed(pos))
		require.Equal(t, l.End(), l.Durable())
	})
}

func TestEveryAnswersWhenTheRecordIsWrittenAndSyncsInTime(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		for n := range uint32(5) {
			require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1+n)))
			require.Zero(t, g.count(crashfs.Sync))
			time.Sleep(19 * time.Millisecond)
			synctest.Wait()
		}
		require.Less(t, l.Durable(), l.Written())
		time.Sleep(6 * time.Millisecond) // 101 ms after the first record
		synctest.Wait()
		require.Equal(t, 1, g.count(crashfs.Sync))
		require.Equal(t, l.Written(), l.Durable())
	})
}

func TestEverySyncsInTimeWhileRecordsKeepComing(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		end := time.Now().Add(time.Second)
		for n := uint32(1); time.Now().Before(end); n++ {
			require.NoError(t, l.Wait(t.Context(), appendNumber(l, n)))
			time.Sleep(time.Millisecond)
		}
		require.InDelta(t, 10, g.count(crashfs.Sync), 1)
	})
}

func TestWaitDurableAsksForASync(t *testing.T) {
	bubble(t, Policy{Every: time.Hour}, func(t *testing.T, l *Log, g *gate) {
		begin, pos := time.Now(), appendNumber(l, 1)
		require.NoError(t, l.WaitDurable(t.Context(), pos))
		appendNumber(l, 2)
		require.NoError(t, l.Sync(t.Context()))
		require.Equal(t, l.End(), l.Durable())
		require.Zero(t, time.Since(begin))
		require.Equal(t, 2, g.count(crashfs.Sync))
	})
}

func TestRecordsThatArriveDuringASyncShareTheNextOne(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		g.hold(crashfs.Sync)
		first := appendNumber(l, 1)
		synctest.Wait()
		var waits []func() (bool, error)
		for n := range uint32(64) {
			pos := appendNumber(l, 2+n)
			waits = append(waits, result(func() error { return l.Wait(t.Context(), pos) }))
		}
		g.release()
		require.NoError(t, l.Wait(t.Context(), first))
		for _, w := range waits {
			requireDone(t, w)
		}
		require.Equal(t, 2, g.count(crashfs.Sync))
		require.Equal(t, 2, g.count(crashfs.Write))
	})
}

// The disk may be faster than the callers. Those that can run when the first record wakes the writer share its sync.
func TestRecordsOfCallersThatCanRunShareASync(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		var all sync.WaitGroup
		for n := range uint32(40) {
			all.Go(func() { assert.NoError(t, l.Wait(t.Context(), appendNumber(l, 1+n))) })
		}
		all.Wait()
		require.Less(t, g.count(crashfs.Sync), 10)
	})
}

// senders make n goroutines append a record, wait for it, and pause, until a second is over. It returns how many records shared
// a sync on average, and how long a record took.
func senders(t *testing.T, l *Log, g *gate, n int, pause time.Duration) (perSync float64, each time.Duration) {
	g.count(crashfs.Sync)
	var all sync.WaitGroup
	records := make([]int, n)
	began := time.Now()
	for i := range n {
		all.Go(func() {
			time.Sleep(pause * time.Duration(i) / time.Duration(n)) // they do not start at once
			for time.Since(began) < time.Second {
				records[i]++
				assert.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	total := 0
	for _, r := range records {
		total += r
	}
	return float64(total) / float64(g.count(crashfs.Sync)), time.Second*time.Duration(n)/time.Duration(total) - pause
}

// A sync takes 500 µs, and each sender needs 4 ms before it sends again: about 7 of 64 would come during a sync.
func TestManySendersShareASyncAndFewDoNotWait(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		g.takes = 500 * time.Microsecond
		perSync, each := senders(t, l, g, 1, 4*time.Millisecond)
		require.Equal(t, 1.0, perSync)
		require.Less(t, each, 520*time.Microsecond, "it waits for nobody")
		_, each = senders(t, l, g, 4, 200*time.Microsecond)
		require.Less(t, each, 1050*time.Microsecond, "a sync that runs, and its own")
		perSync, each = senders(t, l, g, 64, 4*time.Millisecond)
		require.Greater(t, perSync, 30.0)
		require.Less(t, each, 3*time.Millisecond, "for long")
		perSync, _ = senders(t, l, g, 1, 4*time.Millisecond)
		require.Less(t, perSync, 1.1)
		g.takes = 100 * time.Millisecond
		_, each = senders(t, l, g, 64, 4*time.Millisecond)
		require.Less(t, each, 205*time.Millisecond, "on a slow disk, too: those who come during a sync are enough")
		began := time.Now()
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		require.LessOrEqual(t, time.Since(began), g.takes+maxGather, "the others have gone")
	})
}

func TestAnIdleLogWritesOneMarkAndNothingElse(t *testing.T) {
	for _, policy := range []Policy{{}, {Every: time.Second}} {
		bubble(t, policy, func(t *testing.T, l *Log, g *gate) {
			end := l.End()
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, 1, g.count(crashfs.Write))
			require.Zero(t, g.count(crashfs.Sync))
			require.EqualValues(t, recordHeader, l.End()-end)
			require.NoError(t, l.Sync(t.Context()))
			require.Equal(t, 1, g.count(crashfs.Sync))
		})
	}
}

// The end of ctx ends the wait. The record is written all the same.
func TestTheEndOfTheContextLeavesTheOutcomeUnknown(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		cause := errors.New("the caller went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		g.hold(crashfs.Write)
		pos := appendNumber(l, 1)
		waits := map[string]func() (bool, error){
			"written": result(func() error { return l.WaitWritten(ctx, pos) }),
			"durable": result(func() error { return l.WaitDurable(ctx, pos) }),
			"sync":    result(func() error { return l.Sync(ctx) }),
		}
		for _, w := range waits {
			requireWaits(t, w)
		}
		cancel(cause)
		for name, w := range waits {
			done, err := w()
			require.True(t, done, name)
			require.ErrorIs(t, err, store.ErrUnknown, name)
			require.ErrorIs(t, err, cause, name)
		}
		g.release()
		require.NoError(t, l.Wait(t.Context(), pos))
	})
}

func TestWaitRoomWaitsWhileTooMuchIsQueued(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		require.NoError(t, l.WaitRoom(t.Context()))
		g.hold(crashfs.Write)
		l.Append(1, 1, make([]byte, 2000))
		ctx, cancel := context.WithCancel(t.Context())
		ended := result(func() error { return l.WaitRoom(ctx) })
		room := result(func() error { return l.WaitRoom(t.Context()) })
		requireWaits(t, room)
		cancel()
		_, err := ended()
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, store.ErrUnknown) // nothing was appended
		g.release()
		requireDone(t, room)
	})
}

func TestCloseWritesWhatIsAppended(t *testing.T) {
	bubble(t, Policy{Every: time.Hour}, func(t *testing.T, l *Log, g *gate) {
		failed := l.Failed()
		g.hold(crashfs.Write)
		pos := appendNumber(l, 1)
		committed := result(func() error { return l.Wait(t.Context(), pos) })
		closed := result(l.Close)
		requireWaits(t, closed)
		g.release()
		requireDone(t, committed)
		requireDone(t, closed)
		<-failed
		require.Equal(t, l.End(), l.Written())
		require.ErrorIs(t, l.Err(), store.ErrClosed)
		require.ErrorIs(t, l.Recover(), store.ErrClosed)
		require.ErrorIs(t, l.Start(), store.ErrClosed)
		require.ErrorIs(t, l.WaitRoom(t.Context()), store.ErrClosed)
		require.ErrorIs(t, l.Wait(t.Context(), l.Append(1, 1, nil)), store.ErrClosed)
		require.NoError(t, l.Wait(t.Context(), pos))
		require.NoError(t, l.Wait(t.Context(), 0))
	})
}

// Ack ids carry the number of the opening. No two openings may share it, whatever a loss of power takes.
func TestTheNumberOfAnOpeningIsOnDiskBeforeARecordIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		for n := range uint32(5) {
			l, _ := started(t, everySecond(small(fs)))
			require.EqualValues(t, 1+n, l.Opening())
			require.NoError(t, l.WaitWritten(t.Context(), appendNumber(l, n)))
			fs = fs.Crash(0, seeded(0))
			require.NoError(t, l.Close())
		}
	})
}
