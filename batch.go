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
// There is no standing goroutine. Each batch in flight has one; whoever changes the state (an admission, a batch that
// ended, the timer) decides under mu which batches leave next. So nothing can be admitted that nobody will run.
type batcher[T item, W any] struct {
	cfg batcherConfig[T, W]
	ctx context.Context // of every run; ends when close gives up

	mu       sync.Mutex // guards all below; held for arithmetic only
	lanes    []lane[T, W]
	cutter   cutter
	buffered int  // items that hold room: live ones, and failed ones that nobody has released
	bytes    int  // of those
	live     int  // items that are not complete yet
	inFlight int  // batches running
	pace     pace // how long they took lately
	waiters  []*waiter[T]
	epochs   []*epoch // of flush, oldest first; the last one takes new items
	refusal  error    // why nothing is admitted and nothing leaves: see halt
	closed   bool
	aborted  bool // close gave up: nothing leaves any more
	admitted uint64
	blocked  time.Duration // waited for room, in sum
	timer    *time.Timer
	wake     time.Time // when timer fires; zero when it does not

	cancel  context.CancelCauseFunc
	drained chan struct{} // closed when closed and nothing is left to run
	gather  sync.Once
	left    []T
	cause   error // why close gave up
}

type batcherConfig[T item, W any] struct {
	lanes, slots int
	limits       func() limits // asked at every cut: what the stream takes may become known late
	maxItems     int           // buffered at most; 0 is unbounded
	maxBytes     int
	linger       time.Duration
	// first, where set, orders a lane that holds more than a batch: the least go first.
	first func(a, b T) int
	// run makes one attempt at a batch, and returns soon after ctx has ended.
	run func(ctx context.Context, b *batch[T, W]) verdict[T, W]
	// done is told once of each item how it ended. It is called outside mu, and must not keep the slice.
	done func(items []entry[T], err error)
}

// entry is an item inside the batcher.
type entry[T item] struct {
	item  T
	epoch *epoch
}

func (e entry[T]) cost() int  { return e.item.cost() }
func (e entry[T]) id() uint64 { return e.item.id() }

// batch is what run gets. Work is run's own, zero at first, and kept while the batch is tried again.
type batch[T item, W any] struct {
	items   []entry[T]
	work    W
	skipped bool // a repeated id was passed over when this was cut
	witness bool // runs in place of a stuck batch; see verdict
	lane    *lane[T, W]
}

// verdict is what became of a batch that ran. Together its lists hold each of the batch's items once.
type verdict[T item, W any] struct {
	done   []entry[T] // complete; their room is free
	failed []entry[T] // complete with err; their room is the owner's to release
	err    error

	// again runs these next, before anything else of the lane, after wait. A batch keeps its work.
	again []*batch[T, W]
	// stuck runs this one after wait, alternating with other batches of the lane that share no id with it.
	stuck *batch[T, W]
	// requeue puts these back at the lane's head, to be cut anew.
	requeue []entry[T]
	wait    time.Duration
}

// lane is a queue of items and the batches that come before it.
type lane[T item, W any] struct {
	queue    []entry[T]
	head     int       // where queue begins: what is before it has left
	bytes    int       // of the queue
	since    time.Time // how long its first item has waited at least
	hurry    int       // so many of its first items wait for nobody
	redo     []*batch[T, W]
	stuck    *batch[T, W]
	turn     bool // the stuck batch is next, not its witness
	inFlight int
	resume   time.Time // end of the backoff
	spare    []entry[T]
}

func (l *lane[T, W]) pending() []entry[T] { return l.queue[l.head:] }

// waiter is an admission that found no room.
type waiter[T item] struct {
	item  T
	lane  int
	hurry bool
	ready chan struct{} // closed once item is admitted or err is set
	err   error
	over  bool
}

// epoch counts the items admitted between two flushes.
type epoch struct {
	live int
	done chan struct{}
}

func newBatcher[T item, W any](cfg batcherConfig[T, W]) *batcher[T, W] {
	b := &batcher[T, W]{cfg: cfg, lanes: make([]lane[T, W], cfg.lanes), drained: make(chan struct{}), epochs: []*epoch{newEpoch()}}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	return b
}

func newEpoch() *epoch { return &epoch{done: make(chan struct{})} }

// admit takes an item into a lane. Without room it waits for it, first come first served, until ctx ends, or is refused
// with ErrBufferFull when wait is false. hurry lets the lane leave without waiting for company.
func (b *batcher[T, W]) admit(ctx context.Context, it T, lane int, hurry, wait bool) error {
	if err := ctx.Err(); err != nil {
		return ended(ctx)
	}
	b.mu.Lock()
	if err := b.refusedLocked(); err != nil {
		b.mu.Unlock()
		return err
	}
	if len(b.waiters) == 0 && b.fitsLocked(it) {
		b.enqueueLocked(it, lane, hurry)
		b.mu.Unlock()
		return nil
	}
	if b.live == 0 {
		// What fills the buffer has failed and waits to be collected, perhaps by the caller: waiting could last for ever.
		b.mu.Unlock()
		return ErrFailuresPending
	}
	if !wait {
		b.mu.Unlock()
		return ErrBufferFull
	}
	w := &waiter[T]{item: it, lane: lane, hurry: hurry, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.hurryLocked() // a full buffer waits for nobody
	b.mu.Unlock()
	began := time.Now()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocked += time.Since(began)
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

func (b *batcher[T, W]) fitsLocked(it T) bool {
	return b.cfg.maxItems == 0 || b.buffered < b.cfg.maxItems && b.bytes+it.cost() <= b.cfg.maxBytes
}

func (b *batcher[T, W]) enqueueLocked(it T, lane int, hurry bool) {
	l, size, e := &b.lanes[lane], it.cost(), b.epochs[len(b.epochs)-1]
	was := len(l.queue) - l.head
	if l.head > was && len(l.queue) == cap(l.queue) {
		l.queue = append(l.queue[:0], l.pending()...) // rather than grow
		clear(l.queue[was:cap(l.queue)])
		l.head = 0
	}
	l.queue = append(l.queue, entry[T]{it, e})
	l.bytes += size
	e.live++
	b.live++
	b.admitted++
	b.buffered++
	b.bytes += size
	if hurry {
		l.hurry = was + 1
	}
	if was == 0 {
		l.since = time.Now()
	}
	// Between the first item and a full batch nothing changes what may leave.
	if lim := b.cfg.limits(); was == 0 || hurry || was+1 == lim.count || l.bytes >= lim.bytes && l.bytes-size < lim.bytes {
		b.dispatchLocked(false)
	}
}

// grantLocked admits waiters while the first one fits. First come first served: a large item is not passed by.
func (b *batcher[T, W]) grantLocked() {
	n := 0
	for ; n < len(b.waiters); n++ {
		w := b.waiters[n]
		if !b.fitsLocked(w.item) {
			if b.live > 0 {
				break
			}
			w.err = ErrFailuresPending
		} else {
			b.enqueueLocked(w.item, w.lane, w.hurry)
		}
		w.over = true
		close(w.ready)
	}
	b.waiters = slices.Delete(b.waiters, 0, n)
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
	b.dispatchLocked(false)
}

// hurry does so for one lane.
func (b *batcher[T, W]) hurry(lane int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes[lane].hurry = len(b.lanes[lane].pending())
	b.dispatchLocked(false)
}

// release frees the room of failed items that somebody has taken charge of.
func (b *batcher[T, W]) release(items, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buffered -= items
	b.bytes -= bytes
	b.grantLocked()
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
	b.dispatchLocked(true)
}

// flush waits until everything that was admitted before the call is complete, without waiting for company. The error is
// that of ctx, or ErrClosed when close gave up on some of it.
func (b *batcher[T, W]) flush(ctx context.Context) error {
	b.mu.Lock()
	e := b.epochs[len(b.epochs)-1]
	b.epochs = append(b.epochs, newEpoch())
	b.turnEpochsLocked()
	b.hurryLocked()
	b.mu.Unlock()
	select {
	case <-e.done:
		return nil
	default:
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-b.drained:
	}
	select {
	case <-e.done:
		return nil
	default:
		return ErrClosed
	}
}

// turnEpochsLocked ends the epochs that have nothing left, in their order.
func (b *batcher[T, W]) turnEpochsLocked() {
	for len(b.epochs) > 1 && b.epochs[0].live == 0 {
		close(b.epochs[0].done)
		b.epochs[0] = nil
		b.epochs = b.epochs[1:]
	}
}

// close refuses new items and waits until all others are complete or ctx ends. What is left then is returned, lane by
// lane in order, the same at every call; a batch in flight at that moment is among it unless it succeeded. No goroutine
// and no timer remains. It may be called at any time, also beside itself: the first ctx that ends counts.
func (b *batcher[T, W]) close(ctx context.Context) (left []T, cause error) {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		b.refuseWaitersLocked(ErrClosed)
		b.hurryLocked()
	}
	b.checkDrainedLocked()
	b.mu.Unlock()
	select {
	case <-b.drained:
	case <-ctx.Done():
		b.mu.Lock()
		if !b.aborted && b.live > 0 {
			b.aborted, b.cause = true, ended(ctx)
			b.cancel(ErrClosed)
		}
		b.checkDrainedLocked()
		b.mu.Unlock()
		<-b.drained
	}
	b.gather.Do(b.gatherLeft)
	return b.left, b.cause
}

func (b *batcher[T, W]) checkDrainedLocked() {
	if !b.closed || b.inFlight > 0 || b.live > 0 && !b.aborted {
		return
	}
	select {
	case <-b.drained:
	default:
		b.setTimerLocked(time.Time{})
		b.cancel(ErrClosed)
		close(b.drained)
	}
}

// gatherLeft runs after drained, when nothing changes any more.
func (b *batcher[T, W]) gatherLeft() {
	var left []entry[T]
	for i := range b.lanes {
		l := &b.lanes[i]
		if l.stuck != nil {
			left = append(left, l.stuck.items...)
		}
		for _, again := range l.redo {
			left = append(left, again.items...)
		}
		left = append(left, l.pending()...)
	}
	for _, e := range left {
		b.left = append(b.left, e.item)
	}
	if len(left) > 0 {
		b.cfg.done(left, ErrClosed)
	}
}
