package sequin

import (
	"context"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/wire"
)

// Hooks are functions that a Client calls when something happens, for metrics and traces. Each may be nil. Set them in
// Config.Hooks before NewClient, which copies them.
//
// The functions are called outside all locks, on the goroutine that does the work, which waits for them: they must return soon. They
// may be called concurrently. They must not call Flush, Close or a Send that may wait, and must not end their goroutine. A function
// that panics is recovered, logged once, and not called again.
//
// All but Send, HandlerStart and HandlerDone are called once a request, once a batch or less often. A function that is nil costs
// nothing.
type Hooks struct {
	// Send is called for each valid message that the program sends, by a Publisher or by SendMessages, before it is accepted. It may
	// add headers, such as traceparent, to m.Headers, which is never nil and a copy of the message's own. Other changes have no
	// effect. stream is as the program gave it. ctx is that of the call, context.Background() for TrySend, and has the values of the handler's for what Pipe sends.
	//
	// The headers that it adds or replaces never stop a message. A server that does not announce headers gets the message
	// without them, and so does any server if they break the rules of [Message].Headers or make the message too large. A Client
	// that has had no answer yet reads the stream to find out what the server announces; if that fails they are left out. An
	// UnsentError has the messages as the program gave them.
	Send func(ctx context.Context, stream string, m *Message)
	// Batch is called when a Publisher has taken a batch of messages from its buffer to send it. It is not called again when the
	// batch is repeated, or sent in parts.
	Batch func(BatchInfo)
	// State is called when a Publisher or a Subscriber gets into a state that somebody may want to know of, and when that is
	// over: see the constants of type State. Its calls come in order, from one goroutine of the Client.
	State func(StateInfo)
	// RequestStart is called before each attempt at a request. The attempt has the context that it returns, which must come
	// from ctx: an http.RoundTripper sees its values. If it returns nil, the attempt has ctx.
	RequestStart func(ctx context.Context, r RequestInfo) context.Context
	// RequestDone is called when the attempt has ended, with the context that RequestStart returned, or that of the request.
	RequestDone func(ctx context.Context, r RequestInfo, result RequestResult)
	// Delivered is called for each receive of a Subscriber that returned messages, before they are delivered. Its Kind is zero.
	// Its Oldest and Total say how long ago the messages were stored, by their UpdatedAt and this machine's clock: the lag. They are
	// zero for a sink, which does not tell.
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
	// Messages is how many messages the answer to a receive has; 0 for all other requests.
	Messages int
}

// BatchInfo describes a batch of messages that a Publisher sends.
type BatchInfo struct {
	// Stream is as the program gave it.
	Stream string
	// Messages is how many there are, and Bytes is the size of their JSON.
	Messages, Bytes int
	// Reason says why the batch left: "full" (MaxBatch messages), "bytes" (MaxBatchBytes), "idle" (no other request was in
	// flight), "linger" (it had waited long enough, for Linger or for the other requests), "flush" (a Flush, SendSync,
	// Receipt.Wait, or a full buffer), or "close".
	Reason string
	// Waited is how long the first of its messages was in the buffer, or less for one that an earlier batch left behind.
	Waited time.Duration
}

// State names a state of a Publisher or of a Subscriber.
type State string

// The states. The last two are events, which do not end. The others end with their Publisher or Subscriber at the latest.
const (
	// StateSuspended: the server refuses the stream, or the token, and the Publisher neither sends nor accepts messages. See
	// PublisherStats.Refusal.
	StateSuspended State = "suspended"
	// StateUnavailable: requests fail, and are repeated. Messages wait in the Publisher, or the Subscriber receives none. It
	// begins at most once a minute, as the log's line about it.
	StateUnavailable State = "unavailable"
	// StateBreakerOpen: handlers fail, and the Subscriber tries one message at a time.
	StateBreakerOpen State = "breaker open"
	// StateWindowShrunk: the Subscriber keeps fewer messages in flight than before, because the program does not settle them in
	// time. It ends when there may be as many as before. Messages is how many may be in flight now.
	StateWindowShrunk State = "window shrunk"
	// StateLeaseLost: the server has ended leases before their time. The messages are redelivered.
	StateLeaseLost State = "lease lost"
	// StateExpired: nobody read messages from the Subscriber's buffer in time. They were returned.
	StateExpired State = "expired in buffer"
)

// StateInfo describes a change of state.
type StateInfo struct {
	// Stream and Consumer are the names, as in SettleInfo. Consumer is empty for a Publisher, whose Stream is as the program gave
	// it.
	Stream, Consumer string
	State            State
	// Over reports that the state has ended.
	Over bool
	// For is how long it lasted, if it is over.
	For time.Duration
	// Messages is how many messages are concerned: those that wait in a Publisher's buffer, those that are lost or returned, or what
	// the constant says. Otherwise it is 0.
	Messages int
	// Err is why, if an error is.
	Err error
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
	sending
	batchLeft
	stateChanged
	hookCount
)

// hooks calls the functions of a Client's Hooks. A nil *hooks has none.
type hooks struct {
	Hooks
	log    *linelog.Log
	off    [hookCount]atomic.Bool // the function has panicked
	states background.Queue       // calls of State
}

func newHooks(from *Hooks, log *linelog.Log) *hooks {
	if from == nil {
		return nil
	}
	return &hooks{Hooks: *from, log: log}
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
	go h.log.Write(context.Background(), slog.LevelError, "recovered a panic, and does not call the function again", "error", panicked)
}

func (h *hooks) startRequest(ctx context.Context, r RequestInfo) (of context.Context) {
	if h == nil || !h.has(requestStart, h.RequestStart != nil) {
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
	if h != nil && h.has(requestDone, h.RequestDone != nil) {
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

// deliver reports the messages of a receive.
func (h *hooks) deliver(from *origin, all []Delivery) {
	if h == nil || len(all) == 0 || !h.has(delivered, h.Delivered != nil) {
		return
	}
	i, now := SettleInfo{Messages: len(all)}, time.Now()
	i.Stream, i.Consumer = from.names()
	for n := range all {
		if at := all[n].UpdatedAt; !at.IsZero() {
			age := max(0, now.Sub(at))
			i.Oldest, i.Total = max(i.Oldest, age), i.Total+age
		}
	}
	defer h.guard(delivered)
	h.Delivered(i)
}

// sends reports whether Send is called.
func (h *hooks) sends() bool { return h != nil && h.has(sending, h.Send != nil) }

// addHeaders calls Send for a message that is valid and takes size bytes in a request. It returns all headers with which the
// message is sent where the server has headers, and its size with them. added is nil if Send has added none that may be sent.
func (h *hooks) addHeaders(ctx context.Context, stream string, m Message, size int) (added map[string]string, _ int) {
	own := m.Headers
	m.Headers = make(map[string]string, len(own)+2) // a trace has two headers
	maps.Copy(m.Headers, own)
	h.send(ctx, stream, &m)
	if added = m.Headers; len(own) > 0 { // Send may have removed some of the program's
		added = maps.Clone(own)
		maps.Copy(added, m.Headers)
	}
	if maps.Equal(added, own) {
		return nil, size
	}
	ownSize, _ := wire.HeadersSize(own)
	addedSize, err := checkHeaders(m.Key, added)
	if with := size - ownSize + addedSize; err == nil && wire.SendOverhead+with <= MaxRequestBytes {
		return added, with
	}
	return nil, size
}

func (h *hooks) send(ctx context.Context, stream string, m *Message) {
	defer h.guard(sending)
	h.Send(ctx, stream, m)
}

// batch reports a batch that a Publisher sends.
func (h *hooks) batch(b BatchInfo) {
	if h != nil && h.has(batchLeft, h.Batch != nil) {
		defer h.guard(batchLeft)
		h.Batch(b)
	}
}

// changed reports a change of state. It does not wait for the function: the caller may hold a lock, which keeps the calls in
// order.
func (h *hooks) changed(s StateInfo) {
	if h == nil || !h.has(stateChanged, h.State != nil) {
		return
	}
	h.states.Add(func() {
		if h.has(stateChanged, true) {
			defer h.guard(stateChanged)
			h.State(s)
		}
	}, 0)
}

// await waits until the calls of State have returned, or ctx ends.
func (h *hooks) await(ctx context.Context) {
	if h != nil {
		h.states.Await(ctx)
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

// observesRequests reports whether a function is called for requests.
func (h *hooks) observesRequests() bool {
	return h != nil && (h.has(requestStart, h.RequestStart != nil) || h.has(requestDone, h.RequestDone != nil))
}

// attrs name the request in the log.
func (i *RequestInfo) attrs() []any {
	args := []any{"op", i.Op}
	if i.Stream != "" {
		args = append(args, "stream", i.Stream)
	}
	switch {
	case i.Consumer == "":
	case i.Stream == "":
		args = append(args, "sink", i.Consumer)
	default:
		args = append(args, "consumer", i.Consumer)
	}
	return args
}
