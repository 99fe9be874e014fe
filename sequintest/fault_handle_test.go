package sequintest

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestWaitCountsAHitJustBeforeTheEnd(t *testing.T) {
	for range 100 { // the hit and the end both wake the waiter, which may notice either one first
		synctest.Test(t, func(t *testing.T) {
			var fs faults
			h := fs.add(Fault{}, effect{})
			waited := make(chan error)
			go func() { waited <- h.Wait(t.Context(), 1) }()
			synctest.Wait()
			h.hit()
			h.Remove()
			require.NoError(t, <-waited)
		})
	}
}
