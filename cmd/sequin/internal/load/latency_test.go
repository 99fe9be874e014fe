package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPercentileIsOneOfTheTimes(t *testing.T) {
	var hundred Latencies
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	three := Latencies{1, 2, 3}
	for p, want := range map[float64][2]time.Duration{0: {1, 1}, 50: {50, 2}, 95: {95, 3}, 99: {99, 3}, 100: {100, 3}} {
		require.Equal(t, want[0], hundred.Percentile(p))
		require.Equal(t, want[1], three.Percentile(p))
	}
	require.Zero(t, Latencies(nil).Percentile(50))
}
