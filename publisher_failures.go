package sequin

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sequin-go/sequin/internal/batch"
)

// MessageError is a message that the Publisher gave up, and why.
type MessageError struct {
	Message Message
	Err     error
	// Overtaken says that a later message of the same key was sent meanwhile: sending this one again would put back an
	// older version.
	Overtaken bool
}

// Error names the key and the cause.
func (e MessageError) Error() string {
	return fmt.Sprintf("message %q: %v", clip(e.Message.Key), e.Err)
}

// Unwrap returns the cause.
func (e MessageError) Unwrap() error { return e.Err }

// UnsentError says which messages a Publisher did not send.
type UnsentError struct {
	// Failed are those that were given up and reported to nobody else.
	Failed []MessageError
	// Unsent are those that Close left, in order per key. Some of them may have been stored by the last attempt.
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

// Unwrap returns the failures and, where Close was cut short, its ctx's error.
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

// failures keeps failed messages until somebody is told of them: OnFailure, by a goroutine that lives while there are
// any, or whoever calls Flush or Close. What is kept holds its room in the buffer.
type failures struct {
	engine *batch.Engine[outgoing, sending] // whose room they hold
	report func(MessageError)               // OnFailure, or nil
	cut    chan struct{}                    // closed when a Close's ctx has ended: report no more

	mu        sync.Mutex // guards all below; not held while the batcher or report runs
	kept      []*failure
	byKey     map[string][]*failure // to mark what is overtaken; nil while nothing is kept
	reporting bool
	stopped   bool          // Close has waited for the reports, or its ctx has ended: report no more
	idle      chan struct{} // closed when reporting ends; nil when there was none
}

type failure struct {
	MessageError
	bytes int
}

// add takes charge of failed items. Those with a completer have been told by it.
func (f *failures) add(items []batch.Entry[outgoing], err error) {
	told, bytes := 0, 0
	f.mu.Lock()
	for i := range items {
		o := &items[i].Item
		if o.to != nil {
			told++
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
	if told > 0 {
		f.engine.Release(told, bytes)
	}
}

// sent marks the kept failures that a sent batch has overtaken. A lane sends the versions of a key in order, so that
// whatever is sent after a failure of its key is later than it.
func (f *failures) sent(items []batch.Entry[outgoing]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.byKey) == 0 {
		return
	}
	for i := range items {
		for _, x := range f.byKey[items[i].Item.Key] {
			x.Overtaken = true
		}
	}
}

// reportAll calls OnFailure for one failure after the other, until there is none. That it ends is decided under the
// lock that add takes: what add keeps after that starts another.
func (f *failures) reportAll(idle chan struct{}) {
	defer close(idle)
	for {
		f.mu.Lock()
		if len(f.kept) == 0 || f.stopped {
			f.reporting = false
			f.mu.Unlock()
			return
		}
		x := f.takeLocked()
		told := x.MessageError
		f.mu.Unlock()
		over := f.engine.BeginReport(x.bytes) // first the room, so that OnFailure may Send
		f.report(told)
		over()
	}
}

// takeLocked takes the oldest failure out, which is the oldest of its key too.
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

// collect hands over what is kept and not OnFailure's to report.
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

// await waits until OnFailure has been told of everything, or the ctx of any await ends: then nothing more is reported,
// and collect hands over the rest. It does not wait for an OnFailure that is running then.
func (f *failures) await(ctx context.Context) {
	f.mu.Lock()
	idle := f.idle
	f.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-f.cut:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.stopped = true
		close(f.cut)
	}
}

// join is errors.Join that leaves a single error as it is.
func join(err, other error) error {
	if other == nil {
		return err
	}
	return errors.Join(err, other)
}
