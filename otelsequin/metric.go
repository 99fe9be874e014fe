package otelsequin

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sequin-go/sequin"
)

// meter records the metrics.
type meter struct {
	duration, processing         metric.Float64Histogram
	sent, consumed, settledCount metric.Int64Counter
	batches, lostLeases, expired metric.Int64Counter
	lag                          metric.Float64Gauge
	states                       metric.Int64UpDownCounter

	mu   sync.RWMutex // guards sets
	sets map[series]metric.MeasurementOption
}

// series identifies a set of attributes. There are as many as a program has streams, consumers, operations and kinds of errors.
type series struct{ kind, op, stream, consumer, err string }

// buckets are those that the semantic conventions advise for durations, in seconds.
var buckets = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

func newMeter(m metric.Meter) *meter {
	r := meter{sets: map[series]metric.MeasurementOption{}}
	var errs [10]error
	r.duration, errs[0] = m.Float64Histogram("messaging.client.operation.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("Duration of an attempt at a send, a receive that returned messages, an ack, a nack or an extension"))
	r.processing, errs[1] = m.Float64Histogram("messaging.process.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("Duration of a handler"))
	r.sent, errs[2] = m.Int64Counter("messaging.client.sent.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages in attempts at sends"))
	r.consumed, errs[3] = m.Int64Counter("messaging.client.consumed.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that receives have returned"))
	r.settledCount, errs[4] = m.Int64Counter("sequin.client.settled.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Acks and nacks that have a result"))
	r.batches, errs[5] = m.Int64Counter("sequin.client.batches", metric.WithUnit("{batch}"),
		metric.WithDescription("Batches that have left a Publisher's buffer"))
	r.lostLeases, errs[6] = m.Int64Counter("sequin.client.lost.leases", metric.WithUnit("{lease}"),
		metric.WithDescription("Leases that the server has ended before their time"))
	r.expired, errs[7] = m.Int64Counter("sequin.client.expired.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that nobody read from a Subscriber's buffer in time"))
	r.lag, errs[8] = m.Float64Gauge("sequin.client.lag", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest message of the latest receive"))
	r.states, errs[9] = m.Int64UpDownCounter("sequin.client.states", metric.WithUnit("{state}"),
		metric.WithDescription("Publishers and Subscribers that are in a state"))
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return &r
}

// set returns the attributes of a series, which it makes once. more are those beside the names and the error.
func (m *meter) set(s series, more ...attribute.KeyValue) metric.MeasurementOption {
	m.mu.RLock()
	found, ok := m.sets[s]
	m.mu.RUnlock()
	if ok {
		return found
	}
	attrs := append(appendNames(nil, s.stream, s.consumer), more...)
	if s.err != "" {
		attrs = append(attrs, errorType.String(s.err))
	}
	made := metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sets[s] = made
	return made
}

// nameOf is errorName, and "" for no error.
func nameOf(err error) string {
	if err == nil {
		return ""
	}
	return errorName(err)
}

// request records an attempt at a request that has to do with messages.
func (m *meter) request(ctx context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
	kind, messaging := operationType[r.Op]
	if !messaging && r.Op != "extend" || r.Op == "receive" && result.Messages == 0 && (result.Err == nil || errors.Is(result.Err, context.Canceled)) {
		return
	}
	more := [2]attribute.KeyValue{operationName.String(r.Op), kind}
	known := 1
	if messaging {
		known = len(more)
	}
	set := m.set(series{"request", r.Op, r.Stream, r.Consumer, nameOf(result.Err)}, more[:known]...)
	m.duration.Record(ctx, result.Duration.Seconds(), set)
	switch {
	case r.Op == "send" && r.Messages > 0:
		m.sent.Add(ctx, int64(r.Messages), set)
	case result.Messages > 0:
		m.consumed.Add(ctx, int64(result.Messages), set)
	}
}

// delivered records the lag of a receive.
func (m *meter) delivered(s sequin.SettleInfo) {
	if s.Stream != "" { // a sink does not tell when its messages were stored
		m.lag.Record(context.Background(), s.Oldest.Seconds(), m.set(series{"lag", "", s.Stream, s.Consumer, ""}))
	}
}

// settled records acks and nacks that have a result.
func (m *meter) settled(s sequin.SettleInfo) {
	op := "ack"
	if s.Kind == sequin.Nack {
		op = "nack"
	}
	m.settledCount.Add(context.Background(), int64(s.Messages),
		m.set(series{"settled", op, s.Stream, s.Consumer, nameOf(s.Err)}, operationName.String(op)))
}

// handler records the call of a handler.
func (m *meter) handler(ctx context.Context, d sequin.Delivery, result sequin.HandlerResult) {
	m.processing.Record(ctx, result.Duration.Seconds(),
		m.set(series{"process", "", d.Stream(), source(d), nameOf(result.Err)}, operationName.String("process")))
}

// batch records why a batch has left.
func (m *meter) batch(b sequin.BatchInfo) {
	m.batches.Add(context.Background(), 1, m.set(series{"batch", b.Reason, b.Stream, "", ""}, attribute.String("sequin.batch.reason", b.Reason)))
}

// state records a change of state.
func (m *meter) state(s sequin.StateInfo) {
	ctx := context.Background()
	switch s.State {
	case sequin.StateLeaseLost:
		m.lostLeases.Add(ctx, int64(s.Messages), m.set(series{"lost", "", s.Stream, s.Consumer, ""}))
		return
	case sequin.StateExpired:
		m.expired.Add(ctx, int64(s.Messages), m.set(series{"expired", "", s.Stream, s.Consumer, ""}))
		return
	}
	change := int64(1)
	if s.Over {
		change = -1
	}
	state := string(s.State)
	m.states.Add(ctx, change, m.set(series{"state", state, s.Stream, s.Consumer, ""}, attribute.String("sequin.state", state)))
}
