package load

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// measureEndToEnd sends messages at a rate, while Subscribers receive them.
func (r *run) measureEndToEnd(ctx context.Context) (Result, error) {
	n := max(1, int(r.For.Seconds()*float64(r.Rate)))
	s, err := r.newSubscribers(ctx, EndToEnd, n)
	if err != nil {
		return Result{}, err
	}
	stop := r.Progress(EndToEnd, n, s.count.Load)
	defer stop()
	t := timetable{base: time.Now(), rate: r.Rate}
	times := make(Latencies, n)
	ready := make(chan struct{}, r.Subscribers)
	s.ready = func() { ready <- struct{}{} }
	s.delivered = func(i int) { times[i] = time.Since(t.due(i)) }
	send := func(ctx context.Context) error {
		for range r.Subscribers {
			select {
			case <-ready:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		t.begin()
		return (&publishers{of: r, part: EndToEnd, n: n, wrap: sameTransport, due: t.due}).publish(ctx)
	}
	tasks := []func(context.Context) error{send, s.consume}
	if err := each(ctx, len(tasks), func(ctx context.Context, i int) error { return tasks[i](ctx) }); err != nil {
		return Result{}, err
	}
	slices.Sort(times)
	return Result{Part: EndToEnd, Messages: n, Clients: r.Publishers + r.Subscribers, Took: s.ended.Sub(t.due(0)), Latencies: times}, nil
}

// timetable says when each message is to be sent. A latency counts from that moment: if it counted from Send, a Publisher that has to
// wait would hide the delay of the messages behind it.
type timetable struct {
	base  time.Time
	began atomic.Int64 // nanoseconds since base
	rate  int          // messages a second
}

func (t *timetable) begin() { t.began.Store(int64(time.Since(t.base))) }

func (t *timetable) due(i int) time.Time {
	return t.base.Add(time.Duration(t.began.Load()) + time.Duration(float64(i)/float64(t.rate)*float64(time.Second)))
}
