package otelsequin_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/otelsequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func ack(context.Context, sequin.Delivery) error { return nil }

func TestAMessageIsOneTraceFromItsSenderToItsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, propagation.TraceContext{})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		ctx, outer := w.traces.Tracer("program").Start(w.ctx, "checkout")
		require.NoError(t, pub.SendSync(ctx, sequin.Message{Key: "a"}))
		_, err = w.client.SendMessage(ctx, "orders", "b", "")
		require.NoError(t, err)
		outer.End()
		require.NoError(t, pub.Close(w.ctx))
		var inside []trace.SpanContext
		w.handle(t, 2, func(ctx context.Context, _ sequin.Delivery) error {
			inside = append(inside, trace.SpanContextFromContext(ctx))
			return nil
		})
		created, processed := w.named("create orders"), w.named("process orders")
		require.Len(t, created, 2)
		require.Len(t, processed, 2)
		for i, p := range processed {
			require.Equal(t, trace.SpanKindProducer, created[i].SpanKind)
			require.Equal(t, outer.SpanContext().SpanID(), created[i].Parent.SpanID())
			require.Equal(t, trace.SpanKindConsumer, p.SpanKind)
			require.Equal(t, outer.SpanContext().TraceID(), p.SpanContext.TraceID())
			require.Equal(t, created[i].SpanContext.SpanID(), p.Parent.SpanID())
			require.Len(t, p.Links, 1)
			require.Equal(t, created[i].SpanContext.SpanID(), p.Links[0].SpanContext.SpanID())
			require.Equal(t, p.SpanContext, inside[i])
			require.Equal(t, codes.Unset, p.Status.Code)
		}
		require.Equal(t, map[string]any{"messaging.system": "sequin", "messaging.operation.name": "create", "messaging.operation.type": "create",
			"messaging.destination.name": "orders", "sequin.message.key": "a"}, attrs(created[0]))
		require.Equal(t, map[string]any{"messaging.system": "sequin", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.destination.name": "orders", "messaging.consumer.group.name": "billing", "sequin.message.key": "a", "sequin.message.attempt": int64(1)},
			attrs(processed[0]))
	})
}

func TestEveryRequestHasASpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		require.Len(t, w.named("create stream"), 1)
		require.Len(t, w.named("create consumer"), 1)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: `{"summary":"busy"}`, Count: 1})
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a"}, {Key: "b"}})
		require.NoError(t, err)
		w.handle(t, 2, func(_ context.Context, d sequin.Delivery) error {
			if d.Key == "b" {
				return errors.New("no")
			}
			return nil
		})
		sent := w.named("send orders")
		require.Len(t, sent, 2)
		for i, want := range []map[string]any{{"http.response.status_code": int64(503), "error.type": "503"}, {"http.response.status_code": int64(200), "http.request.resend_count": int64(1)}} {
			want["messaging.system"], want["messaging.operation.name"], want["messaging.operation.type"] = "sequin", "send", "send"
			want["messaging.destination.name"], want["messaging.batch.message_count"] = "orders", int64(2)
			require.Equal(t, want, attrs(sent[i]))
			require.Equal(t, trace.SpanKindProducer, sent[i].SpanKind)
		}
		require.Equal(t, codes.Error, sent[0].Status.Code)
		byOp := map[any]tracetest.SpanStub{}
		for _, s := range w.named("settle orders") {
			byOp[attrs(s)["messaging.operation.name"]] = s
		}
		for _, op := range []string{"ack", "nack"} {
			require.Equal(t, map[string]any{"messaging.system": "sequin", "messaging.operation.name": op, "messaging.operation.type": "settle", "messaging.destination.name": "orders",
				"messaging.consumer.group.name": "billing", "messaging.batch.message_count": int64(1), "http.response.status_code": int64(200)}, attrs(byOp[op]))
			require.Equal(t, trace.SpanKindClient, byOp[op].SpanKind)
		}
		processed := w.named("process orders")
		require.Equal(t, codes.Error, processed[1].Status.Code)
		require.Equal(t, "no", processed[1].Status.Description)
		require.False(t, processed[0].Parent.IsValid())
		require.Empty(t, processed[0].Links)
	})
}

// An idle Subscriber waits at the server all the time. Only what returns messages, or fails, is worth a span.
func TestAReceiveThatReturnsNothingHasNoSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		sub, err := w.client.Subscribe(w.ctx, "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		require.Empty(t, w.named("receive orders"))
		began := time.Now()
		time.Sleep(3 * time.Second)
		_, err = w.client.SendMessage(w.ctx, "orders", "a", "")
		require.NoError(t, err)
		require.NoError(t, (<-sub.Deliveries()).Ack())
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Body: `{"summary":"busy"}`, Count: 1})
		time.Sleep(time.Minute)
		require.NoError(t, sub.Close(w.ctx))
		got := w.named("receive orders")
		require.Len(t, got, 2)
		require.EqualValues(t, 1, attrs(got[0])["messaging.batch.message_count"])
		require.GreaterOrEqual(t, got[0].EndTime.Sub(began), 3*time.Second)
		require.True(t, got[0].StartTime.Before(began), "it waited at the server")
		require.Equal(t, "503", attrs(got[1])["error.type"])
	})
}

// The RoundTripper of the program may make spans of its own.
func TestARequestIsInTheContextOfItsSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		var seen []trace.SpanContext
		hc := &http.Client{Transport: onSpan{w.Server.Client().Transport, func(r *http.Request) { seen = append(seen, trace.SpanContextFromContext(r.Context())) }}}
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Hooks: otelsequin.Hooks(otelsequin.Options{TracerProvider: w.traces, MeterProvider: w.meters})})
		require.NoError(t, err)
		ctx, outer := w.traces.Tracer("program").Start(w.ctx, "checkout")
		_, err = c.SendMessage(ctx, "orders", "a", "")
		require.NoError(t, err)
		_, err = c.ReceiveMessage(ctx, "orders", "billing")
		require.NoError(t, err)
		require.True(t, outer.IsRecording(), "the span of the program is not ended")
		sent := w.named("send orders")
		require.Equal(t, outer.SpanContext().SpanID(), sent[0].Parent.SpanID())
		require.Equal(t, sent[0].SpanContext, seen[0])
		require.Equal(t, outer.SpanContext(), seen[1])
	})
}

// Each delivery of a batch belongs to the trace of its own message.
func TestTheSpansOfABatchHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, propagation.TraceContext{})
		for _, key := range []string{"a", "b", "c"} {
			ctx, span := w.traces.Tracer("program").Start(w.ctx, "checkout")
			_, err := w.client.SendMessage(ctx, "orders", key, "")
			require.NoError(t, err)
			span.End()
		}
		sub, err := w.client.Subscribe(w.ctx, "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		ctx, around := w.traces.Tracer("program").Start(w.ctx, "worker")
		var inside trace.SpanContext
		require.NoError(t, sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 3, Wait: time.Second}, func(ctx context.Context, ds []sequin.Delivery) error {
			require.Len(t, ds, 3)
			inside = trace.SpanContextFromContext(ctx)
			time.Sleep(time.Second)
			go func() { _ = sub.Close(w.ctx) }()
			return nil
		}))
		around.End()
		created, processed := w.named("create orders"), w.named("process orders")
		require.Len(t, processed, 3)
		for i, p := range processed {
			require.Equal(t, created[i].SpanContext.SpanID(), p.Parent.SpanID())
			require.Equal(t, time.Second, p.EndTime.Sub(p.StartTime))
			require.Equal(t, attrs(created[i])["sequin.message.key"], attrs(p)["sequin.message.key"])
		}
		require.Equal(t, processed[2].SpanContext, inside)
	})
}

func TestDeliveriesWithoutHeadersAreChildrenOfTheHandlersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, nil)
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a"}, {Key: "b"}})
		require.NoError(t, err)
		sub, err := w.client.Subscribe(w.ctx, "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		ctx, around := w.traces.Tracer("program").Start(w.ctx, "worker")
		require.NoError(t, sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 2, Wait: time.Second}, func(context.Context, []sequin.Delivery) error {
			go func() { _ = sub.Close(w.ctx) }()
			return nil
		}))
		around.End()
		for _, p := range w.named("process orders") {
			require.Equal(t, around.SpanContext().SpanID(), p.Parent.SpanID(), "and not of each other")
		}
	})
}

// Tracing that is switched on never stops production.
func TestAServerWithoutHeadersGetsMessagesWithoutTraces(t *testing.T) {
	for _, cfg := range []sequintest.Config{{WithoutExtensions: []string{"headers"}}, {Compat: server.Aug2024}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, cfg, propagation.TraceContext{})
			pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			ctx, outer := w.traces.Tracer("program").Start(w.ctx, "checkout")
			require.NoError(t, pub.SendSync(ctx, sequin.Message{Key: "a"}))
			_, err = w.client.SendMessage(ctx, "orders", "b", "")
			require.NoError(t, err)
			require.NoError(t, pub.Close(w.ctx))
			w.handle(t, 2, ack)
			outer.End()
			processed := w.named("process orders")
			require.Len(t, processed, 2)
			for _, p := range processed {
				require.NotEqual(t, outer.SpanContext().TraceID(), p.SpanContext.TraceID())
				require.Empty(t, p.Links)
			}
		})
	}
}

func TestWithoutATracerAHandlerKeepsItsContext(t *testing.T) {
	h := otelsequin.Hooks(otelsequin.Options{TracerProvider: noop.NewTracerProvider()})
	require.Nil(t, h.Send, "without a Propagator")
	ctx := t.Context()
	require.Equal(t, ctx, h.HandlerStart(ctx, sequin.Delivery{}))
	h.HandlerDone(ctx, sequin.Delivery{}, sequin.HandlerResult{Err: errors.New("no")})
	h.RequestDone(h.RequestStart(ctx, sequin.RequestInfo{Op: "send"}), sequin.RequestInfo{Op: "send"}, sequin.RequestResult{})
}
