package otelsequin

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sequin-go/sequin"
)

// scope is the name of the instrumentation scope.
const scope = "github.com/sequin-go/sequin/otelsequin"

// Options of Hooks. The zero Options use the providers that are set globally, and do not propagate traces.
type Options struct {
	// TracerProvider makes the spans. Default otel.GetTracerProvider(). With the provider of package noop there are none.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Propagator writes the context of a trace into the headers of messages, and reads it there. Default none, because each
	// message then has a header and a span more. propagation.TraceContext{} is the usual one.
	Propagator propagation.TextMapPropagator
}

// Hooks returns functions for [sequin.Config].Hooks, which several Clients may share. A program that has Hooks of its own calls the
// functions of both in them. An instrument that cannot be made is reported to the error handler of package otel, and records
// nothing.
func Hooks(o Options) *sequin.Hooks {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	t := &tracer{tracer: o.TracerProvider.Tracer(scope, trace.WithInstrumentationVersion(sequin.Version)), propagator: o.Propagator}
	m := newMeter(o.MeterProvider.Meter(scope, metric.WithInstrumentationVersion(sequin.Version)))
	h := &sequin.Hooks{
		RequestStart: t.startRequest,
		RequestDone: func(ctx context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
			m.request(ctx, r, result)
			t.endRequest(ctx, r, result)
		},
		Delivered:    m.delivered,
		Settled:      m.settled,
		HandlerStart: t.startHandler,
		HandlerDone: func(ctx context.Context, d sequin.Delivery, result sequin.HandlerResult) {
			m.handler(ctx, d, result)
			t.endHandler(ctx, d, result)
		},
		Batch: m.batch,
		State: m.state,
	}
	if o.Propagator != nil {
		h.Send = t.create
	}
	return h
}

// The attributes of spans and metrics.
var (
	system        = attribute.String("messaging.system", "sequin")
	typeCreate    = attribute.String("messaging.operation.type", "create")
	typeProcess   = attribute.String("messaging.operation.type", "process")
	operationType = map[string]attribute.KeyValue{
		"send":    attribute.String("messaging.operation.type", "send"),
		"receive": attribute.String("messaging.operation.type", "receive"),
		"ack":     attribute.String("messaging.operation.type", "settle"),
		"nack":    attribute.String("messaging.operation.type", "settle"),
	}
)

const (
	operationName = attribute.Key("messaging.operation.name")
	destination   = attribute.Key("messaging.destination.name")
	group         = attribute.Key("messaging.consumer.group.name")
	batchCount    = attribute.Key("messaging.batch.message_count")
	bodySize      = attribute.Key("http.request.body.size")
	statusCode    = attribute.Key("http.response.status_code")
	errorType     = attribute.Key("error.type")
	attempt       = attribute.Key("http.request.resend_count")
	requestID     = attribute.Key("sequin.request.id")
	messageKey    = attribute.Key("sequin.message.key")
	deliveryCount = attribute.Key("sequin.message.attempt")
)

// appendNames appends the attributes of a stream and a consumer. For a sink, which has no stream, it is the destination.
func appendNames(attrs []attribute.KeyValue, stream, consumer string) []attribute.KeyValue {
	switch {
	case stream == "":
		return append(attrs, system, destination.String(consumer))
	case consumer == "":
		return append(attrs, system, destination.String(stream))
	}
	return append(attrs, system, destination.String(stream), group.String(consumer))
}

// errorName returns a short name for an error, of which there are few.
func errorName(err error) string {
	var api *sequin.APIError
	var panicked *sequin.PanicError
	switch {
	case errors.As(err, &api):
		return strconv.Itoa(api.Status)
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, sequin.ErrUnreachable):
		return "unreachable"
	case errors.Is(err, sequin.ErrLeaseExpired):
		return "lease_expired"
	case errors.Is(err, sequin.ErrOutcomeUnknown):
		return "outcome_unknown"
	}
	return fmt.Sprintf("%T", err)
}
