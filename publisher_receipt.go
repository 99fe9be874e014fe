package sequin

import (
	"context"
	"errors"
	"sync"
)

// Receipt reports the final result of one message. It is a small value that may be copied. Its methods may be called at
// any time and concurrently. The zero Receipt is done, with an error.
type Receipt struct {
	engine *messageEngine
	block  *receiptBlock
	slot   int
	lane   int
}

var errZeroReceipt = errors.New("sequin: the zero Receipt belongs to no message")

// closed is the Done of a receipt whose result came before anybody asked for the channel.
var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done returns a channel that is closed when the message is sent, has failed, or was left unsent by Close.
func (r Receipt) Done() <-chan struct{} {
	if r.block == nil {
		return closed
	}
	return r.block.doneOf(r.slot)
}

// Err returns nil while the message is pending and after it was sent. Otherwise it returns why the message failed, or
// ErrClosed if Close left it unsent.
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
		return r.block.trouble.explain(contextError(ctx))
	}
}

// receiptsPerBlock is how many receipts share an allocation, and are kept in memory together. 64 keep a block under 3 KB
// and cost a message one 64th of an allocation.
const receiptsPerBlock = 64

type receiptBlock struct {
	trouble *trouble // of the Publisher
	mu      sync.Mutex
	states  [receiptsPerBlock]receiptState
}

type receiptState struct {
	over bool // the final result is err
	err  error
	done chan struct{} // made when somebody asks for it
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

// complete implements completer.
func (b *receiptBlock) complete(slot int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.states[slot]
	s.over, s.err = true, err
	if s.done != nil {
		close(s.done)
	}
}

// receiptBook gives out the slots of one block after another.
type receiptBook struct {
	trouble *trouble // of the Publisher
	mu      sync.Mutex
	block   *receiptBlock
	used    int
}

func (b *receiptBook) next() Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.block == nil || b.used == receiptsPerBlock {
		b.block, b.used = &receiptBlock{trouble: b.trouble}, 0
	}
	b.used++
	return Receipt{block: b.block, slot: b.used - 1}
}
