package seglog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

var errDisk = errors.New("input/output error")

// failing makes one change of the file system fail.
type failing struct {
	at   int // the number of the change
	err  error
	seen int
	op   crashfs.Op // that failed
}

func (f *failing) hook(op crashfs.Op) error {
	f.seen++
	if f.seen-1 != f.at {
		return nil
	}
	f.op = op
	return f.err
}

// failures are the ways in which a change fails.
var failures = map[string]error{
	"error":       errDisk,
	"short write": &crashfs.Short{N: 70, Err: errDisk},
	"disk full":   vfs.ErrNoSpace,
}

func TestAFailureAtAnyMomentLosesNothingThatWasAnsweredAndStoresNothingThatWasRefused(t *testing.T) {
	for name, err := range failures {
		for policy, every := range map[string]time.Duration{"always": 0, "every": time.Second} {
			step := 3
			if name == "error" {
				step = 1
			}
			t.Run(name+"/"+policy, func(t *testing.T) {
				failed := 0
				for at := 0; ; at += step {
					f := &failing{at: at, err: err}
					synctest.Test(t, func(t *testing.T) { f.run(t, every) })
					if f.op.Kind == "" {
						break
					}
					failed++
				}
				require.Greater(t, failed*step, 100)
			})
		}
	}
}

// run appends records while one change fails, and recovers.
func (f *failing) run(t *testing.T, every time.Duration) {
	fs := crashfs.New()
	o := small(fs)
	o.Policy.Every = every
	fs.SetHook(f.hook)
	l, err := Open(testDir, o)
	if err != nil {
		require.NotErrorIs(t, err, store.ErrDamaged)
		l, err = Open(testDir, o)
	}
	require.NoError(t, err)
	require.NoError(t, l.Start())
	n := uint32(0) // records 0 to n-1 are in the log
	for round := range 8 {
		for range 5 {
			l, n = f.append(t, o, l, n)
		}
		if round%2 == 1 {
			_ = snapshotOf(l, l.End(), n)
		}
		if round%4 == 2 {
			for _, s := range l.Segments() {
				if s.Number < l.KeepFrom().Segment() {
					_ = l.Remove(context.Background(), s.Number)
				}
			}
			time.Sleep(2 * time.Second)
		}
	}
	_ = l.Close()
	fs.SetHook(nil)
	l, all := started(t, o)
	require.NoError(t, l.Close())
	f.requireAll(t, n, all)
}

func (f *failing) requireAll(t *testing.T, n uint32, all []uint32) {
	require.Len(t, all, int(n), "%+v", f.op)
	for i, have := range all {
		require.Equal(t, uint32(i), have, "%+v", f.op)
	}
}

// append appends record n and its successor, and waits. When that fails it recovers, or opens the log again.
func (f *failing) append(t *testing.T, o Options, l *Log, n uint32) (*Log, uint32) {
	ctx := context.Background()
	first, second := appendNumber(l, n), appendNumber(l, n+1)
	firstErr, err := l.Wait(ctx, first), l.Wait(ctx, second)
	if err == nil {
		require.NoError(t, firstErr)
		return l, n + 2
	}
	require.True(t, errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrDiskFull), err)
	require.Error(t, l.Wait(ctx, l.Append(1, 1, nil)), "a failed log takes nothing")
	if recovery := l.Recover(); recovery != nil {
		require.ErrorIs(t, recovery, errFinal, "%+v", f.op)
		_ = l.Close()
		var all []uint32
		l, all = started(t, o)
		require.ErrorIs(t, err, store.ErrUnknown)
		require.GreaterOrEqual(t, len(all), int(n))
		return l, uint32(len(all))
	}
	all, replayErr := replayed(l)
	require.NoError(t, replayErr, "%+v", f.op)
	require.NoError(t, l.Start())
	require.Error(t, l.Wait(ctx, second), "what is lost stays lost")
	if firstErr == nil {
		n++
	}
	f.requireAll(t, n, all)
	return l, n
}

// The power is lost while the log recovers from a failed write, or soon afterwards.
func TestALossOfPowerAfterAFailureLosesNothingThatWasAnswered(t *testing.T) {
	random := seeded(4)
	for at := 20; at < 140; at += 3 {
		synctest.Test(t, func(t *testing.T) {
			fs := crashfs.New()
			o := small(fs)
			f := &failing{at: at, err: &crashfs.Short{N: 200, Err: errDisk}}
			type moment struct {
				fs *crashfs.FS
				n  uint32 // records that were answered
				op crashfs.Op
			}
			var moments []moment
			var answered atomic.Uint32
			fs.SetHook(func(op crashfs.Op) error {
				if f.op.Kind != "" && len(moments) < 60 {
					n := answered.Load()
					for _, keep := range []float64{0, 0.5, 1} {
						moments = append(moments, moment{fs.Crash(keep, random), n, op})
					}
				}
				return f.hook(op)
			})
			l, err := Open(testDir, o)
			require.NoError(t, err)
			require.NoError(t, l.Start())
			for n := uint32(0); n < 60; answered.Store(n) {
				l, n = f.append(t, o, l, n)
			}
			_ = l.Close() // which may be what fails
			for _, m := range moments {
				o.FS = m.fs
				l, all := started(t, o)
				require.GreaterOrEqual(t, len(all), int(m.n), "%+v after %+v", m.op, f.op)
				for i, n := range all {
					require.EqualValues(t, i, n)
				}
				require.NoError(t, l.Close())
				require.Empty(t, checked(t, m.fs, testDir).Faults, "%+v after %+v", m.op, f.op)
			}
		})
	}
}
