package otelsequin

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/figures"
)

// Gauges observes the state of Publishers and Subscribers, each time that metrics are collected:
//
//   - sequin.publisher.buffered.messages, sequin.publisher.buffered.size: what waits or is in flight
//   - sequin.publisher.oldest.age: how long the oldest of these messages has been waiting
//   - sequin.publisher.unavailable.time: for how long requests have failed, 0 if the latest succeeded
//   - sequin.subscriber.inflight.messages: what is buffered, or with the program and not settled
//   - sequin.subscriber.oldest.age: how long ago the oldest of these was received
//   - sequin.subscriber.overdue.handlers: handlers that run although the lease of their delivery is over
//   - sequin.subscriber.unavailable.time
//
// Those of one stream, or of one consumer, are added up; ages and times are the largest. The methods of Gauges may be called from
// any goroutine.
type Gauges struct {
	figures      figures.Set
	registration metric.Registration
}

// NewGauges registers gauges without a Publisher or Subscriber. nil is otel.GetMeterProvider(). The error is that of the meter.
func NewGauges(provider metric.MeterProvider) (*Gauges, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	m, g := provider.Meter(scope, metric.WithInstrumentationVersion(sequin.Version)), new(Gauges)
	var errs [9]error
	count := func(i int, name, unit, text string) metric.Int64Observable {
		made, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs[i] = err
		return made
	}
	seconds := func(i int, name, text string) metric.Float64Observable {
		made, err := m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(text))
		errs[i] = err
		return made
	}
	buffered := count(0, "sequin.publisher.buffered.messages", "{message}", "Messages that wait in Publishers or are in flight")
	size := count(1, "sequin.publisher.buffered.size", "By", "Size of these messages")
	waiting := seconds(2, "sequin.publisher.oldest.age", "How long the oldest of these messages has been waiting")
	down := seconds(3, "sequin.publisher.unavailable.time", "For how long requests of Publishers have failed")
	inFlight := count(4, "sequin.subscriber.inflight.messages", "{message}", "Messages in Subscribers that are not settled")
	open := seconds(5, "sequin.subscriber.oldest.age", "How long ago the oldest of these messages was received")
	overdue := count(6, "sequin.subscriber.overdue.handlers", "{handler}", "Handlers that run although the lease of their delivery is over")
	mute := seconds(7, "sequin.subscriber.unavailable.time", "For how long receives have failed")
	var err error
	g.registration, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, p := range g.figures.Publishers() {
			of := metric.WithAttributes(appendNames(nil, p.Stream, "")...)
			o.ObserveInt64(buffered, int64(p.Buffered), of)
			o.ObserveInt64(size, int64(p.BufferedBytes), of)
			o.ObserveFloat64(waiting, p.OldestAge.Seconds(), of)
			o.ObserveFloat64(down, since(p.UnavailableSince), of)
		}
		for _, s := range g.figures.Subscribers() {
			of := metric.WithAttributes(appendNames(nil, s.Stream, s.Consumer)...)
			o.ObserveInt64(inFlight, int64(s.InFlight), of)
			o.ObserveFloat64(open, s.OldestAge.Seconds(), of)
			o.ObserveInt64(overdue, int64(s.HandlersOverdue), of)
			o.ObserveFloat64(mute, since(s.UnavailableSince), of)
		}
		return nil
	}, buffered, size, waiting, down, inFlight, open, overdue, mute)
	errs[8] = err
	return g, errors.Join(errs[:]...)
}

// since returns the seconds since a time, 0 for the zero time.
func since(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return time.Since(at).Seconds()
}

// AddPublisher observes a Publisher, also after its Close.
func (g *Gauges) AddPublisher(p *sequin.Publisher) { g.figures.AddPublisher(p) }

// RemovePublisher no longer observes a Publisher.
func (g *Gauges) RemovePublisher(p *sequin.Publisher) { g.figures.RemovePublisher(p) }

// AddSubscriber observes a Subscriber, also after its Close.
func (g *Gauges) AddSubscriber(s *sequin.Subscriber) { g.figures.AddSubscriber(s) }

// RemoveSubscriber no longer observes a Subscriber.
func (g *Gauges) RemoveSubscriber(s *sequin.Subscriber) { g.figures.RemoveSubscriber(s) }

// Unregister ends the observation of all.
func (g *Gauges) Unregister() error { return g.registration.Unregister() }
