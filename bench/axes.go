package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// far is a server behind a network and a database: each request takes that long. It is what lanes and pollers are for.
const far = 5 * time.Millisecond

func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// measureAxes measures cost over size, one axis at a time.
func measureAxes(ctx context.Context, opts options, all *results) error {
	n := 100_000 // enough to see the slope, where 30,000 would be over in ten milliseconds
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
		{"backlog", "messages in the stream", []int{1_000, 10_000, 100_000, 1_000_000}, []string{"publish", "consume"}, onBacklog},
		{"lanes", "lanes", []int{1, 2, 4, 8}, []string{"at once", "5 ms a request"}, onLanes},
		{"pollers", "pollers", []int{1, 2, 3, 4}, []string{"at once", "5 ms a request"}, onPollers},
		{"subscribers", "subscribers on one consumer", []int{1, 2, 4, 8, 16, 32}, []string{"consume"}, onSubscribers},
	} {
		if opts.quick && a.name == "backlog" {
			a.over = a.over[:2]
		}
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

// onBacklog measures n messages on a stream that holds x others: unread ones of another consumer for publish, and
// unread ones of this consumer, behind those that are measured, for consume.
func onBacklog(ctx context.Context, work string, x, n int) (time.Duration, error) {
	return onServer(ctx, x, 100, true, func(ctx context.Context, url string, _, _ int) (time.Duration, error) {
		runtime.GC() // the collection that the filling of a million began would fall into some rounds and not into others
		if work == "publish" {
			return settings{}.publish(ctx, url, n, 100)
		}
		if _, err := (settings{}).publish(ctx, url, n, 100); err != nil {
			return 0, err
		}
		return settings{}.consume(ctx, url, n, 100)
	})
}

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

// onSubscribers shares n messages among x Subscribers of one consumer, whose max_waiting is the default 20.
func onSubscribers(ctx context.Context, _ string, x, n int) (time.Duration, error) {
	srv := server.New(server.Config{})
	url, stop, err := serve(srv)
	if err != nil {
		return 0, err
	}
	defer stop()
	defer srv.Close()
	if err := prepare(ctx, url); err != nil {
		return 0, err
	}
	if _, err := (settings{}).publish(ctx, url, n, 100); err != nil {
		return 0, err
	}
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	began := time.Now()
	left := make(chan struct{}, n)
	var readers sync.WaitGroup
	subs := make([]*sequin.Subscriber, x)
	for i := range subs {
		if subs[i], err = client.Subscribe(ctx, "stream", "consumer", sequin.SubscriberConfig{}); err != nil {
			return 0, err
		}
		readers.Go(func() {
			for d := range subs[i].Deliveries() {
				if d.Ack() == nil {
					left <- struct{}{}
				}
			}
		})
	}
	for range n {
		<-left
	}
	took := time.Since(began)
	for _, s := range subs {
		if err := s.Close(ctx); err != nil {
			return 0, err
		}
	}
	readers.Wait()
	return took, nil
}

// measureKnobs shows what each setting does, against a server that takes 5 ms a request.
func measureKnobs(ctx context.Context, opts options, all *results) error {
	n := min(opts.counts[100], 30_000) // MaxInFlight 100 takes four seconds for these
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
		{"MaxInFlight", "10,000", "consume", subscriber(sequin.SubscriberConfig{MaxInFlight: 10_000})},
		{"Pollers", "1", "consume", subscriber(sequin.SubscriberConfig{Pollers: 1})},
		{"Pollers", "4", "consume", subscriber(sequin.SubscriberConfig{Pollers: 4})},
	} {
		var rates []float64
		var idle []time.Duration
		peak := uint64(0)
		for range opts.rounds {
			runtime.GC()
			base := heap()
			stop := peakHeap()
			run := k.s.publish
			if k.work == "consume" {
				run = k.s.consume
			}
			took, err := onStub(ctx, "far", n, run)
			if err != nil {
				return fmt.Errorf("%s %s: %w", k.name, k.value, err)
			}
			peak = max(peak, stop()-base)
			rates = append(rates, float64(n)/took.Seconds())
			_, err = onServer(ctx, 0, 0, false, func(ctx context.Context, url string, _, _ int) (time.Duration, error) {
				xs, err := k.s.idle(ctx, url, 60)
				idle = append(idle, xs[min(len(xs), 10):]...)
				return 0, err
			})
			if err != nil {
				return fmt.Errorf("%s %s: %w", k.name, k.value, err)
			}
		}
		x := knob{Name: k.work + " " + k.name, Value: k.value, PerSecond: median(rates), P50: percentile(idle, 50), PeakHeap: peak}
		progress("%s %s: %s messages/s", x.Name, x.Value, thousands(x.PerSecond))
		all.Knobs = append(all.Knobs, x)
		rows = append(rows, []string{k.work, k.name, k.value, thousands(x.PerSecond), x.P50.Round(time.Microsecond).String(), fmt.Sprintf("%.1f MiB", float64(peak)/(1<<20))})
	}
	table("What each knob does, at a server that takes 5 ms a request", []string{"work", "knob", "value", "messages/s", "idle p50", "peak heap"}, rows)
	return nil
}
