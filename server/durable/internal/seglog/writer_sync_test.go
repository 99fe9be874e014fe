package seglog

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

func TestEveryAnswersWhileASyncRuns(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		first := appendNumber(l, 1)
		require.NoError(t, l.Wait(t.Context(), first))
		g.hold(crashfs.Sync)
		time.Sleep(150 * time.Millisecond)
		require.LessOrEqual(t, l.Durable(), first)
		second := appendNumber(l, 2)
		requireDone(t, result(func() error { return l.Wait(t.Context(), second) }))
		durable := result(func() error { return l.WaitDurable(t.Context(), second) })
		requireWaits(t, durable)
		g.release()
		requireDone(t, durable)
		require.Equal(t, 2, g.count(crashfs.Sync), "the first one may have missed the record")
	})
}

// A loss of power takes the changes of the policy's time and of one sync. So the next sync starts when the slow one ends.
func TestASyncThatIsDueFollowsOneThatRuns(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		g.hold(crashfs.Sync)
		time.Sleep(150 * time.Millisecond)
		second := appendNumber(l, 2)
		require.NoError(t, l.Wait(t.Context(), second))
		time.Sleep(150 * time.Millisecond)
		g.release()
		synctest.Wait()
		require.Equal(t, 2, g.count(crashfs.Sync))
		require.Greater(t, l.Durable(), second)
	})
}

// A sync that somebody asked for, of a mark, may run when a record is written. Its end is not that of the record's sync.
func TestAlwaysWaitsForItsOwnSync(t *testing.T) {
	bubble(t, Policy{}, func(t *testing.T, l *Log, g *gate) {
		time.Sleep(time.Minute)
		synctest.Wait()
		g.hold(crashfs.Sync)
		forced := result(func() error { return l.Sync(t.Context()) })
		requireWaits(t, forced)
		pos := appendNumber(l, 1)
		committed := result(func() error { return l.Wait(t.Context(), pos) })
		requireWaits(t, committed)
		g.step()
		requireDone(t, forced)
		requireWaits(t, committed)
		g.release()
		requireDone(t, committed)
		require.Equal(t, 2, g.count(crashfs.Sync))
	})
}

func TestTheNextSegmentStartsWhenASyncThatRunsHasEnded(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		g.hold(crashfs.Sync)
		time.Sleep(150 * time.Millisecond)
		segment, last, pos := l.End().Segment(), Pos(0), Pos(0)
		for n := uint32(2); pos.Segment() <= segment; n++ {
			last, pos = pos, appendNumber(l, n)
		}
		next := result(func() error { return l.Wait(t.Context(), pos) })
		requireWaits(t, next)
		g.release()
		requireDone(t, next)
		require.Greater(t, l.Durable(), last)
	})
}

func TestASyncBesideWritesThatFailsIsFinal(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, _ *gate) {
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		failKinds(l, crashfs.Sync)
		time.Sleep(150 * time.Millisecond)
		require.ErrorIs(t, l.Err(), store.ErrFailed)
		require.ErrorIs(t, l.Recover(), errFinal)
	})
}

// A write that fails ends the goroutine that writes. A sync that runs beside it may fail, too, and that is final.
func TestASyncThatFailsWithAWriteIsFinal(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		g.hold(crashfs.Sync)
		time.Sleep(150 * time.Millisecond)
		failKinds(l, crashfs.Sync, crashfs.Rename)
		segment := l.End().Segment()
		for n := uint32(2); l.End().Segment() == segment; n++ {
			appendNumber(l, n)
		}
		synctest.Wait()
		g.release()
		synctest.Wait()
		require.ErrorIs(t, l.Recover(), errFinal)
	})
}

// failKinds lets all changes of these kinds fail.
func failKinds(l *Log, kinds ...crashfs.Kind) {
	l.o.FS.(*crashfs.FS).SetHook(func(op crashfs.Op) error {
		for _, k := range kinds {
			if op.Kind == k {
				return errDisk
			}
		}
		return nil
	})
}

func TestWhatIsSyncedNeverGetsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		l, _ := started(t, Options{FS: fs, MinFree: -1, SegmentBytes: 1 << 20, Policy: Policy{Every: 100 * time.Millisecond}})
		time.Sleep(time.Minute) // the log has a mark
		g := newGate(fs)
		g.hold(crashfs.Sync)
		synced := result(func() error { return l.Sync(t.Context()) })
		requireWaits(t, synced)
		first := appendNumber(l, 1) // of this opening: it is synced before it is answered
		g.step()
		requireDone(t, synced)
		g.release()
		require.NoError(t, l.Wait(t.Context(), first))
		synctest.Wait()
		require.Greater(t, l.Durable(), first)
		require.NoError(t, l.Close())
	})
}

func TestAMarkFollowsASyncBesideWrites(t *testing.T) {
	bubble(t, Policy{Every: time.Minute}, func(t *testing.T, l *Log, g *gate) {
		pos := appendNumber(l, 1)
		require.NoError(t, l.Wait(t.Context(), pos))
		g.hold(crashfs.Sync)
		durable := result(func() error { return l.WaitDurable(t.Context(), pos) })
		time.Sleep(time.Hour)
		requireWaits(t, durable)
		require.Equal(t, 1, g.count(crashfs.Write), "a mark now would not say that the record is synced")
		g.release()
		requireDone(t, durable)
		time.Sleep(time.Hour)
		require.Equal(t, 1, g.count(crashfs.Write))
	})
}

func TestWhatWasNotSyncedBeforeAFailureIsSyncedInTime(t *testing.T) {
	bubble(t, Policy{Every: 100 * time.Millisecond}, func(t *testing.T, l *Log, g *gate) {
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 1)))
		left := 1
		l.o.FS.(*crashfs.FS).SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Write && left > 0 {
				left--
				return errDisk
			}
			return nil
		})
		require.ErrorIs(t, l.Wait(t.Context(), appendNumber(l, 2)), store.ErrFailed)
		require.NoError(t, l.Recover())
		_, err := replayed(l)
		require.NoError(t, err)
		require.NoError(t, l.Start())
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, l.Written(), l.Durable())
	})
}

func TestManyBytesAreSyncedBeforeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		l, _ := started(t, Options{FS: fs, MinFree: -1, SegmentBytes: 4 * syncBytes, MaxQueued: 4 * syncBytes, Policy: Policy{Every: time.Hour}})
		require.NoError(t, l.Wait(t.Context(), appendNumber(l, 0))) // the first of an opening is synced at once
		body := make([]byte, syncBytes/4)
		write := func(records int) (last Pos) {
			for range records {
				last = l.Append(1, 1, body)
				require.NoError(t, l.Wait(t.Context(), last))
			}
			synctest.Wait()
			return last
		}
		few := write(3)
		require.LessOrEqual(t, l.Durable(), few)
		g := newGate(fs)
		g.hold(crashfs.Sync)
		enough := write(1)
		more := write(4) // while the sync runs
		require.LessOrEqual(t, l.Durable(), few)
		g.release()
		synctest.Wait()
		require.Greater(t, l.Durable(), enough)
		require.Greater(t, l.Durable(), more, "another sync follows one that has missed as much")
		require.Equal(t, 2, g.count(crashfs.Sync))
		require.NoError(t, l.Close())
	})
}
