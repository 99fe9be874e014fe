package sequin

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sequin-go/sequin/internal/outage"
)

// MessageError is a message that the Publisher could not send, and why.
type MessageError struct {
	Message Message
	Err     error
	// Superseded says that a later message of its key was sent. Sending this one again would restore an older version.
	Superseded bool
}

// Error returns the key and the cause.
func (e MessageError) Error() string {
	return fmt.Sprintf("message %q: %v", clip(e.Message.Key), e.Err)
}

// Unwrap returns the cause.
func (e MessageError) Unwrap() error { return e.Err }

// UnsentError lists the messages that a Publisher did not send.
type UnsentError struct {
	// Failed are the messages that failed and were not reported elsewhere.
	Failed []MessageError
	// Unsent are the messages that Close left, in order for each key. The server may have stored some of them in the last
	// attempt.
	Unsent []Message

	cause error
}

// Error counts the messages and quotes the first failure.
func (e *UnsentError) Error() string {
	text := fmt.Sprintf("sequin: %d messages failed, %d unsent", len(e.Failed), len(e.Unsent))
	if len(e.Failed) > 0 {
		text += "; first failure: " + e.Failed[0].Error()
	}
	if e.cause != nil {
		text += "; " + e.cause.Error()
	}
	return text
}

// Unwrap returns the failures, and ctx's error if Close gave up.
func (e *UnsentError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed)+1)
	for _, f := range e.Failed {
		errs = append(errs, f)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// failures keeps failed messages until they are reported, by OnFailure or by Flush or Close. A goroutine calls OnFailure; it
// runs while messages are kept. A kept message still takes room in the buffer.
type failures struct {
	engine *messageEngine     // its buffer holds the messages
	report func(MessageError) // OnFailure, or nil

	mu        sync.Mutex // guards all below; not held while the engine or report runs
	kept      []*failure
	byKey     map[string][]*failure // kept, by key, to find those that are superseded; nil while nothing is kept
	reporting bool
	idle      chan struct{} // closed when the latest reportAll ends; nil if none has run
	stopped   bool          // OnFailure is not called again: a Close has waited for its calls, or its ctx has ended
	stop      chan struct{} // closed when stopped is set; made by the first await
}

type failure struct {
	MessageError
	bytes int
}

// add keeps failed items, except those whose completer has already been told; it frees the room of these.
func (f *failures) add(items []messageEntry, err error) {
	reported, bytes := 0, 0
	f.mu.Lock()
	for i := range items {
		o := &items[i].Item
		if o.to != nil {
			reported++
			bytes += items[i].Size
			continue
		}
		x := &failure{MessageError{Message: o.Message, Err: err}, items[i].Size}
		f.kept = append(f.kept, x)
		if f.byKey == nil {
			f.byKey = map[string][]*failure{}
		}
		f.byKey[o.Key] = append(f.byKey[o.Key], x)
	}
	if f.report != nil && len(f.kept) > 0 && !f.reporting && !f.stopped {
		f.reporting, f.idle = true, make(chan struct{})
		go f.reportAll(f.idle)
	}
	f.mu.Unlock()
	if reported > 0 {
		f.engine.Release(reported, bytes)
	}
}

// supersede marks the kept failures of the keys that were sent. A lane sends the messages of a key in order, so a message
// that is sent after a failure of its key is a later one.
func (f *failures) supersede(sent []messageEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.byKey) == 0 {
		return
	}
	for i := range sent {
		for _, x := range f.byKey[sent[i].Item.Key] {
			x.Superseded = true
		}
	}
}

// reportAll calls OnFailure for one failure after the other until none is left. It clears reporting under the lock, so that
// a failure which add keeps after that starts another reportAll.
func (f *failures) reportAll(idle chan struct{}) {
	defer close(idle)
	for {
		f.mu.Lock()
		if len(f.kept) == 0 {
			f.kept, f.byKey = nil, nil // there may have been many
		}
		if len(f.kept) == 0 || f.stopped {
			f.reporting = false
			f.mu.Unlock()
			return
		}
		x := f.takeLocked()
		failed := x.MessageError
		f.mu.Unlock()
		end := f.engine.BeginReport(x.bytes) // frees the room first, so that OnFailure may Send
		f.report(failed)
		end()
	}
}

// takeLocked removes and returns the oldest failure, which is also the oldest of its key.
func (f *failures) takeLocked() *failure {
	x := f.kept[0]
	f.kept[0] = nil
	f.kept = f.kept[1:]
	if others := f.byKey[x.Message.Key][1:]; len(others) > 0 {
		f.byKey[x.Message.Key] = others
	} else {
		delete(f.byKey, x.Message.Key)
	}
	return x
}

// collect removes and returns the kept failures and frees their room. It returns nil if OnFailure will be called for them.
func (f *failures) collect() []MessageError {
	f.mu.Lock()
	if f.report != nil && !f.stopped {
		f.mu.Unlock()
		return nil
	}
	kept := f.kept
	f.kept, f.byKey = nil, nil
	f.mu.Unlock()
	if len(kept) == 0 {
		return nil
	}
	out, bytes := make([]MessageError, len(kept)), 0
	for i, x := range kept {
		out[i] = x.MessageError
		bytes += x.bytes
	}
	f.engine.Release(len(kept), bytes)
	return out
}

// await waits until every failure was reported to OnFailure, or until the ctx of this or a concurrent await ends. OnFailure
// is not called again after that; collect returns the other failures. await does not wait for a call of OnFailure that is
// running when ctx ends.
func (f *failures) await(ctx context.Context) {
	f.mu.Lock()
	if f.stop == nil {
		f.stop = make(chan struct{})
	}
	idle, stop := f.idle, f.stop
	f.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-stop:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.stopped = true
		close(f.stop)
	}
}

// Receipt reports the final result of one message. It is a small value that may be copied. Its methods may be called at
// any time and concurrently. The zero Receipt is done, with an error.
type Receipt struct {
	engine *messageEngine
	block  *receiptBlock
	slot   int
	lane   int
}

var errZeroReceipt = errors.New("sequin: the zero Receipt belongs to no message")

// closed is what Receipt.Done returns if the result was known before the first call of Done.
var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done returns a channel that is closed when the message is sent, has failed, or was left unsent by Close.
func (r Receipt) Done() <-chan struct{} {
	if r.block == nil {
		return closed
	}
	return r.block.doneOf(r.slot)
}

// Err returns nil while the message is pending and after it was sent. Otherwise it returns why the message failed, or
// ErrClosed if Close left it unsent. In an outage ErrClosed comes with the error of the latest request that failed.
func (r Receipt) Err() error {
	if r.block == nil {
		return errZeroReceipt
	}
	return r.block.errOf(r.slot)
}

// Wait waits for the message's final result and returns Err. It sends the message's batch at once, even if it is not
// full. If ctx ends first, Wait returns ctx's error, and the message stays accepted.
func (r Receipt) Wait(ctx context.Context) error {
	done := r.Done()
	select {
	case <-done:
		return r.Err()
	default:
	}
	r.engine.FlushLane(r.lane)
	select {
	case <-done:
		return r.Err()
	case <-ctx.Done():
		return explain(r.block.outage, contextError(ctx))
	}
}

// receiptsPerBlock is how many receipts share an allocation. A block of 64 takes less than 3 KB. It stays in memory while
// any of its receipts is in use. The first blocks of a Publisher are smaller, because it may make few receipts.
const (
	receiptsPerBlock = 64
	firstReceipts    = 4
)

// receiptBlock holds the states of receipts that share an allocation.
type receiptBlock struct {
	outage *outage.Outage // of the Publisher
	mu     sync.Mutex
	states []receiptState
}

type receiptState struct {
	over bool // the final result is err
	err  error
	done chan struct{} // made by the first call of Done
}

func (b *receiptBlock) doneOf(slot int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.states[slot]
	if s.over {
		return closed
	}
	if s.done == nil {
		s.done = make(chan struct{})
	}
	return s.done
}

func (b *receiptBlock) errOf(slot int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.states[slot].err
}

// Complete implements completer.
func (b *receiptBlock) Complete(slot int, err error) (woke bool) {
	if err == ErrClosed {
		err = explain(b.outage, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.states[slot]
	s.over, s.err = true, err
	if s.done != nil {
		close(s.done)
	}
	return s.done != nil
}

// receiptBook makes receipts. It fills one block after another.
type receiptBook struct {
	outage *outage.Outage // of the Publisher
	mu     sync.Mutex
	block  *receiptBlock
	used   int // slots of block
}

func (b *receiptBook) next() Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.block == nil || b.used == len(b.block.states) {
		b.block, b.used = &receiptBlock{outage: b.outage, states: make([]receiptState, min(max(firstReceipts, 2*b.used), receiptsPerBlock))}, 0
	}
	b.used++
	return Receipt{block: b.block, slot: b.used - 1}
}

// free gives up the present block, which is garbage when nobody uses its receipts.
func (b *receiptBook) free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.block, b.used = nil, 0
}

// together gets the results of the messages of one SendAllSync. It wakes the caller once, after the last of them.
type together struct {
	outage *outage.Outage // of the Publisher
	over   chan struct{}  // closed when all accepted messages have their results

	mu      sync.Mutex
	results []result
	known   int  // of results
	failed  bool // one of the results is an error
	waited  int  // how many the caller waits for, 0 until it knows
}

// result is the final result of a message, once it is known.
type result struct {
	known bool
	err   error
}

// Complete implements completer.
func (t *together) Complete(slot int, err error) (woke bool) {
	if err == ErrClosed {
		err = explain(t.outage, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.results[slot] = result{known: true, err: err}
	t.failed = t.failed || err != nil
	if t.known++; t.known < t.waited || t.waited == 0 {
		return false
	}
	close(t.over)
	return true
}

// wait waits for the results of the first n messages, which are those that were accepted, or until ctx ends. It returns ctx's error.
func (t *together) wait(ctx context.Context, n int) error {
	t.mu.Lock()
	t.waited = n
	known := t.known == n
	t.mu.Unlock()
	if known {
		return nil
	}
	select {
	case <-t.over:
		return nil
	case <-ctx.Done():
		return explain(t.outage, contextError(ctx))
	}
}

// succeeded reports whether no result is an error. It is called when all results are known.
func (t *together) succeeded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.failed
}

// of returns what is known of the result of a message.
func (t *together) of(slot int) result {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.results[slot]
}
