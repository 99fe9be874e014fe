package batch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// batcher gathers items into batches and runs them in the background. It knows no HTTP and no messages: what a batch
// becomes is the run function's to say, what an item's end means is the done function's.
//
// Items of one lane leave in the order they came, a lane having so many batches in flight as it has slots. Batching is
// natural: an idle batcher runs the first item at once, and while a batch is in flight the next one gathers.
//
// There is no standing goroutine. Each batch in flight has one, which ends when no other may leave; whoever changes the
// state (an admission, a batch that ended, the timer) decides under mu which batches leave next. So nothing can be
// admitted that nobody will run.
type Engine[T, W any] struct {
	cfg Config[T, W]
	ctx context.Context // of every run; ends when close gives up

	mu       sync.Mutex // guards all below; held for arithmetic only
	lanes    []lane[T, W]
	cutter   cutter
	buffered int // items that hold room: live ones, and failed ones that nobody has released
	bytes    int // of those
	live     int // items that are not complete yet
	inFlight int // batches running
	totals   Totals
	lim      Limits       // as the latest dispatch found them
	free     bool         // whoever holds mu runs the next batch that leaves itself
	next     *Batch[T, W] // that batch
	pace     pace         // how long runs took lately
	relief   relief
	waiters  []*waiter[T]
	epochs   []*epoch // of flush, oldest first; the last one takes new items
	refusal  error    // why nothing is admitted and nothing leaves: see halt
	closed   bool
	aborted  bool // close gave up: nothing leaves any more
	timer    *time.Timer
	wake     time.Time // when timer fires; zero when it does not

	cancel  context.CancelCauseFunc
	drained chan struct{} // closed when closed and nothing is left to run
	gather  sync.Once
	left    []T
	cause   error // why close gave up
}

// Config says what an Engine runs, and its limits.
type Config[T, W any] struct {
	// Lanes is the number of independent queues. Slots is how many batches of one lane may be in flight at once.
	Lanes, Slots int
	// Limits returns the limits of a batch. It is called at every dispatch, because what the server takes may become known late.
	Limits func() Limits
	// MaxItems and MaxBytes bound what is buffered. MaxItems 0 means no bound.
	MaxItems, MaxBytes int
	// Linger is how long a batch that is not full waits for more items.
	Linger time.Duration
	// AsyncRelease says that a goroutine of the owner releases failed items, by BeginReport. An admission may then wait
	// for it. Without it, the callers of Admit release failed items, and an Admit that waited could wait for ever.
	AsyncRelease bool
	// Compare is optional: a lane that holds more than one batch sends its least items first.
	Compare func(a, b T) int
	// Unordered says that the order of items does not matter. Urgent items then leave while the lane is in backoff, and
	// items that have just come join a batch that is about to run.
	Unordered bool
	// Run makes one attempt at a batch, and returns soon after ctx has ended.
	Run func(ctx context.Context, b *Batch[T, W]) Result[T, W]
	// Done is called once for each item with its final result: nil, the Result's Err, or ErrClosed for an item that Close
	// left. It is called without the engine's lock, and must not keep the slice.
	Done func(items []Entry[T], err error)
}

// Entry is an item and what the engine needs to know of it.
type Entry[T any] struct {
	Item T
	// Size is how many bytes the item takes in a request.
	Size int
	// ID names what must keep its order and must not stand twice in one batch; 0 means none. It is a hash: two IDs that
	// are equal by chance delay one item by a batch, and do no other harm.
	ID    uint64
	epoch *epoch
}

// Batch is what Run gets.
type Batch[T, W any] struct {
	Items []Entry[T]
	// Work belongs to Run. It is zero at first, and is kept while the batch is retried.
	Work W
	// Skipped says that an item with a repeated ID was passed over when this batch was cut.
	Skipped bool
	// Control says that the batch runs in the turn of poison candidates; see Result.Candidate.
	Control bool

	lane  *lane[T, W]
	fresh bool // was cut, and has not run
}

// Result is what became of a batch that ran. Together its lists hold each of the batch's items once.
type Result[T, W any] struct {
	// Done are the items that succeeded. Their room is free.
	Done []Entry[T]
	// Failed are the items that failed with Err. They keep their room until the owner calls Release or BeginReport.
	Failed []Entry[T]
	Err    error
	// Again are batches to run next, before anything else of the lane, after Wait. Each keeps its Work.
	Again []*Batch[T, W]
	// Candidate is a batch that may be what makes the server fail. It runs again after Wait, alternating with other
	// batches of the lane, its control batches, which share no ID with any candidate.
	Candidate *Batch[T, W]
	// Requeue are items to put back at the lane's head, to be cut into new batches. The batches that wait to be retried
	// follow them, because they are later.
	Requeue []Entry[T]
	// Wait is how long the lane backs off.
	Wait time.Duration
}

// lane is a queue of items and the batches that come before it.
type lane[T, W any] struct {
	queue      []Entry[T]
	head       int       // where queue begins: what is before it has left
	bytes      int       // of the queue
	since      time.Time // how long its first item has waited at least
	urgent     int       // so many of its first items wait for nobody
	redo       []*Batch[T, W]
	candidates []*Batch[T, W]
	turn       bool // a candidate batch is next, not a control batch
	inFlight   int
	resume     time.Time    // end of the backoff
	spares     [][]Entry[T] // the room of batches that are complete, no more than slots
}

func (l *lane[T, W]) pending() []Entry[T] { return l.queue[l.head:] }

// waiter is an admission that found no room.
type waiter[T any] struct {
	entry  Entry[T]
	lane   int
	urgent bool
	ready  chan struct{} // closed once item is admitted or err is set
	err    error
	over   bool

	report uint64 // relief.reports when it came
}

// totals of a batcher's life. admitted = done + failed + live; what close leaves stays live.
type Totals struct {
	Admitted, Done, Failed uint64
	Blocked                time.Duration // waited for room, in sum
}

// relief is what the batcher knows of the goroutine that releases failed items, where there is one.
type relief struct {
	reports uint64 // begun so far
	running bool   // the last of them has not ended
}

func New[T, W any](cfg Config[T, W]) *Engine[T, W] {
	b := &Engine[T, W]{cfg: cfg, lanes: make([]lane[T, W], cfg.Lanes), drained: make(chan struct{}), epochs: []*epoch{newEpoch()}}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b
}

// admit takes a copy of an item into a lane. Without room it waits for it, first come first served, until ctx ends, or is refused
// with ErrBufferFull when wait is false. urgent lets the lane leave without waiting for more items.
func (b *Engine[T, W]) Admit(ctx context.Context, e *Entry[T], lane int, urgent, wait bool) error {
	b.mu.Lock()
	if err := b.refusedLocked(); err != nil {
		b.mu.Unlock()
		return err
	}
	if len(b.waiters) == 0 && b.fitsLocked(e.Size) {
		b.enqueueLocked(e, lane, urgent)
		b.mu.Unlock()
		return nil
	}
	w := &waiter[T]{entry: *e, lane: lane, urgent: urgent, ready: make(chan struct{}), report: b.relief.reports}
	if b.hopelessLocked(w) {
		b.mu.Unlock()
		return ErrFailuresPending
	}
	b.urgeLocked() // a full buffer waits for nobody
	if !wait {
		b.mu.Unlock()
		return ErrBufferFull
	}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	began := time.Now()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.totals.Blocked += time.Since(began)
	if w.over {
		return w.err // it was admitted, or refused, while ctx ended: that stands
	}
	b.waiters = slices.DeleteFunc(b.waiters, func(o *waiter[T]) bool { return o == w })
	b.grantLocked() // a smaller item behind this one may fit
	return ended(ctx)
}

func (b *Engine[T, W]) refusedLocked() error {
	if b.closed {
		return ErrClosed
	}
	return b.refusal
}

func (b *Engine[T, W]) fitsLocked(size int) bool {
	return b.cfg.MaxItems == 0 || b.buffered < b.cfg.MaxItems && b.bytes+size <= b.cfg.MaxBytes
}

func (b *Engine[T, W]) enqueueLocked(e *Entry[T], lane int, urgent bool) {
	l, size := &b.lanes[lane], e.Size
	e.epoch = b.epochs[len(b.epochs)-1]
	was := len(l.queue) - l.head
	if l.head > was && len(l.queue) == cap(l.queue) {
		l.queue = append(l.queue[:0], l.pending()...) // rather than grow
		clear(l.queue[was:cap(l.queue)])
		l.head = 0
	}
	l.queue = append(l.queue, *e)
	l.bytes += size
	e.epoch.live++
	b.live++
	b.totals.Admitted++
	b.buffered++
	b.bytes += size
	if urgent {
		l.urgent = was + 1
	}
	if was == 0 {
		l.since = time.Now()
	}
	if b.buffered == b.cfg.MaxItems {
		b.urgeLocked()
		return
	}
	// Between the first item and a full batch nothing changes what may leave.
	filled := was+1 == b.lim.Count || b.lim.filled(l.bytes) && !b.lim.filled(l.bytes-size)
	if was == 0 || urgent || filled {
		b.dispatchLocked()
	}
}

// hopelessLocked reports whether w could wait for ever: what fills the buffer has failed, and is to be collected by
// whoever admits; or by a report that began before w came, and which may be what admits w.
func (b *Engine[T, W]) hopelessLocked(w *waiter[T]) bool {
	return b.live == 0 && (!b.cfg.AsyncRelease || b.relief.running && b.relief.reports == w.report)
}

// grantLocked admits waiters while the first one fits. First come first served: a large item is not passed by.
func (b *Engine[T, W]) grantLocked() {
	n := 0
	for ; n < len(b.waiters); n++ {
		w := b.waiters[n]
		if b.fitsLocked(w.entry.Size) {
			b.enqueueLocked(&w.entry, w.lane, w.urgent)
		} else if b.hopelessLocked(w) {
			w.err = ErrFailuresPending
		} else {
			break
		}
		w.over = true
		close(w.ready)
	}
	b.waiters = slices.Delete(b.waiters, 0, n)
	if b.live == 0 {
		// A report's own admission may stand behind one that waits for the next report: neither would ever come.
		b.waiters = slices.DeleteFunc(b.waiters, func(w *waiter[T]) bool {
			if !b.hopelessLocked(w) {
				return false
			}
			w.err, w.over = ErrFailuresPending, true
			close(w.ready)
			return true
		})
	}
	if len(b.waiters) > 0 {
		b.urgeLocked()
	}
}

// refuseWaitersLocked sends every waiter away with err.
func (b *Engine[T, W]) refuseWaitersLocked(err error) {
	for _, w := range b.waiters {
		w.err, w.over = err, true
		close(w.ready)
	}
	b.waiters = nil
}

// urgeLocked lets everything that is queued now leave without waiting for more items.
func (b *Engine[T, W]) urgeLocked() {
	for i := range b.lanes {
		b.lanes[i].urgent = len(b.lanes[i].pending())
	}
	b.dispatchLocked()
}

// urgent does so for one lane.
func (b *Engine[T, W]) FlushLane(lane int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes[lane].urgent = len(b.lanes[lane].pending())
	b.dispatchLocked()
}

// release frees the room of failed items that somebody has taken charge of.
func (b *Engine[T, W]) Release(items, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releaseLocked(items, bytes)
}

func (b *Engine[T, W]) releaseLocked(items, bytes int) {
	b.buffered -= items
	b.bytes -= bytes
	b.grantLocked()
}

// reporting says that the release of a failed item goes with a report of it, which may admit items. It is over when
// the returned function is called.
func (b *Engine[T, W]) BeginReport(bytes int) (over func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relief.reports++
	b.relief.running = true
	b.releaseLocked(1, bytes)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.relief.running = false
	}
}

// halt refuses new items with err, and holds back what is buffered, until resume.
func (b *Engine[T, W]) Suspend(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal = err
	b.refuseWaitersLocked(err)
}

func (b *Engine[T, W]) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal = nil
	b.dispatchLocked()
}

// Context returns the context of every run. It ends when Close has returned or gives up.
func (b *Engine[T, W]) Context() context.Context { return b.ctx }

// Stats are what an Engine holds and has done.
type Stats struct {
	Totals
	// Live are the items without a final result. Bytes are theirs, and those of failed items that have not been released.
	Live, Bytes int
	// Suspended is the error of Suspend, until Resume.
	Suspended error
}

// Stats returns the figures of this moment, which agree with one another.
func (b *Engine[T, W]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Totals: b.totals, Live: b.live, Bytes: b.bytes, Suspended: b.refusal}
}
