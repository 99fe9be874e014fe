package sequin

import (
	"sync/atomic"
	"time"
)

// handling is what a Subscriber keeps for Handle, HandleBatch and Pipe.
type handling struct {
	origin   origin
	use      atomic.Int32 // who consumes the deliveries: see claim
	throttle throttle
	needs    atomic.Int32  // room that a batch takes, whatever the window says
	isFull   atomic.Bool   // no receive runs, and there is no room for one
	filled   chan struct{} // told whenever isFull is noted
}

// origin is where a Subscriber's messages come from, as Subscribe found it.
type origin struct {
	stream   *Stream
	consumer *Consumer
}

func newHandling(stream *Stream, consumer *Consumer) *handling {
	return &handling{origin: origin{stream, consumer}, filled: make(chan struct{}, 1)}
}

// setFull notes whether nothing more can be received until room is made. Each time it is so, whoever gathers a batch
// looks whether that batch is complete: what takes up the room may have changed.
func (in *intake) setFull(full bool) {
	in.isFull.Store(full)
	if !full {
		return
	}
	select {
	case in.filled <- struct{}{}:
	default:
	}
}

// The uses that a Subscriber's deliveries can be put to.
const (
	usedByNobody int32 = iota
	usedByProgram
	usedByHandlers
)

// claim takes the deliveries for one use. Only a program that ranges over them may claim them again.
func (s *Subscriber) claim(use int32) bool {
	return s.use.CompareAndSwap(usedByNobody, use) || use == usedByProgram && s.use.Load() == use
}

// noDeliveries is the channel of a Subscriber whose deliveries go to handlers.
var noDeliveries = func() <-chan Delivery { c := make(chan Delivery); close(c); return c }()

// Deliveries returns the channel of deliveries, the same at every call. It is closed when the Subscriber stops; Err
// then says why. Any number of goroutines may range over it. After Handle, HandleBatch or Pipe, to which the deliveries
// go instead, it is a closed channel; after Deliveries these return ErrBusy.
func (s *Subscriber) Deliveries() <-chan Delivery {
	if !s.claim(usedByProgram) {
		return noDeliveries
	}
	return s.deliveries
}

// maxHeld is how many nacks may be held back, and dead letters be on their way, together: half the room, so that messages
// that fail leave the rest to others.
func (s *Subscriber) maxHeld() int { return max(1, s.cfg.MaxInFlight/2) }

// noneToCome reports whether nothing can be received before one of those n deliveries is settled: there is no room for a
// receive, or what is in flight is all that the consumer hands out at once, and, held nacks apart, it is those n; none is
// on its way to the server, to make room for another.
func (s *Subscriber) noneToCome(n int) bool {
	most := s.origin.consumer.MaxAckPending // 0 where the server does not say
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.isFull.Load() || most > 0 && s.inFlight >= most
	return full && s.inFlight-len(s.held) <= n
}

// crowded reports whether no more nacks can be held back.
func (s *Subscriber) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)+s.leaving >= s.maxHeld()
}

// makeWayLocked lets the held nacks that are due first go now, when there are too many.
func (s *Subscriber) makeWayLocked() {
	for i := range min(len(s.held), len(s.held)+s.leaving-s.maxHeld()) {
		s.held[i].at = time.Now()
	}
}

// depart takes a place for a dead letter, from a held nack where there is no other: what leaves makes room, what is held
// back does not. It reports false when dead letters have all the places.
func (s *Subscriber) depart() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving >= s.maxHeld() {
		return false
	}
	s.leaving++
	s.makeWayLocked()
	s.nudge()
	return true
}

// arrive gives the place of a dead letter back, whatever became of it.
func (s *Subscriber) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving--
}

// unseen gives back a delivery that was taken from the channel and shown to no program.
func (s *Subscriber) unseen(d Delivery) {
	s.counts.takenBack.Add(1)
	s.settler.giveBack(d)
}
