package sequin

import (
	"sync"

	"github.com/sequin-go/sequin/internal/failurelog"
)

// outputs are the output messages that have been passed to a Publisher and are not yet confirmed: those of a Pipe, and
// dead letters.
//
// A stream that accepts requests and does not answer keeps the messages in flight for longer than leases last. A message
// that is redelivered while its outputs are in flight is not handled again, which would send a second copy of them. The
// new delivery takes over from the earlier one, and is settled when the outputs end.
type outputs struct {
	mu   sync.Mutex // guards open, and the fields of each output that say so
	open map[failurelog.ID]*output
}

// output is a delivery whose output messages are in flight. It is settled when the last of them has ended.
type output struct {
	outputs *outputs
	settle  func(Delivery, error) // called once, with the delivery to settle and the first error

	// Guarded by outputs.mu.
	d     Delivery // the one with the latest Deadline
	count int      // messages that have not ended
	err   error    // of the first message that failed
}

func newOutputs() outputs { return outputs{open: map[failurelog.ID]*output{}} }

// inFlight reports whether output messages of an earlier delivery of the same message are in flight.
func (o *outputs) inFlight(d Delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[failureID(d)] != nil
}

// takeOver makes d the delivery that is settled when the output messages of an earlier delivery end. It reports false if
// none are in flight any more.
func (o *outputs) takeOver(d Delivery) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.takeOverLocked(d)
}

// takeOverLocked keeps the delivery with the later Deadline: a handler that outlived its lease may bring the earlier
// delivery after the later one.
func (o *outputs) takeOverLocked(d Delivery) bool {
	found := o.open[failureID(d)]
	if found == nil {
		return false
	}
	if d.Deadline.After(found.d.Deadline) {
		found.d = d
	}
	return true
}

// begin opens an output of count messages for a delivery. It returns nil if one is open already, which d has then taken
// over: two workers may handle the same message, the first for longer than its lease.
func (o *outputs) begin(d Delivery, count int, settle func(Delivery, error)) *output {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.takeOverLocked(d) {
		return nil
	}
	out := &output{outputs: o, settle: settle, d: d, count: count}
	o.open[failureID(d)] = out
	return out
}

// end records that n of its messages have ended with err. It calls settle after the last one.
func (out *output) end(n int, err error) {
	o := out.outputs
	o.mu.Lock()
	if out.err == nil {
		out.err = err
	}
	out.count -= n
	d, err, last := out.d, out.err, out.count == 0
	if last {
		delete(o.open, failureID(d))
	}
	o.mu.Unlock()
	if last {
		out.settle(d, err)
	}
}

// complete implements completer.
func (out *output) complete(_ int, err error) { out.end(1, err) }

// failureID identifies the message of a delivery, this version of it.
func failureID(d Delivery) failurelog.ID { return failurelog.ID{Key: d.Key, Seq: d.Seq} }
