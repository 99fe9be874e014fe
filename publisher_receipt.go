package sequin

import (
	"context"
	"errors"
	"sync"
)

// Receipt tells the fate of one message. It is a small value, to be copied freely; its methods may be called
// concurrently and at any time. The zero Receipt is over, with an error.
type Receipt struct {
	publisher *Publisher
	block     *receiptBlock
	slot      int
	lane      int
}

var errZeroReceipt = errors.New("sequin: a zero Receipt stands for no message")

// closed is the Done of every receipt that was over before anybody asked.
var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done returns a channel that is closed when the message is sent, has failed, or was left unsent by Close.
func (r Receipt) Done() <-chan struct{} {
	if r.block == nil {
		return closed
	}
	r.block.mu.Lock()
	defer r.block.mu.Unlock()
	s := &r.block.states[r.slot]
	switch {
	case s.over:
		return closed
	case s.done == nil:
		s.done = make(chan struct{})
	}
	return s.done
}

// Err returns nil while the message is pending and once it is sent; afterwards why it failed, or ErrClosed when Close
// left it unsent.
func (r Receipt) Err() error {
	if r.block == nil {
		return errZeroReceipt
	}
	r.block.mu.Lock()
	defer r.block.mu.Unlock()
	return r.block.states[r.slot].err
}

// Wait returns when the message's fate is known, with Err, or when ctx ends, with its error: the message stays accepted
// then. It lets the message leave without waiting for company.
func (r Receipt) Wait(ctx context.Context) error {
	done := r.Done()
	select {
	case <-done:
		return r.Err()
	default:
	}
	r.publisher.engine.FlushLane(r.lane)
	select {
	case <-done:
		return r.Err()
	case <-ctx.Done():
		return ended(ctx)
	}
}

// receiptsPerBlock receipts share an allocation, and with it their memory: 64 keep one under 3 KB, and cost a message
// one 64th of an allocation.
const receiptsPerBlock = 64

type receiptBlock struct {
	mu     sync.Mutex
	states [receiptsPerBlock]receiptState
}

type receiptState struct {
	over bool
	err  error
	done chan struct{} // made when somebody asks for it
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

// receiptBook hands out the slots of one block after another.
type receiptBook struct {
	mu    sync.Mutex
	block *receiptBlock
	used  int
}

func (b *receiptBook) next() Receipt {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.block == nil || b.used == receiptsPerBlock {
		b.block, b.used = new(receiptBlock), 0
	}
	b.used++
	return Receipt{block: b.block, slot: b.used - 1}
}
