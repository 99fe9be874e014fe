package sequin

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
type batcher[T, W any] struct {
	cfg batcherConfig[T, W]
	ctx context.Context // of every run; ends when close gives up

	mu       sync.Mutex // guards all below; held for arithmetic only
	lanes    []lane[T, W]
	cutter   cutter
	buffered int // items that hold room: live ones, and failed ones that nobody has released
	bytes    int // of those
	live     int // items that are not complete yet
	inFlight int // batches running
	totals   totals
	lim      limits       // as the latest dispatch found them
	free     bool         // whoever holds mu runs the next batch that leaves itself
	next     *batch[T, W] // that batch
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

type batcherConfig[T, W any] struct {
	lanes, slots int
	limits       func() limits // asked at every dispatch: what the stream takes may become known late
	maxItems     int           // buffered at most; 0 is unbounded
	maxBytes     int
	linger       time.Duration
	// relieved says that failed items are released by a goroutine of their owner, by way of reporting and release, and
	// not by whoever admits: an admission may wait for it.
	relieved bool
	// first, where set, orders a lane that holds more than a batch: the least go first.
	first func(a, b T) int
	// unordered says that the order of items is no matter: what is in a hurry leaves while the lane is in backoff, and
	// what has just come joins a batch that is about to run.
	unordered bool
	// run makes one attempt at a batch, and returns soon after ctx has ended.
	run func(ctx context.Context, b *batch[T, W]) verdict[T, W]
	// done is told once of each item how it ended. It is called outside mu, and must not keep the slice.
	done func(items []entry[T], err error)
}

// entry is an item, and all that the batcher knows of it.
type entry[T any] struct {
	item T
	// size is how many bytes it takes in a request.
	size int
	// id names what must not stand twice in one batch and must keep its order; 0 names nothing. Two ids that are equal
	// by chance (it is a hash) cost one of them a batch's delay, nothing else.
	id    uint64
	epoch *epoch // the batcher's own
}

// batch is what run gets. Work is run's own, zero at first, and kept while the batch is tried again.
type batch[T, W any] struct {
	items   []entry[T]
	work    W
	skipped bool // a repeated id was passed over when this was cut
	witness bool // runs in place of stuck ones; see verdict
	lane    *lane[T, W]
	fresh   bool // was cut, and has not run
}

// verdict is what became of a batch that ran. Together its lists hold each of the batch's items once.
type verdict[T, W any] struct {
	done   []entry[T] // complete; their room is free
	failed []entry[T] // complete with err; their room is the owner's to release
	err    error

	// again runs these next, before anything else of the lane, after wait. A batch keeps its work.
	again []*batch[T, W]
	// stuck runs this one after wait, alternating with other batches of the lane, its witnesses, which share no id with
	// anything stuck in it.
	stuck *batch[T, W]
	// requeue puts these back at the lane's head, to be cut anew, and so everything of the lane that is to be run again:
	// it is later than these.
	requeue []entry[T]
	wait    time.Duration
}

// lane is a queue of items and the batches that come before it.
type lane[T, W any] struct {
	queue    []entry[T]
	head     int       // where queue begins: what is before it has left
	bytes    int       // of the queue
	since    time.Time // how long its first item has waited at least
	hurry    int       // so many of its first items wait for nobody
	redo     []*batch[T, W]
	stuck    []*batch[T, W]
	turn     bool // a stuck batch is next, not a witness
	inFlight int
	resume   time.Time    // end of the backoff
	spares   [][]entry[T] // the room of batches that are complete, no more than slots
}

func (l *lane[T, W]) pending() []entry[T] { return l.queue[l.head:] }

// waiter is an admission that found no room.
type waiter[T any] struct {
	entry entry[T]
	lane  int
	hurry bool
	ready chan struct{} // closed once item is admitted or err is set
	err   error
	over  bool

	report uint64 // relief.reports when it came
}

// totals of a batcher's life. admitted = done + failed + live; what close leaves stays live.
type totals struct {
	admitted, done, failed uint64
	blocked                time.Duration // waited for room, in sum
}

// relief is what the batcher knows of the goroutine that releases failed items, where there is one.
type relief struct {
	reports uint64 // begun so far
	running bool   // the last of them has not ended
}

func newBatcher[T, W any](cfg batcherConfig[T, W]) *batcher[T, W] {
	b := &batcher[T, W]{cfg: cfg, lanes: make([]lane[T, W], cfg.lanes), drained: make(chan struct{}), epochs: []*epoch{newEpoch()}}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b
}

// admit takes a copy of an item into a lane. Without room it waits for it, first come first served, until ctx ends, or is refused
// with ErrBufferFull when wait is false. hurry lets the lane leave without waiting for company.
func (b *batcher[T, W]) admit(ctx context.Context, e *entry[T], lane int, hurry, wait bool) error {
	b.mu.Lock()
	if err := b.refusedLocked(); err != nil {
		b.mu.Unlock()
		return err
	}
	if len(b.waiters) == 0 && b.fitsLocked(e.size) {
		b.enqueueLocked(e, lane, hurry)
		b.mu.Unlock()
		return nil
	}
	w := &waiter[T]{entry: *e, lane: lane, hurry: hurry, ready: make(chan struct{}), report: b.relief.reports}
	if b.hopelessLocked(w) {
		b.mu.Unlock()
		return ErrFailuresPending
	}
	b.hurryLocked() // a full buffer waits for nobody
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
	b.totals.blocked += time.Since(began)
	if w.over {
		return w.err // it was admitted, or refused, while ctx ended: that stands
	}
	b.waiters = slices.DeleteFunc(b.waiters, func(o *waiter[T]) bool { return o == w })
	b.grantLocked() // a smaller item behind this one may fit
	return ended(ctx)
}

func (b *batcher[T, W]) refusedLocked() error {
	if b.closed {
		return ErrClosed
	}
	return b.refusal
}

func (b *batcher[T, W]) fitsLocked(size int) bool {
	return b.cfg.maxItems == 0 || b.buffered < b.cfg.maxItems && b.bytes+size <= b.cfg.maxBytes
}

func (b *batcher[T, W]) enqueueLocked(e *entry[T], lane int, hurry bool) {
	l, size := &b.lanes[lane], e.size
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
	b.totals.admitted++
	b.buffered++
	b.bytes += size
	if hurry {
		l.hurry = was + 1
	}
	if was == 0 {
		l.since = time.Now()
	}
	if b.buffered == b.cfg.maxItems {
		b.hurryLocked()
		return
	}
	// Between the first item and a full batch nothing changes what may leave.
	filled := was+1 == b.lim.count || b.lim.filled(l.bytes) && !b.lim.filled(l.bytes-size)
	if was == 0 || hurry || filled {
		b.dispatchLocked()
	}
}

// hopelessLocked reports whether w could wait for ever: what fills the buffer has failed, and is to be collected by
// whoever admits; or by a report that began before w came, and which may be what admits w.
func (b *batcher[T, W]) hopelessLocked(w *waiter[T]) bool {
	return b.live == 0 && (!b.cfg.relieved || b.relief.running && b.relief.reports == w.report)
}

// grantLocked admits waiters while the first one fits. First come first served: a large item is not passed by.
func (b *batcher[T, W]) grantLocked() {
	n := 0
	for ; n < len(b.waiters); n++ {
		w := b.waiters[n]
		if b.fitsLocked(w.entry.size) {
			b.enqueueLocked(&w.entry, w.lane, w.hurry)
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
		b.hurryLocked()
	}
}

// refuseWaitersLocked sends every waiter away with err.
func (b *batcher[T, W]) refuseWaitersLocked(err error) {
	for _, w := range b.waiters {
		w.err, w.over = err, true
		close(w.ready)
	}
	b.waiters = nil
}

// hurryLocked lets everything that is queued now leave without waiting for company.
func (b *batcher[T, W]) hurryLocked() {
	for i := range b.lanes {
		b.lanes[i].hurry = len(b.lanes[i].pending())
	}
	b.dispatchLocked()
}

// hurry does so for one lane.
func (b *batcher[T, W]) hurry(lane int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes[lane].hurry = len(b.lanes[lane].pending())
	b.dispatchLocked()
}

// release frees the room of failed items that somebody has taken charge of.
func (b *batcher[T, W]) release(items, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releaseLocked(items, bytes)
}

func (b *batcher[T, W]) releaseLocked(items, bytes int) {
	b.buffered -= items
	b.bytes -= bytes
	b.grantLocked()
}

// reporting says that the release of a failed item goes with a report of it, which may admit items. It is over when
// the returned function is called.
func (b *batcher[T, W]) reporting(bytes int) (over func()) {
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
func (b *batcher[T, W]) halt(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal = err
	b.refuseWaitersLocked(err)
}

func (b *batcher[T, W]) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusal = nil
	b.dispatchLocked()
}
