package simtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/sim"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// openCrashing opens a store that crashes a few times. Half of the seeds sync always.
func openCrashing(t *testing.T, seed uint64, cut func()) server.Store {
	random := rand.New(rand.NewPCG(seed, 1))
	o := durable.Options{MinFree: -1, SegmentBytes: 256 << 10, SnapshotBytes: 512 << 10}
	if random.IntN(2) == 0 {
		o.Sync = durable.SyncEvery(100 * time.Millisecond)
	}
	c, err := open(o, random.IntN(8), random, cut, t.Logf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNothingIsLostInCrashes simulates programs, workers and faults over a store that crashes.
func TestNothingIsLostInCrashes(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("TORTURE_SIM"))
	if err != nil {
		runs = 100
	}
	for seed := uint64(1); runs > 0; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			if sim.Run(t, seed, openCrashing, 30*time.Second) {
				runs--
			}
		})
	}
}
