package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedianAndPercentile(t *testing.T) {
	require.Equal(t, 3.0, median([]float64{9, 1, 3}))
	xs := make([]time.Duration, 100)
	for i := range xs {
		xs[i] = time.Duration(100 - i)
	}
	require.Equal(t, time.Duration(51), percentile(xs, 50))
	require.Equal(t, time.Duration(100), percentile(xs, 99))
}

func TestRatiosAreOfTheSamePartWorkAndSize(t *testing.T) {
	r := results{Rates: []rate{
		{Part: aloneName, Work: "publish", Contender: limitName, Size: 100, PerSecond: 200},
		{Part: aloneName, Work: "publish", Contender: libraryName, Size: 100, PerSecond: 150},
		{Part: aloneName, Work: "consume", Contender: libraryName, Size: 100, PerSecond: 50},
		{Part: wholeName, Work: "publish", Contender: libraryName, Size: 100, PerSecond: 90},
		{Part: wholeName, Work: "publish", Contender: peerName, Size: 100, PerSecond: 60},
	}}
	r.computeRatios()
	require.Equal(t, 0.75, r.Rates[1].OfLimit)
	require.Zero(t, r.Rates[2].OfLimit, "there is nothing to compare it with")
	require.Equal(t, 1.5, r.Rates[3].OfPeer)
}

func TestThousands(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(x))
	}
}
