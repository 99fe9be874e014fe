package durable_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/durable/internal/torture"
)

// fromEnv returns a number from the environment, such as how many runs make torture wants, or the one of an ordinary run.
func fromEnv(name string, ordinary int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return ordinary
}

// policies are the sync policies that are tortured.
var policies = map[string]durable.SyncPolicy{"always": durable.SyncAlways, "every": durable.SyncEvery(20 * time.Millisecond)}

const memoryDir = "/data" // of a file system in memory

// small are options with which a short load fills segments, and makes snapshots. With an odd seed it also cleans, and makes
// snapshots all the time.
func small(fs *crashfs.FS, sync durable.SyncPolicy, seed uint64) durable.Options {
	o := durable.Options{FS: fs, Sync: sync, MinFree: -1, SegmentBytes: 64 << 10, SnapshotBytes: 128 << 10}
	if seed%2 == 1 {
		o.SegmentBytes, o.SnapshotBytes, o.CleanSlack = 8<<10, 4<<10, 1
	}
	return o
}

func openStore(t *testing.T, dir string, o durable.Options) *durable.Store {
	t.Helper()
	st, err := durable.Open(dir, o)
	require.NoError(t, err)
	return st
}

// newLoaded returns a file system with a store that has the streams and consumers of a load. They are synced.
func newLoaded(t *testing.T) *crashfs.FS {
	t.Helper()
	fs := crashfs.New()
	st := openStore(t, memoryDir, small(fs, durable.SyncAlways, 0))
	require.NoError(t, torture.Setup(t.Context(), st))
	require.NoError(t, st.Close())
	return fs
}

// accountsOf returns accounts of events that a crash ended.
func accountsOf(events []torture.Event, powerLoss bool) *torture.Accounts {
	a := torture.NewAccounts()
	for _, e := range events {
		a.Apply(e)
	}
	a.Crashed(powerLoss)
	return a
}

func requireNoFaults(t *testing.T, faults []string, what ...any) {
	t.Helper()
	require.Empty(t, faults, "%s\n%s", fmt.Sprint(what...), strings.Join(faults, "\n"))
}

// moment is a file system after a loss of power, and what had happened until then.
type moment struct {
	fs     *crashfs.FS
	events int
	keep   float64
	before string // the change that the loss of power prevented
}

// moments takes a moment at every interval-th change.
type moments struct {
	mu       sync.Mutex // guards what follows
	interval int
	changes  int
	all      []moment
}

func (m *moments) watch(fs *crashfs.FS, j *torture.Journal, random *rand.Rand) {
	fs.SetHook(func(op crashfs.Op) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.changes++; m.changes%m.interval == 0 {
			events := len(j.Events())
			keep := []float64{0, 0.5, 1}[len(m.all)%3]
			m.all = append(m.all, moment{fs.Crash(keep, random), events, keep, fmt.Sprint(op.Kind, " ", op.Name, " at ", op.Offset)})
		}
		return nil
	})
}

// TestALossOfPowerTakesNoAnswer cuts the power at many moments, and keeps none, half or all of what was not synced.
func TestALossOfPowerTakesNoAnswer(t *testing.T) {
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(fromEnv("TORTURE_SEEDS", 2)) {
				synctest.Test(t, func(t *testing.T) { lossOfPower(t, policy, seed) })
			}
		})
	}
}

func lossOfPower(t *testing.T, policy durable.SyncPolicy, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	fs := newLoaded(t)
	var j torture.Journal
	m := &moments{interval: 30 + random.IntN(60)}
	st := openStore(t, memoryDir, small(fs, policy, seed))
	m.watch(fs, &j, random)
	plan := torture.Plan{Seed: seed, Steps: 60, Think: 2 * time.Millisecond}
	require.NoError(t, torture.NewWorkload(st, plan, j.Add).Run(t.Context()))
	fs.SetHook(nil)
	require.NoError(t, st.Close())
	events := j.Events()
	accounts := make([]*torture.Accounts, len(m.all))
	what := func(i int) string {
		at := m.all[i]
		return fmt.Sprintf("seed %d, moment %d of %d, before %s, %v kept", seed, i, len(m.all), at.before, at.keep)
	}
	for i, at := range m.all {
		a := accountsOf(events[:at.events], true)
		accounts[i] = a
		st, err := durable.Open(memoryDir, small(at.fs, policy, seed))
		require.NoError(t, err, what(i))
		suffixLost := policy.Every() > 0 && at.keep < 1
		requireNoFaults(t, a.Check(t.Context(), st, suffixLost), what(i))
		if !suffixLost && i%4 == 0 {
			goOn(t, st, a, seed)
			requireNoFaults(t, a.Check(t.Context(), st, false), what(i), ", and a load after it")
		}
		require.NoError(t, st.Close(), what(i))
	}
	// Only now, because time passes, and sends are remembered for ten minutes.
	for i, at := range m.all {
		st := openStore(t, memoryDir, small(at.fs, policy, seed))
		requireNoFaults(t, accounts[i].Drain(t.Context(), st, func() { time.Sleep(torture.MaxWait) }), what(i))
		require.NoError(t, st.Close(), what(i))
	}
}

// goOn runs another load.
func goOn(t *testing.T, st *durable.Store, a *torture.Accounts, seed uint64) {
	t.Helper()
	var j torture.Journal
	plan := a.Plan()
	plan.Seed, plan.Steps = seed, 30
	require.NoError(t, torture.NewWorkload(st, plan, j.Add).Run(t.Context()))
	for _, e := range j.Events() {
		a.Apply(e)
	}
}
