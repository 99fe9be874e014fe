package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/sequin-go/sequin"
)

// far is the time per request of a server behind a network and a database. Lanes and pollers help with such a server.
const far = 5 * time.Millisecond

// heap returns the size of all objects on the heap, in bytes.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// measureAxes measures how the rate depends on a size, one size at a time.
func measureAxes(ctx context.Context, opts options, all *results) error {
	n := 100_000 // 30,000 would take ten milliseconds, too short to see a slope
	if opts.quick {
		n = opts.counts[100]
	}
	all.Axes = nil
	for _, a := range []struct {
		name, unit string
		over       []int
		lines      []string
		run        func(ctx context.Context, line string, x, n int) (time.Duration, error)
	}{
		{"lanes", "lanes", []int{1, 2, 4, 8}, []string{"at once", "5 ms a request"}, onLanes},
		{"pollers", "pollers", []int{1, 2, 3, 4}, []string{"at once", "5 ms a request"}, onPollers},
	} {
		ax := axis{Name: a.name, Unit: a.unit}
		rows := make([][]string, len(a.over))
		for i, x := range a.over {
			rows[i] = []string{thousands(float64(x))}
		}
		for _, line := range a.lines {
			s := series{Name: line}
			for i, x := range a.over {
				var rates []float64
				for range opts.rounds {
					runtime.GC()
					took, err := a.run(ctx, line, x, n)
					if err != nil {
						return fmt.Errorf("%s, %s, %d: %w", a.name, line, x, err)
					}
					rates = append(rates, float64(n)/took.Seconds())
				}
				progress("%s, %s, %d: %s messages/s", a.name, line, x, thousands(median(rates)))
				s.X, s.Y = append(s.X, float64(x)), append(s.Y, median(rates))
				rows[i] = append(rows[i], thousands(median(rates)))
			}
			ax.Series = append(ax.Series, s)
		}
		all.Axes = append(all.Axes, ax)
		table("Messages a second over "+a.unit, append([]string{a.unit}, a.lines...), rows)
	}
	return nil
}

// onStub runs a measurement against a new stub.
func onStub(ctx context.Context, line string, n int, run func(context.Context, string, int, int) (time.Duration, error)) (time.Duration, error) {
	s := &stub{size: 100}
	if line != "at once" {
		s.delay = far
	}
	url, stop, err := serve(s)
	if err != nil {
		return 0, err
	}
	defer stop()
	return run(ctx, url, n, 100)
}

func onLanes(ctx context.Context, line string, lanes, n int) (time.Duration, error) {
	return onStub(ctx, line, n, settings{publisher: sequin.PublisherConfig{Lanes: lanes}}.publish)
}

func onPollers(ctx context.Context, line string, pollers, n int) (time.Duration, error) {
	return onStub(ctx, line, n, settings{subscriber: sequin.SubscriberConfig{Pollers: pollers}}.consume)
}

// measureKnobs measures the effect of each setting, with a server that takes 5 ms per request.
func measureKnobs(ctx context.Context, opts options, all *results) error {
	n := min(opts.counts[100], 30_000) // with MaxInFlight 100 these take four seconds
	publisher := func(c sequin.PublisherConfig) settings { return settings{publisher: c} }
	subscriber := func(c sequin.SubscriberConfig) settings { return settings{subscriber: c} }
	all.Knobs = nil
	var rows [][]string
	for _, k := range []struct {
		name, value string
		work        string
		s           settings
	}{
		{"(defaults)", "", "publish", settings{}},
		{"Lanes", "1", "publish", publisher(sequin.PublisherConfig{Lanes: 1})},
		{"Lanes", "8", "publish", publisher(sequin.PublisherConfig{Lanes: 8})},
		{"MaxBatch", "100", "publish", publisher(sequin.PublisherConfig{MaxBatch: 100})},
		{"MaxBuffered", "1,000", "publish", publisher(sequin.PublisherConfig{MaxBuffered: 1_000})},
		{"MaxBuffered", "100,000", "publish", publisher(sequin.PublisherConfig{MaxBuffered: 100_000})},
		{"Linger", "5 ms", "publish", publisher(sequin.PublisherConfig{Linger: 5 * time.Millisecond})},
		{"(defaults)", "", "consume", settings{}},
		{"MaxInFlight", "100", "consume", subscriber(sequin.SubscriberConfig{MaxInFlight: 100})},
		{"MaxInFlight", "1,000", "consume", subscriber(sequin.SubscriberConfig{MaxInFlight: 1_000})},
		{"MaxInFlight", "100,000", "consume", subscriber(sequin.SubscriberConfig{MaxInFlight: 100_000})},
		{"Pollers", "1", "consume", subscriber(sequin.SubscriberConfig{Pollers: 1})},
		{"Pollers", "4", "consume", subscriber(sequin.SubscriberConfig{Pollers: 4})},
	} {
		var rates []float64
		var idle []time.Duration
		peak := uint64(0)
		for range opts.rounds {
			took, bytes, err := k.s.measure(ctx, k.work, n)
			if err == nil {
				peak = max(peak, bytes)
				rates = append(rates, float64(n)/took.Seconds())
				_, err = onServer(ctx, 0, 0, false, func(ctx context.Context, url string, _, _ int) (time.Duration, error) {
					xs, err := k.s.idle(ctx, url, 60)
					idle = append(idle, xs[min(len(xs), 10):]...) // the first ones open connections
					return 0, err
				})
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", k.name, k.value, err)
			}
		}
		x := knob{Name: k.work + " " + k.name, Value: k.value, PerSecond: median(rates), P50: percentile(idle, 50), PeakHeap: peak}
		progress("%s %s: %s messages/s", x.Name, x.Value, thousands(x.PerSecond))
		all.Knobs = append(all.Knobs, x)
		rows = append(rows, []string{k.work, k.name, k.value, thousands(x.PerSecond), x.P50.Round(time.Microsecond).String(), fmt.Sprintf("%.1f MiB", float64(peak)/(1<<20))})
	}
	table("The effect of each setting, with a server that takes 5 ms per request", []string{"work", "setting", "value", "messages/s", "idle p50", "peak heap"}, rows)
	return nil
}

// measure returns how long n messages take with the settings, and by how many bytes the heap grows at its peak.
func (s settings) measure(ctx context.Context, work string, n int) (took time.Duration, growth uint64, err error) {
	run := s.publish
	if work == "consume" {
		run = s.consume
	}
	runtime.GC()
	base := heap()
	stop := peakHeap()
	took, err = onStub(ctx, "far", n, run)
	peak := stop()
	return took, peak - base, err
}
