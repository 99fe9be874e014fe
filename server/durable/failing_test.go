package durable_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
	"github.com/sequin-go/sequin/server/durable/internal/vfs"
)

var errIO = errors.New("input/output error")

// failure lets changes of a file system fail.
type failure struct {
	kind  crashfs.Kind
	after int // changes of that kind that succeed first
	count int // changes that fail then
	err   error
}

func (f failure) String() string {
	return fmt.Sprintf("%d times %q, %q number %d on", f.count, f.err, f.kind, f.after)
}

// drawFailure returns a random failure.
func drawFailure(random *rand.Rand) failure {
	kinds := []crashfs.Kind{crashfs.Write, crashfs.Write, crashfs.Sync, crashfs.Create, crashfs.Allocate, crashfs.Rename, crashfs.SyncDir, crashfs.Remove, crashfs.Truncate}
	f := failure{kind: kinds[random.IntN(len(kinds))], count: 1 << random.IntN(7), err: errIO}
	if f.kind == crashfs.Write || f.kind == crashfs.Sync {
		f.after = random.IntN(150)
	} else {
		f.after = random.IntN(5)
	}
	if random.IntN(2) == 0 {
		f.err = vfs.ErrNoSpace
	}
	if f.kind == crashfs.Write && random.IntN(2) == 0 {
		f.err = &crashfs.Short{N: random.IntN(2_000), Err: f.err}
	}
	return f
}

// hook returns a hook that makes the changes fail.
func (f failure) hook() func(crashfs.Op) error {
	var mu sync.Mutex
	seen := 0
	return func(op crashfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind != f.kind {
			return nil
		}
		seen++
		if seen > f.after && seen <= f.after+f.count {
			return f.err
		}
		return nil
	}
}

// TestAFailureOfTheDiskIsAnsweredForWhatItIs lets changes of the files fail under load. What was answered is there afterwards,
// with and without a loss of power, and what was refused is not.
func TestAFailureOfTheDiskIsAnsweredForWhatItIs(t *testing.T) {
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(fromEnv("TORTURE_FAILURES", 20)) {
				synctest.Test(t, func(t *testing.T) { failingDisk(t, policy, seed) })
			}
		})
	}
}

func failingDisk(t *testing.T, policy durable.SyncPolicy, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	f := drawFailure(random)
	what := fmt.Sprintf("seed %d, %v", seed, f)
	fs := newLoaded(t)
	st := openStore(t, memoryDir, small(fs, policy, seed))
	fs.SetHook(f.hook())
	var j torture.Journal
	plan := torture.Plan{Seed: seed, Steps: 60, Think: 2 * time.Millisecond}
	_ = torture.NewWorkload(st, plan, j.Add).Run(t.Context()) // it cannot begin when the first write fails
	events := j.Events()
	_ = st.Close() // of a store that has failed it returns that
	fs.SetHook(nil)
	for _, keep := range []float64{1, 0} {
		after := fs.Crash(keep, random)
		st, err := durable.Open(memoryDir, small(after, policy, seed))
		require.NoError(t, err, what)
		a := accountsOf(events, true)
		suffixLost := policy.Every() > 0 && keep < 1
		requireNoFaults(t, a.Check(t.Context(), st, suffixLost), what, ", kept ", keep)
		require.NoError(t, st.Close(), what)
	}
}
