package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
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
	computeRatios(r.Rates)
	require.Equal(t, 0.75, r.Rates[1].OfLimit)
	require.Zero(t, r.Rates[2].OfLimit, "there is nothing to compare it with")
	require.Equal(t, 1.5, r.Rates[3].OfPeer)
}

func TestTheStubOfASinkDeliversChanges(t *testing.T) {
	url, stop, err := serve(stubOf(100, true))
	require.NoError(t, err)
	defer stop()
	client, err := newClient(url)
	require.NoError(t, err)
	defer client.Close()
	got, err := client.ReceiveSink(t.Context(), "orders-sink", sequin.ReceiveOptions{BatchSize: 3})
	require.NoError(t, err)
	require.Len(t, got, 3)
	change, err := sequin.DecodeChange[sinkRow](sequin.Delivery{Data: got[2].Data})
	require.NoError(t, err)
	require.Equal(t, sinkRow{2, "cus_2", 2, payload(40)}, change.Record)
	require.NoError(t, decodeByStdlib(sequin.Delivery{Data: got[2].Data}))
}

func TestThousands(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(x))
	}
}

func TestTheReadmeGetsTheTablesOfTheDurableStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+readmeBegin+"old\n"+readmeEnd+"after\n"), 0o644))
	r := results{
		Disk: []diskCell{{Work: workSingles, Size: 100, Own: diskAlways, Peer: peerAlways, Rates: [2][]float64{{9000, 8000, 7000}, {1000, 500, 500}},
			Ratios: []float64{9, 16, 14}, PerSync: []float64{20, 30, 40}}},
		Openings: []opening{{Contender: childOwn, Messages: 1_000_000, Open: time.Second, Rounds: []time.Duration{time.Second, 2 * time.Second},
			Disk: 120_000_000, Filled: 50_000_000, Resident: 20_000_000}},
	}
	for range 2 { // also over what a run has written
		require.NoError(t, r.writeReadme(file))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "before\n"+readmeBegin+"| messages a second |"))
	require.True(t, strings.HasSuffix(string(text), readmeEnd+"after\n"))
	require.NotContains(t, string(text), "old")
	require.Contains(t, string(text), "| 64 senders, a send each, 100 B | 8,000 | 500 | 14× (9.0–16.0) |\n")
	require.Contains(t, string(text), "| 1,000,000 messages, sequin, append | 1.00 s (1.00–2.00 s) | 120 B | 20 MB | 50 MB |\n")
	require.Contains(t, string(text), "\nOf 64 senders with one message each, 30 sends shared a sync.\n")
}

func TestTheReadmeGetsTheTableOfSinks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+readmeSinks+"old\n"+readmeEnd+"after\n"), 0o644))
	r := results{Sinks: []rate{{Contender: limitName, Size: 100, PerSecond: 2000}, {Contender: changeName, Size: 100, PerSecond: 1000, OfLimit: 0.5}}}
	for range 2 {
		require.NoError(t, r.writeReadme(file))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "before\n"+readmeSinks+"| changes a second |"))
	require.True(t, strings.HasSuffix(string(text), readmeEnd+"after\n"))
	require.NotContains(t, string(text), "old")
	require.Contains(t, string(text), "| plain net/http | 2,000 | 0 |\n| SubscribeSink, DecodeChange | 1,000 (0.50) | 0 (0.00) |\n")
}

func TestAReadmeWithoutTheMarksIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte(readmeEnd+readmeBegin), 0o644))
	r := results{Disk: make([]diskCell, 1), Openings: make([]opening, 1)}
	require.ErrorContains(t, r.writeReadme(file), "lacks the line")
}
