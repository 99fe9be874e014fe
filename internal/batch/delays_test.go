package batch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestItemsOfAboutTheSameDelayStayTogether(t *testing.T) {
	entries := func(delays ...time.Duration) (all []Entry[time.Duration]) {
		for _, d := range delays {
			all = append(all, Entry[time.Duration]{Item: d})
		}
		return all
	}
	delayOf := func(d *time.Duration) time.Duration { return *d }
	for _, row := range []struct{ all, together, rest []time.Duration }{
		{all: []time.Duration{0, 0}, together: []time.Duration{0, 0}},
		{all: []time.Duration{9, 8, 9}, together: []time.Duration{9, 8, 9}},
		{[]time.Duration{10, 8, 9, 11}, []time.Duration{8, 9}, []time.Duration{10, 11}},
		{[]time.Duration{5, 0, 1}, []time.Duration{0}, []time.Duration{5, 1}},
	} {
		together, rest, longest := SplitDelays(entries(row.all...), delayOf)
		require.Equal(t, entries(row.together...), together)
		require.Equal(t, entries(row.rest...), rest)
		if len(rest) == 0 {
			require.LessOrEqual(t, together[0].Item, longest)
			require.Contains(t, together, Entry[time.Duration]{Item: longest})
		}
	}
}
