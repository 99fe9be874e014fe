package overview

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
)

// serverFor is how long it is believed which kind of server answers. It may be replaced by another.
const serverFor = time.Minute

// forgetAfter is how long the rates of a stream that nobody asks for are kept.
const forgetAfter = 5 * time.Minute

// answer is the last answer to a question. turn has room for one, who asks: the others wait for that answer.
type answer[T any] struct {
	turn  chan struct{}
	at    time.Time
	after int64 // how many changes were told before the question
	value T
}

func newAnswer[T any]() answer[T] { return answer[T]{turn: make(chan struct{}, 1)} }

// ask returns the last answer if it is recent and younger than all changes, and otherwise asks.
func (a *answer[T]) ask(ctx context.Context, recent time.Duration, changes int64, question func() (T, error)) (T, error) {
	var none T
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	if !a.at.IsZero() && time.Since(a.at) < recent && a.after >= changes {
		return a.value, nil
	}
	value, err := question()
	if err != nil {
		return none, err
	}
	a.at, a.after, a.value = time.Now(), changes, value
	return value, nil
}

// detail is the last answer about a stream.
type detail struct {
	answer[*Detail]
	asked time.Time // guarded by Watcher.mu
}

func (w *Watcher) askStreams(ctx context.Context) (*Streams, error) {
	return w.streams.ask(ctx, w.cfg.MinInterval, w.changes.Load(), func() (*Streams, error) {
		server, err := w.askServer(ctx)
		if err != nil {
			return nil, err
		}
		all, err := w.cfg.Client.ListStreams(ctx)
		if err != nil {
			return nil, err
		}
		got, err := w.cfg.Metrics.read(ctx)
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		server.Metrics = err == nil
		out := &Streams{At: time.Now(), Server: server, Streams: make([]Stream, len(all))}
		for i, s := range all {
			out.Streams[i] = w.stream(s, got, out.At)
		}
		out.addLoads(got)
		slices.SortFunc(out.Streams, func(a, b Stream) int { return cmp.Compare(a.Name, b.Name) })
		w.forget(out.At)
		return out, nil
	})
}

// askServer returns which server answers.
func (w *Watcher) askServer(ctx context.Context) (Server, error) {
	return w.server.ask(ctx, serverFor, 0, func() (Server, error) {
		info, err := w.cfg.Client.Ping(ctx)
		if err != nil {
			return Server{}, err
		}
		return Server{Kind: info.Kind, Extensions: info.Extensions, RoundTrip: info.RoundTrip}, nil
	})
}

// stream adds the rates to a stream.
func (w *Watcher) stream(s sequin.Stream, got samples, at time.Time) Stream {
	out := Stream{Stream: s}
	if sent, ok := got[key(streamSent, s.Name)]; ok {
		out.In = w.counter(key(streamSent, s.ID), sent, at)
	} else if got == nil {
		out.In = w.growth(key("messages", s.ID), float64(s.Stats.MessageCount), at)
	}
	if delivered, ok := got[key(streamDelivered, s.Name)]; ok {
		out.Out = w.counter(key(streamDelivered, s.ID), delivered, at)
	}
	return out
}

func (w *Watcher) askStream(ctx context.Context, name string) (*Detail, error) {
	w.mu.Lock()
	d := w.details[name]
	if d == nil {
		d = &detail{answer: newAnswer[*Detail]()}
		w.details[name] = d
	}
	d.asked = time.Now()
	w.mu.Unlock()
	return d.ask(ctx, w.cfg.MinInterval, w.changes.Load(), func() (*Detail, error) {
		server, err := w.askServer(ctx)
		if err != nil {
			return nil, err
		}
		s, err := w.cfg.Client.GetStream(ctx, name)
		if err != nil {
			return nil, err
		}
		consumers, err := w.cfg.Client.ListConsumers(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		got, err := w.cfg.Metrics.read(ctx, s.Name)
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		server.Metrics = err == nil
		out := &Detail{At: time.Now(), Server: server, Consumers: make([]Consumer, len(consumers))}
		out.Stream = w.stream(*s, got, out.At)
		for i, c := range consumers {
			out.Consumers[i] = w.consumer(s, c, got, out.At)
		}
		if err := w.askOldest(ctx, s, out.Consumers); err != nil {
			return nil, err
		}
		return out, nil
	})
}

// consumer adds what the metrics tell to a consumer.
func (w *Watcher) consumer(s *sequin.Stream, c sequin.Consumer, got samples, at time.Time) Consumer {
	out := Consumer{Consumer: c}
	gauge := func(metric string) int64 { return int64(got[key(metric, s.Name, c.Name)]) }
	if _, out.Measured = got[key(consumerBacklog, s.Name, c.Name)]; out.Measured {
		out.Backlog, out.Estimated = gauge(consumerBacklog), gauge(consumerEstimated) != 0
		out.Outstanding, out.Delayed, out.Waiting = gauge(consumerOutstanding), gauge(consumerDelayed), gauge(consumerWaiting)
	}
	if age, ok := got[key(consumerOldest, s.Name, c.Name)]; ok {
		out.OldestKnown, out.OldestAge = true, time.Duration(age*float64(time.Second))
	}
	for metric, rate := range map[string]*Rate{
		consumerDeliveries: &out.Deliveries, consumerRedeliveries: &out.Redeliveries, consumerAcks: &out.Acks, consumerNacks: &out.Nacks,
	} {
		if count, ok := got[key(metric, s.Name, c.Name)]; ok {
			*rate = w.counter(key(metric, c.ID), count, at)
		}
	}
	return out
}

// maxPeeked is how many consumers of a stream are asked for their oldest message where no metrics tell it, with a request for
// each.
const maxPeeked = 20

// askOldest finds the ages that the metrics do not tell by a look at the oldest message.
func (w *Watcher) askOldest(ctx context.Context, s *sequin.Stream, consumers []Consumer) error {
	asked := 0
	for i := range consumers {
		c := &consumers[i]
		if c.OldestKnown || asked == maxPeeked {
			continue
		}
		asked++
		oldest, err := w.cfg.Client.PeekMessages(ctx, s.ID, c.ID, sequin.ListOptions{Limit: 1})
		switch {
		case errors.Is(err, sequin.ErrNotFound):
			continue // it was deleted meanwhile
		case err != nil:
			return err
		}
		c.OldestKnown = true
		if len(oldest) > 0 {
			c.OldestAge = max(0, time.Since(oldest[0].Message.UpdatedAt))
		}
	}
	return nil
}

// forget removes the rates and answers that nobody has asked for lately.
func (w *Watcher) forget(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, d := range w.details {
		if now.Sub(d.asked) > forgetAfter {
			delete(w.details, name)
		}
	}
	for name, m := range w.rates {
		if now.Sub(m.at) > forgetAfter {
			delete(w.rates, name)
		}
	}
}
