package sequin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

func TestTheNextAttemptAtASettleComesInTime(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		name string
		left []time.Duration // until the leases end
		wait time.Duration
	}{
		{"half of what is left", []time.Duration{600 * ms}, 300 * ms},
		{"the first lease to end counts", []time.Duration{20 * time.Second, 600 * ms, 900 * ms}, 300 * ms},
		{"a second at most", []time.Duration{20 * time.Second}, time.Second},
		{"a tenth of a second at least", []time.Duration{50 * ms}, 100 * ms},
		{"after the end", []time.Duration{-50 * ms}, 100 * ms},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := time.Now()
			items := make([]settleEntry, len(row.left))
			for i, left := range row.left {
				items[i].Item.state = &deliveryState{fetched: &fetched{lease: &lease.Lease{Deadline: now.Add(left)}}}
			}
			require.Equal(t, row.wait, longestSettleWait(items, now))
		})
	}
}
