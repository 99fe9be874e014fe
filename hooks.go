package sequin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Hooks are functions that a Client calls when something happens, for metrics and traces. Each may be nil. Set them in
// Config.Hooks before NewClient, which copies them.
//
// The functions are called outside all locks, on the goroutine that does the work, which waits for them: they must return soon. They
// may be called concurrently. They must not call Flush, Close or a Send that may wait, and must not end their goroutine. A function
// that panics is recovered, logged once, and not called again.
//
// All but HandlerStart and HandlerDone are called once a request or once a batch. A function that is nil costs nothing.
type Hooks struct {
	// RequestStart is called before each attempt at a request. The attempt has the context that it returns, which must come
	// from ctx: an http.RoundTripper sees its values. If it returns nil, the attempt has ctx.
	RequestStart func(ctx context.Context, r RequestInfo) context.Context
	// RequestDone is called when the attempt has ended, with the context that RequestStart returned, or that of the request.
	RequestDone func(ctx context.Context, r RequestInfo, result RequestResult)
	// Delivered is called for each receive of a Subscriber that returned messages, before they are delivered. Its Kind and
	// its times are zero.
	Delivered func(SettleInfo)
	// Settled is called when settles of a Subscriber have their final result. Those of a request may have several results.
	Settled func(SettleInfo)
	// HandlerStart is called before a handler of Handle, HandleBatch or Pipe, once for each of its deliveries. The handler
	// gets the context that the last call returned, which must come from ctx.
	HandlerStart func(ctx context.Context, d Delivery) context.Context
	// HandlerDone is called when the handler has returned, once for each of its deliveries, with the handler's context. The
	// delivery is settled after that, unless the handler has settled it.
	HandlerDone func(ctx context.Context, d Delivery, result HandlerResult)
}

// RequestInfo describes an attempt at a request.
type RequestInfo struct {
	// Op is the operation: send, receive, ack, nack, extend or "end receive", and otherwise the words of a method and of what it
	// concerns, for instance "get stream" or "list consumers".
	Op string
	// Stream and Consumer are as the program gave them, or the names that a Subscriber has found. For a sink Stream is empty
	// and Consumer is the sink.
	Stream, Consumer string
	// Messages is how many messages a send, an ack, a nack or an extension has, or how many a receive asks for at most. A send
	// without messages tests whether the stream accepts any.
	Messages int
	// Bytes is the length of the request's body.
	Bytes int
	// Attempt counts the attempts of this call, from 1. A Publisher and a Subscriber repeat a request in calls of one attempt.
	Attempt int
	// RequestID is the X-Request-Id of the request. All attempts of a call have the same one.
	RequestID string
}

// RequestResult is the result of an attempt.
type RequestResult struct {
	// Status is that of the answer, 0 if there was none.
	Status int
	// Err is nil for a success. It is an *APIError for an answer of the server other than success.
	Err error
	// Duration is the time from the start of the attempt to the end of its answer.
	Duration time.Duration
	// Bytes is the length of the answer's body as far as it was read.
	Bytes int
	// RetryAfter is what the server asked for, 0 if it did not.
	RetryAfter time.Duration
}

// SettleInfo describes deliveries that were received, or whose settles have a result.
type SettleInfo struct {
	// Stream and Consumer are the names. For a sink Stream is empty and Consumer is the sink.
	Stream, Consumer string
	// Kind is Ack or Nack. A Release is a Nack.
	Kind SettlementKind
	// Messages is how many there are.
	Messages int
	// Err is why the settles failed, nil for a success.
	Err error
	// Oldest is the longest time that one of them was with the program or in its buffer, and Total is the sum of these times.
	Oldest, Total time.Duration
}

// HandlerResult is how a handler ended.
type HandlerResult struct {
	// Err is what the handler returned. It is a *PanicError for a panic.
	Err error
	// Duration is how long it ran.
	Duration time.Duration
}

// hook names a function of Hooks.
type hook int

const (
	requestStart hook = iota
	requestDone
	delivered
	settled
	handlerStart
	handlerDone
	hookCount
)

// hooks calls the functions of a Client's Hooks. A nil *hooks has none.
type hooks struct {
	Hooks
	logger *slog.Logger
	off    [hookCount]atomic.Bool // the function has panicked
}

func newHooks(from *Hooks, logger *slog.Logger) *hooks {
	if from == nil {
		return nil
	}
	return &hooks{Hooks: *from, logger: logger}
}

// has reports whether a function is called. set says that it is not nil.
func (h *hooks) has(one hook, set bool) bool { return set && !h.off[one].Load() }

// guard is deferred around the call of a function. After a panic the function is not called again.
func (h *hooks) guard(one hook) {
	panicked := recovered("a function of Hooks", recover())
	if panicked == nil || h.off[one].Swap(true) {
		return
	}
	// On a goroutine of its own: a slog.Handler may send through the Publisher whose lane this is.
	go h.logger.LogAttrs(context.Background(), slog.LevelError, "sequin: recovered a panic, and does not call the function again", slog.Any("error", panicked))
}

func (h *hooks) startRequest(ctx context.Context, r RequestInfo) (of context.Context) {
	if !h.has(requestStart, h.RequestStart != nil) {
		return ctx
	}
	of = ctx // also after a panic
	defer h.guard(requestStart)
	if got := h.RequestStart(ctx, r); got != nil {
		of = got
	}
	return of
}

func (h *hooks) endRequest(ctx context.Context, r RequestInfo, result RequestResult) {
	if h.has(requestDone, h.RequestDone != nil) {
		defer h.guard(requestDone)
		h.RequestDone(ctx, r, result)
	}
}

// wantsSettled reports whether the ages of settles are needed.
func (h *hooks) wantsSettled() bool { return h != nil && h.has(settled, h.Settled != nil) }

func (h *hooks) settle(s SettleInfo) {
	defer h.guard(settled)
	h.Settled(s)
}

// deliver reports a receive. One without messages is not reported.
func (h *hooks) deliver(s SettleInfo) {
	if h != nil && s.Messages > 0 && h.has(delivered, h.Delivered != nil) {
		defer h.guard(delivered)
		h.Delivered(s)
	}
}

// startHandler returns the context of a handler.
func (h *hooks) startHandler(ctx context.Context, batch []Delivery) (of context.Context) {
	if h == nil || !h.has(handlerStart, h.HandlerStart != nil) {
		return ctx
	}
	of = ctx
	defer h.guard(handlerStart)
	for _, d := range batch {
		if got := h.HandlerStart(of, d); got != nil {
			of = got
		}
	}
	return of
}

func (h *hooks) endHandler(ctx context.Context, batch []Delivery, result HandlerResult) {
	if h == nil || !h.has(handlerDone, h.HandlerDone != nil) {
		return
	}
	defer h.guard(handlerDone)
	for _, d := range batch {
		h.HandlerDone(ctx, d, result)
	}
}

// observed is a call whose attempts are reported to RequestStart and RequestDone. A nil *observed reports nothing.
type observed struct {
	hooks *hooks
	info  RequestInfo
	ctx   context.Context // of the latest attempt
	began time.Time       // the same
	bytes int             // read of its answer
}

// observesRequests reports whether a function is called for requests.
func (h *hooks) observesRequests() bool {
	return h != nil && (h.has(requestStart, h.RequestStart != nil) || h.has(requestDone, h.RequestDone != nil))
}

func newObserved(ctx context.Context, h *hooks, info RequestInfo) *observed {
	return &observed{hooks: h, info: info, ctx: ctx}
}

// start begins an attempt and returns its context.
func (o *observed) start(ctx context.Context) context.Context {
	o.info.Attempt++
	o.began, o.bytes = time.Now(), 0
	o.ctx = o.hooks.startRequest(ctx, o.info)
	return o.ctx
}

// read notes the length of an answer.
func (o *observed) read(bytes int) {
	if o != nil {
		o.bytes = bytes
	}
}

// done ends an attempt.
func (o *observed) done(status int, err error) {
	if o == nil {
		return
	}
	result := RequestResult{Status: status, Err: err, Duration: time.Since(o.began), Bytes: o.bytes}
	var api *APIError
	if errors.As(err, &api) {
		result.RetryAfter = api.retryAfter
	}
	o.hooks.endRequest(o.ctx, o.info, result)
}

// verbs are the words for the methods of requests.
var verbs = map[string]string{http.MethodGet: "get ", http.MethodPost: "create ", http.MethodPut: "update ", http.MethodDelete: "delete "}

// operation returns the operation of a request, and the stream and the consumer in its path.
func operation(method, path string) (op, stream, consumer string) {
	elements := strings.Split(strings.TrimPrefix(path, "/api/"), "/")
	for i, e := range elements {
		elements[i], _ = url.PathUnescape(e) // cannot fail: see path
	}
	element := func(i int) string {
		if i < len(elements) {
			return elements[i]
		}
		return ""
	}
	n, last := len(elements), elements[len(elements)-1]
	kind := elements[(n-1)&^1] // the collection: that of the last element, or the last element itself
	if elements[0] != "streams" {
		stream, consumer = "", element(1)
	} else if stream = element(1); element(2) == "consumers" {
		consumer = element(3)
	}
	switch {
	case n == 5 && last == "messages":
		op = "peek"
	case n == 5 && last == "consumer_info":
		op = "get message"
	case n == 5, n == 3 && elements[0] != "streams":
		op = strings.ReplaceAll(last, "_", " ") // receive, ack, nack, extend, end receive
	case n == 3 && last == "purge":
		op = "purge stream"
	case n == 3 && last == "messages" && method == http.MethodPost:
		op = "send"
	case n%2 == 1 && method == http.MethodGet:
		op = "list " + last
	default:
		op = verbs[method] + strings.TrimSuffix(kind, "s")
	}
	return op, stream, consumer
}
