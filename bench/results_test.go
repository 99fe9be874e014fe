package main

import (
	"fmt"
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

// written returns what a part of a README has after two runs: the second one replaces what the first has written.
func (r *results) written(t *testing.T, mark string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "README.md")
	begin := fmt.Sprintf(readmeBegin, mark)
	others := ""
	for _, p := range r.readmeParts() {
		if p.mark != mark {
			others += fmt.Sprintf(readmeBegin, p.mark) + readmeEnd
		}
	}
	require.NoError(t, os.WriteFile(file, []byte("before\n"+begin+"old\n"+readmeEnd+"after\n"+others), 0o644))
	for range 2 {
		require.NoError(t, r.writeReadme(file))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	part, found := strings.CutPrefix(string(text), "before\n"+begin)
	require.True(t, found)
	part, after, found := strings.Cut(part, readmeEnd)
	require.True(t, found)
	require.True(t, strings.HasPrefix(after, "after\n"))
	require.NotContains(t, part, "old")
	return part
}

func TestTheReadmeGetsTheTablesOfTheDurableStore(t *testing.T) {
	r := results{
		Disk: []diskCell{{Work: workSingles, Size: 100, Own: diskAlways, Peer: peerAlways, Rates: [2][]float64{{9000, 8000, 7000}, {1000, 500, 500}},
			Ratios: []float64{9, 16, 14}, PerSync: []float64{20, 30, 40}}},
		Openings: []opening{{Contender: childOwn, Messages: 1_000_000, Open: time.Second, Rounds: []time.Duration{time.Second, 2 * time.Second},
			Disk: 120_000_000, Filled: 50_000_000, Resident: 20_000_000}},
	}
	text := r.written(t, "disk, and opening")
	require.Contains(t, text, "| 64 senders, a send each, 100 B | 8,000 | 500 | 14× (9.0–16.0) |\n")
	require.Contains(t, text, "| 1,000,000 messages, sequin, append | 1.00 s (1.00–2.00 s) | 120 B | 20 MB | 50 MB |\n")
	require.Contains(t, text, "\nOf 64 senders with one message each, 30 sends shared a sync.\n")
}

func TestTheReadmeGetsTheTableOfSinks(t *testing.T) {
	r := results{Sinks: []rate{{Contender: limitName, Size: 100, PerSecond: 2000}, {Contender: changeName, Size: 100, PerSecond: 1000, OfLimit: 0.5}}}
	require.Equal(t, "| changes a second | 100 B |\n| --- | ---: |\n| plain net/http | 2,000 |\n| SubscribeSink, DecodeChange | 1,000 (0.50) |\n", r.written(t, "sinks"))
}

func TestTheReadmeGetsTheTablesOfRates(t *testing.T) {
	r := results{Rates: []rate{
		{Part: aloneName, Work: "consume", Contender: libraryName, Size: 100, PerSecond: 50, OfLimit: 0.25, Rounds: []float64{10, 49, 50, 51, 90}},
		{Part: aloneName, Work: "publish", Contender: limitName, Size: 100, PerSecond: 200, OfLimit: 1, Rounds: []float64{160, 170, 200, 210, 220}},
		{Part: wholeName, Work: "publish", Contender: libraryName, Size: 100, PerSecond: 90, OfPeer: 1.5},
		{Part: wholeName, Work: "publish", Contender: peerName, Size: 100, PerSecond: 60, OfPeer: 1},
	}}
	const head = "| messages a second | 100 B |\n| --- | ---: |\n"
	require.Equal(t, head+"| publish, plain net/http | ~200 |\n| consume, sequin | 50 (0.25) |\n", r.written(t, "rates (the client alone)"))
	require.Equal(t, head+"| publish, sequin | 90 (1.5×) |\n| publish, JetStream, memory | 60 |\n", r.written(t, "rates (with its server)"))
}

func TestTheReadmeGetsTheOtherTables(t *testing.T) {
	r := results{Latency: []latency{{Contender: libraryName, P50: 425 * time.Microsecond, P99: time.Millisecond}},
		JSON:  []codecCost{{Codec: "own", Encode: 240, EncodeAllocs: 0.055, Decode: 950, DecodeAllocs: 1}},
		Knobs: []knob{{Name: "publish Lanes", Value: "1", PerSecond: 1234, P50: 500 * time.Microsecond, PeakHeap: 17 << 20}}}
	require.Contains(t, r.written(t, "latency"), "| sequin | 425 µs | 1000 µs |\n")
	require.Contains(t, r.written(t, "json"), "| own | 240 ns | 0.06 | 950 ns | 1.00 |\n")
	r.Link = []rate{{Work: "consume", Contender: "Pollers 2", Size: 100, PerSecond: 40_000}}
	require.Equal(t, "| messages a second | 100 B |\n| --- | ---: |\n| consume Pollers 2 | 40,000 |\n", r.written(t, "link"))
	require.Contains(t, r.written(t, "knobs"), "| publish Lanes 1 | 1,234 | 0.50 ms | 17 MiB |\n")
}

// The parts that a run has to find.
func TestTheReadmeHasTheMarks(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, p := range new(results).readmeParts() {
		_, err := replaceBetween(text, fmt.Sprintf(readmeBegin, p.mark), func() string { return "" })
		require.NoError(t, err)
	}
}

func TestAReadmeWithoutTheMarksIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte(readmeEnd+fmt.Sprintf(readmeBegin, "disk, and opening")), 0o644))
	r := results{Disk: make([]diskCell, 1), Openings: make([]opening, 1)}
	require.ErrorContains(t, r.writeReadme(file), "lacks the line")
}

// The bytes arrive in order, each after the delay, and a connection that ends leaves no goroutine.
func TestALinkDelaysEachRoundTrip(t *testing.T) {
	const delay = 20 * time.Millisecond
	url, stop, err := serveFar(stubOf(100, false), delay)
	require.NoError(t, err)
	client, err := newClient(url)
	require.NoError(t, err)
	for range 3 {
		began := time.Now()
		got, err := client.ReceiveMessages(t.Context(), "stream", "consumer", sequin.ReceiveOptions{BatchSize: 1000})
		require.NoError(t, err)
		require.Len(t, got, 1000)
		require.GreaterOrEqual(t, time.Since(began), delay)
	}
	client.Close()
	stop() // waits for the goroutines
}

func TestTheGrowthTableHasAColumnForEachPowerOfTen(t *testing.T) {
	r := results{Growth: []axis{{Unit: "streams", Series: []series{{
		Name: "publish", X: []float64{1, 100}, Y: []float64{2000, 3000}, Rounds: [][]float64{{2000}, {1, 2, 3000, 9000, 9001}},
	}}}}}
	require.Contains(t, r.growthTable(), "| streams: publish | 2,000 |  | ~3,000 |  |  |  |  |  |\n", "~ for rounds that differ much")
	require.Equal(t, []int{1000, 10_000}, tens(3, 4))
}
