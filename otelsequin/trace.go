package otelsequin

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sequin-go/sequin"
)

// tracer makes the spans.
type tracer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator // nil for none
}

// create makes the span of a message that is sent, and writes it into its headers.
func (t *tracer) create(ctx context.Context, stream string, m *sequin.Message) {
	ctx, span := t.tracer.Start(ctx, "create "+stream, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(system, typeCreate, operationName.String("create"), destination.String(stream), messageKey.String(m.Key)))
	t.propagator.Inject(ctx, propagation.MapCarrier(m.Headers))
	span.End()
}

// request is the context of an attempt. It tells the span of this package from one of the program.
type request struct {
	context.Context
	span trace.Span
}

type requestKey struct{}

// Value returns the request itself for requestKey.
func (r *request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// startRequest begins the span of an attempt. That of a receive is made when it is known whether it returned anything.
func (t *tracer) startRequest(ctx context.Context, r sequin.RequestInfo) context.Context {
	if r.Op == "receive" {
		return ctx
	}
	ctx, span := t.tracer.Start(ctx, spanName(r), t.options(r, sequin.RequestResult{})...)
	if !span.IsRecording() {
		return ctx
	}
	return &request{ctx, span}
}

// maxAttributes is how many attributes a span has when it begins, at most.
const maxAttributes = 10

// options are those of a request's span. result is zero for a request that has none yet.
func (t *tracer) options(r sequin.RequestInfo, result sequin.RequestResult) []trace.SpanStartOption {
	kind := trace.SpanKindClient
	if r.Op == "send" && t.propagator == nil {
		kind = trace.SpanKindProducer // with a propagator each message has a producer of its own
	}
	attrs := append(appendNames(make([]attribute.KeyValue, 0, maxAttributes), r.Stream, r.Consumer), operationName.String(r.Op), requestID.String(r.RequestID))
	if kind, ok := operationType[r.Op]; ok {
		attrs = append(attrs, kind)
	}
	messages := r.Messages
	if r.Op == "receive" {
		messages = result.Messages
	}
	if messages > 0 {
		attrs = append(attrs, batchCount.Int(messages))
	}
	if result.Status != 0 {
		attrs = append(attrs, statusCode.Int(result.Status))
	}
	if r.Bytes > 0 {
		attrs = append(attrs, bodySize.Int(r.Bytes))
	}
	if r.Attempt > 1 {
		attrs = append(attrs, attempt.Int(r.Attempt-1))
	}
	return []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)}
}

// spanName returns the name of a request's span.
func spanName(r sequin.RequestInfo) string {
	switch r.Op {
	case "ack", "nack":
		return "settle " + cmp.Or(r.Stream, r.Consumer)
	case "send", "receive", "extend":
		return r.Op + " " + cmp.Or(r.Stream, r.Consumer)
	}
	return r.Op
}

// endRequest ends the span of an attempt.
func (t *tracer) endRequest(ctx context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
	if r.Op == "receive" {
		t.receive(ctx, r, result)
		return
	}
	if q, ok := ctx.Value(requestKey{}).(*request); ok {
		if result.Status != 0 {
			q.span.SetAttributes(statusCode.Int(result.Status))
		}
		fail(q.span, result.Err)
		q.span.End()
	}
}

// receive makes the span of a receive. One that returned nothing, or that a stop has cancelled, has none: there would be one in
// every wait of an idle Subscriber.
func (t *tracer) receive(ctx context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
	if result.Messages == 0 && (result.Err == nil || errors.Is(result.Err, context.Canceled)) {
		return
	}
	began := time.Now().Add(-result.Duration)
	_, span := t.tracer.Start(ctx, spanName(r), append(t.options(r, result), trace.WithTimestamp(began))...)
	fail(span, result.Err)
	span.End()
}

// fail records an error, if there is one.
func fail(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(errorType.String(errorName(err)))
		span.SetStatus(codes.Error, err.Error())
	}
}

// process is what the context of a handler carries: the span of a delivery, and those of the deliveries of its batch before it.
type process struct {
	delivery sequin.Delivery
	span     trace.Span
	outer    context.Context // of the handler, without these spans
	before   *process
	ended    bool
}

type processKey struct{}

// startHandler begins the span of a delivery. Hooks are called for each delivery of a batch, with the context that the call before
// has returned; each span belongs to the trace of its own message.
func (t *tracer) startHandler(ctx context.Context, d sequin.Delivery) context.Context {
	outer := ctx
	before, _ := ctx.Value(processKey{}).(*process)
	if before != nil && !before.ended && source(before.delivery) == source(d) { // and not a handler that runs a Subscriber
		outer = before.outer
	}
	stream, consumer := d.Stream(), source(d)
	attrs := append(appendNames(make([]attribute.KeyValue, 0, maxAttributes), stream, consumer), typeProcess, operationName.String("process"), messageKey.String(d.Key))
	if d.Attempt > 0 {
		attrs = append(attrs, deliveryCount.Int(d.Attempt))
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	parent := outer
	if t.propagator != nil && len(d.Headers) > 0 {
		parent = t.propagator.Extract(outer, propagation.MapCarrier(d.Headers))
		if sender := trace.SpanContextFromContext(parent); sender.IsRemote() && sender.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: sender}))
		}
	}
	started, span := t.tracer.Start(parent, "process "+cmp.Or(stream, consumer), options...)
	if !span.SpanContext().IsValid() {
		return ctx // there are no traces
	}
	return context.WithValue(started, processKey{}, &process{delivery: d, span: span, outer: outer, before: before})
}

// endHandler ends the span of a delivery.
func (t *tracer) endHandler(ctx context.Context, d sequin.Delivery, result sequin.HandlerResult) {
	p, _ := ctx.Value(processKey{}).(*process)
	for ; p != nil; p = p.before {
		if p.delivery.AckID == d.AckID && !p.ended {
			p.ended = true
			fail(p.span, result.Err)
			p.span.End()
			return
		}
	}
}

// source returns the name of the consumer or of the sink that a delivery comes from.
func source(d sequin.Delivery) string { return cmp.Or(d.Consumer(), d.Sink()) }
