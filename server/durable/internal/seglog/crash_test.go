package seglog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
)

// crash is what a loss of power at some moment leaves.
type crash struct {
	op       crashfs.Op
	fs       *crashfs.FS
	keep     float64
	answered uint32 // records for which Wait had returned
	durable  uint32 // records for which WaitDurable had returned
	appended uint32
}

// crashes runs load on a log, and returns what is left when the power is lost before each change that it makes.
func crashes(t *testing.T, o Options, fs *crashfs.FS, seed uint64) (all []crash) {
	random := seeded(seed)
	var answered, durable, appended atomic.Uint32
	fs.SetHook(func(op crashfs.Op) error {
		for _, keep := range []float64{0, 0.5, 1} {
			c := crash{op: op, keep: keep, answered: answered.Load(), durable: durable.Load()}
			c.fs = fs.Crash(keep, random)
			c.appended = appended.Load() // the load goes on meanwhile
			all = append(all, c)
		}
		return nil
	})
	load(t, o, seed, &answered, &durable, &appended)
	fs.SetHook(nil)
	return all
}

// load appends records in groups, and sometimes waits, writes a snapshot, or removes what no snapshot needs.
func load(t *testing.T, o Options, seed uint64, answered, durable, appended *atomic.Uint32) {
	ctx, random := context.Background(), rand.New(rand.NewPCG(seed, 1))
	l, have := started(t, o)
	require.Empty(t, have)
	var n uint32
	var pos Pos
	for range 40 {
		for range random.IntN(8) {
			appended.Store(n + 1)
			pos = appendNumber(l, n)
			n++
		}
		require.NoError(t, l.Wait(ctx, pos))
		answered.Store(n)
		switch random.IntN(10) {
		case 0:
			require.NoError(t, l.WaitDurable(ctx, pos))
			durable.Store(n)
		case 1:
			require.NoError(t, snapshotOf(l, l.End(), n))
			durable.Store(n)
		case 2:
			for _, s := range l.Segments() {
				if s.Number < l.KeepFrom().Segment() {
					require.NoError(t, l.Remove(ctx, s.Number))
				}
			}
		case 3:
			time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond) // a sync, a mark
		}
	}
	require.NoError(t, l.Close())
}

func TestALossOfPowerAtAnyMomentLosesNothingThatWasAnswered(t *testing.T) {
	for seed := range *seeds {
		for name, policy := range map[string]Policy{"always": {}, "every": {Every: time.Second}} {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fs := crashfs.New()
					o := small(fs)
					o.Policy = policy
					for _, c := range crashes(t, o, fs, seed) {
						c.check(t, o)
					}
				})
			})
		}
	}
}

// check opens what the crash left, and opens it once more after it has been used.
func (c crash) check(t *testing.T, o Options) {
	what := fmt.Sprintf("before %v, keep %v", c.op, c.keep)
	must := c.durable
	if o.Policy.Every <= 0 || c.keep == 1 {
		must = c.answered
	}
	o.FS = c.fs
	l, err := Open(testDir, o)
	require.NoError(t, err, what)
	all, err := replayed(l)
	require.NoError(t, err, what)
	require.NoError(t, l.Start())
	for i, n := range all {
		require.Equal(t, uint32(i), n, what) // a beginning of what was appended: no gap, no order changed
	}
	require.GreaterOrEqual(t, len(all), int(must), what)
	require.LessOrEqual(t, len(all), int(c.appended), what)

	n := uint32(len(all))
	require.NoError(t, l.Wait(context.Background(), appendNumber(l, n)), what)
	require.NoError(t, l.Close(), what)
	l, again := started(t, o)
	require.NoError(t, l.Close(), what)
	require.Equal(t, append(all, n), again, what)
	require.Zero(t, l.Torn(), what)
}
