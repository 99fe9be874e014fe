package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// pause waits until nothing runs any more, so that the next message is measured on an idle stream.
func pause() { time.Sleep(2 * time.Millisecond) }

const plainRequest = "plain request"

func measureLatency(ctx context.Context, opts options, all *results) error {
	samples := 500
	if opts.quick {
		samples = 50
	}
	all.Latency = nil
	took := map[string][]time.Duration{}
	names := []string{plainRequest, libraryName, peerName}
	for round := range opts.rounds {
		progress("latency, round %d of %d", round+1, opts.rounds)
		for _, name := range names {
			xs, err := idleOf(ctx, name, samples)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			took[name] = append(took[name], xs[samples/10:]...) // the first ones open connections
		}
	}
	var rows [][]string
	limit := percentile(took[plainRequest], 50)
	for _, name := range names {
		l := latency{Contender: name, P50: percentile(took[name], 50), P99: percentile(took[name], 99)}
		l.OfLimit = float64(l.P50) / float64(limit)
		all.Latency = append(all.Latency, l)
		rows = append(rows, []string{name, l.P50.Round(time.Microsecond).String(), l.P99.Round(time.Microsecond).String(), fmt.Sprintf("%.1f", l.OfLimit)})
	}
	table("From the call of Send to the program, on an idle stream", []string{"contender", "p50", "p99", "plain requests"}, rows)
	return nil
}

// percentile returns the p-th percentile of xs.
func percentile(xs []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[len(sorted)*p/100]
}

// idleOf measures one contender on a new server.
func idleOf(ctx context.Context, name string, n int) (xs []time.Duration, err error) {
	if name == peerName {
		p, err := newPeer(ctx, peerOptions{storage: jetstream.MemoryStorage})
		if err != nil {
			return nil, err
		}
		defer p.close()
		return p.idle(ctx, n)
	}
	_, err = onServer(ctx, 0, 0, false, func(ctx context.Context, url string, _, _ int) (time.Duration, error) {
		if name == plainRequest {
			xs, err = idlePlain(ctx, url, n)
		} else {
			xs, err = settings{}.idle(ctx, url, n)
		}
		return 0, err
	})
	return xs, err
}

// idlePlain measures from the POST of one message to its answer.
func idlePlain(ctx context.Context, url string, n int) ([]time.Duration, error) {
	p := newPlain(url)
	defer p.http.CloseIdleConnections()
	body := sendBody(1, 100)
	took := make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		if err := p.post(ctx, "/api/streams/stream/messages", body); err != nil {
			return nil, err
		}
		took[i] = time.Since(began)
		pause()
	}
	return took, nil
}

// idle measures from Send to the range loop, one message at a time.
func (s settings) idle(ctx context.Context, url string, n int) (took []time.Duration, err error) {
	client, err := newClient(url)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	pub, err := client.NewPublisher("stream", s.publisher)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pub.Close(ctx)) }()
	sub, err := client.Subscribe(ctx, "stream", "consumer", s.subscriber)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sub.Close(ctx)) }()
	arrived := make(chan time.Time, n) // has room for every message, so that the loop ends when Send fails
	go func() {
		defer close(arrived)
		for d := range sub.Deliveries() {
			arrived <- time.Now()
			_ = d.Ack()
		}
	}()
	for i := range n {
		began := time.Now()
		if err := pub.Send(ctx, key(i), payload(100)); err != nil {
			return nil, err
		}
		at, ok := <-arrived
		if !ok {
			return nil, fmt.Errorf("the channel closed at message %d: %w", i, sub.Err())
		}
		took = append(took, at.Sub(began))
		pause()
	}
	return took, nil
}

// peakHeap samples the size of the heap until the returned function is called, which returns the largest size.
func peakHeap() (stop func() uint64) {
	quit, peak := make(chan struct{}), make(chan uint64)
	go func() {
		largest := uint64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			largest = max(largest, heap())
			select {
			case <-tick.C:
			case <-quit:
				peak <- largest
				return
			}
		}
	}()
	return func() uint64 { close(quit); return <-peak }
}
