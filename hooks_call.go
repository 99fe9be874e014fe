package sequin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/linelog"
	"github.com/sequin-go/sequin/internal/wire"
)

// This file calls the functions of Hooks, and writes the log lines of requests.

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

// wantsDelivered reports whether receives are reported.
func (h *hooks) wantsDelivered() bool { return h != nil && h.has(delivered, h.Delivered != nil) }

func (h *hooks) deliver(s SettleInfo) {
	defer h.guard(delivered)
	h.Delivered(s)
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

// takesAdded reports whether messages are sent with the headers that Send adds. A Client that has had no answer yet reads the stream
// to find out, and sends without them if that fails: they must not keep a message from being sent.
func (c *Client) takesAdded(ctx context.Context, stream string) bool {
	switch {
	case !c.hooks.sends():
		return false
	case c.extensions().Has(wire.Headers):
		return true
	case !c.answered.Load():
		_, _ = callOnce[Stream](ctx, c, path("api", "streams", stream))
	}
	return c.extensions().Has(wire.Headers)
}

// withAdded returns the messages of a request of size bytes with the headers that Send adds, as far as the request has room for
// them.
func (c *Client) withAdded(ctx context.Context, stream string, messages []Message, size int) []Message {
	if !c.hooks.sends() {
		return messages
	}
	all, taken := slices.Clone(messages), c.takesAdded(ctx, stream)
	for i := range all {
		added, more := c.hooks.addHeaders(ctx, stream, all[i], 0)
		if taken && added != nil && size+more <= MaxRequestBytes {
			all[i].Headers, size = added, size+more
		}
	}
	return all
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

// observed is a call whose attempts are reported to RequestStart and RequestDone, or logged. A nil *observed reports nothing.
type observed struct {
	client *Client
	info   RequestInfo
	got    func() int      // see request
	logs   bool            // there is a line for each attempt
	ctx    context.Context // of the latest attempt
	began  time.Time       // the same
	bytes  int             // read of its answer
}

// observesRequests reports whether a function is called for requests.
func (h *hooks) observesRequests() bool {
	return h != nil && (h.has(requestStart, h.RequestStart != nil) || h.has(requestDone, h.RequestDone != nil))
}

// observe returns what observes a request, nil if nothing does.
func (c *Client) observe(ctx context.Context, r request, id string) *observed {
	logs := !r.quiet && c.log.Enabled(ctx, slog.LevelDebug)
	if !logs && !c.hooks.observesRequests() {
		return nil
	}
	return &observed{client: c, info: r.info(id), got: r.got, logs: logs, ctx: ctx}
}

// start begins an attempt and returns its context.
func (o *observed) start(ctx context.Context) context.Context {
	o.info.Attempt++
	o.began, o.bytes = time.Now(), 0
	o.ctx = o.client.hooks.startRequest(ctx, o.info)
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
	if o.got != nil && err == nil {
		result.Messages = o.got()
	}
	o.client.hooks.endRequest(o.ctx, o.info, result)
	if o.logs {
		o.log(result)
	}
}

// log writes the line of an attempt in the background: no request waits for the log.
func (o *observed) log(r RequestResult) {
	messages := o.info.Messages
	if o.got != nil {
		messages = r.Messages
	}
	args := append(requestAttrs(o.info), "attempt", o.info.Attempt, "messages", messages, "bytes", o.info.Bytes+r.Bytes,
		"status", r.Status, "took", r.Duration, "request_id", o.info.RequestID)
	if r.Err != nil {
		args = append(args, "error", r.Err)
	}
	o.client.log.Later(o.ctx, slog.LevelDebug, "request", args...)
}

// requestAttrs names a request in the log.
func requestAttrs(i RequestInfo) []any {
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
