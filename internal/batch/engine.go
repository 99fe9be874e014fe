package batch

import (
	"context"
	"sync"
	"time"
)

// Engine gathers items into batches and runs them in the background. See the package comment. It is safe for concurrent
// use.
type Engine[T, W any] struct {
	cfg    Config[T, W]
	ctx    context.Context // of every run; ends when Close gives up
	cancel context.CancelCauseFunc

	mu    sync.Mutex // guards state and alarm; held for arithmetic only
	state state[T, W]
	alarm alarm // wakes the engine when a waiting batch becomes due
	rest  rest

	drained     chan struct{} // closed when Close was called and nothing is left to run
	collectLeft sync.Once
	left        []T // what Close left, once collected
}

// New returns an Engine. It starts no goroutine; the first Admit does.
func New[T, W any](cfg Config[T, W]) *Engine[T, W] {
	e := &Engine[T, W]{cfg: cfg, drained: make(chan struct{})}
	e.state = newState(&e.cfg)
	e.alarm.ring = e.tick
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e
}

// Context returns the context of every run. It ends when Close has drained the engine, or gives up.
func (e *Engine[T, W]) Context() context.Context { return e.ctx }

// Stats are the figures of an Engine.
type Stats struct {
	Totals
	// Live is the number of items without a final result, including those that Close left. Bytes is the size of these, and
	// of failed items that have not been released.
	Live, Bytes int
	// Oldest is about when the oldest of them was admitted: at most an eighth of its age too early, or the time between the ends of
	// two batches. It is zero if there is none.
	Oldest time.Time
	// Suspended is the error given to Suspend, until Resume.
	Suspended error
}

// Totals count what has happened since New. At any moment Admitted = Done + Failed + Stats.Live.
type Totals struct {
	Admitted, Done, Failed uint64
	// Blocked is the sum of the times that admissions have waited for room.
	Blocked time.Duration
}

// Stats returns the figures of one moment.
func (e *Engine[T, W]) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	return Stats{Totals: s.totals, Live: s.live, Bytes: s.bytes, Oldest: s.epochs.oldest(), Suspended: s.suspended}
}

// Admit puts a copy of x into a lane. urgent sends the lane's next batch at once, even if it is not full. If there is
// no room, Admit waits for it, first come first served, or until ctx ends. It returns ErrBufferFull instead if wait is
// false, and ErrFailuresPending if the wait could last for ever. After Close it returns ErrClosed, and after Suspend
// the error given to Suspend.
func (e *Engine[T, W]) Admit(ctx context.Context, x *Entry[T], lane int, urgent, wait bool) error {
	e.mu.Lock()
	s := &e.state
	if err := s.refusal(); err != nil {
		e.mu.Unlock()
		return err
	}
	if len(s.waiters) == 0 && s.hasRoom(x.Size) {
		if s.enqueue(x, lane, urgent) {
			e.dispatchLocked()
		}
		e.mu.Unlock()
		return nil
	}
	w := &waiter[T]{entry: *x, lane: lane, urgent: urgent, ready: make(chan struct{}), report: s.reports.begun}
	if s.hopeless(w) {
		e.mu.Unlock()
		return ErrFailuresPending
	}
	s.makeAllUrgent() // a full buffer does not wait for more items
	e.dispatchLocked()
	if !wait {
		e.mu.Unlock()
		return ErrBufferFull
	}
	s.waiters = append(s.waiters, w)
	e.mu.Unlock()
	return e.await(ctx, w)
}

// AdmitSome is Admit for several entries, urgent ones, each with its lane: those at the beginning for which there is room now. It
// returns how many. They leave together: an idle engine does not send the first one alone.
func (e *Engine[T, W]) AdmitSome(xs []Entry[T], lane func(*Entry[T]) int) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.state
	if err := s.refusal(); err != nil {
		return 0, err
	}
	for n < len(xs) && n < maxAdmitted && len(s.waiters) == 0 && s.hasRoom(xs[n].Size) {
		s.enqueue(&xs[n], lane(&xs[n]), true)
		n++
	}
	if n > 0 {
		e.dispatchLocked()
	}
	return n, nil
}

// maxAdmitted is how many entries AdmitSome admits with one lock. It takes about a tenth of a millisecond.
const maxAdmitted = 1_000

// await waits until w is admitted or refused, or ctx ends.
func (e *Engine[T, W]) await(ctx context.Context, w *waiter[T]) error {
	began := time.Now()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.totals.Blocked += time.Since(began)
	if w.over {
		return w.err // w was admitted or refused when ctx ended
	}
	e.state.withdraw(w)
	e.dispatchLocked()
	return ended(ctx)
}

// FlushLane sends what is queued in a lane now without waiting for more items.
func (e *Engine[T, W]) FlushLane(lane int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := &e.state; len(s.lanes) > 0 {
		s.lanes[s.homes[lane]].makeUrgent()
		e.dispatchLocked()
	}
}

// Flush sends everything that was admitted before the call without waiting for more items, and waits for the final
// results. It returns ctx's error, or ErrClosed if Close left some of these items.
func (e *Engine[T, W]) Flush(ctx context.Context) error {
	e.mu.Lock()
	done := e.state.epochs.end()
	e.state.makeAllUrgent()
	e.dispatchLocked()
	e.mu.Unlock()
	if isClosed(done) {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-e.drained:
	}
	if isClosed(done) {
		return nil
	}
	return ErrClosed
}

// Release frees the room of failed items that the caller has taken charge of.
func (e *Engine[T, W]) Release(items, bytes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.releaseLocked(items, bytes)
}

func (e *Engine[T, W]) releaseLocked(items, bytes int) {
	e.state.release(items, bytes)
	e.state.grant()
	e.dispatchLocked()
}

// BeginReport frees the room of one failed item, which the caller reports next. The caller calls end after the report. An
// Admit during the report may come from the report itself, so it returns ErrFailuresPending instead of waiting for the next
// report.
func (e *Engine[T, W]) BeginReport(bytes int) (end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.reports.begun++
	e.state.reports.running = true
	e.releaseLocked(1, bytes)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.state.reports.running = false
	}
}

// Suspend refuses new items with err and lets no batch leave, until Resume. Buffered items wait.
func (e *Engine[T, W]) Suspend(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.suspended = err
	e.state.refuseWaiters(err)
}

// Resume ends a Suspend.
func (e *Engine[T, W]) Resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.suspended = nil
	e.dispatchLocked()
}

// Drop fails the items for which unwanted returns true with err, if they wait in a queue or for a retry. It does not
// change batches in flight. unwanted is called with the engine's lock held. Close does not wait for a Drop unless Run
// made the call; the caller must wait for any other Drop before it uses the results of Close.
func (e *Engine[T, W]) Drop(unwanted func(*T) bool, err error) {
	e.mu.Lock()
	dropped := e.state.remove(unwanted)
	e.mu.Unlock()
	if len(dropped) == 0 {
		return
	}
	e.cfg.Done(dropped, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.fail(tallyOf(dropped))
	e.state.epochs.turn()
	e.restLocked()
}

// Close refuses new items and waits until all others have their final result, or ctx ends. It returns the items that
// are left then, lane by lane in order. They include the items of a batch that was in flight, unless it succeeded.
// cause is ctx's error if any items are left. No goroutine and no timer remains. Close may be called at any time, more
// than once, and concurrently. Whichever ctx ends first ends every call of Close, and all return the same values.
func (e *Engine[T, W]) Close(ctx context.Context) (left []T, cause error) {
	e.mu.Lock()
	if s := &e.state; !s.closed {
		s.closed = true
		s.refuseWaiters(ErrClosed)
		s.makeAllUrgent()
		e.dispatchLocked()
	}
	e.endIfDrainedLocked()
	e.mu.Unlock()
	select {
	case <-e.drained:
	case <-ctx.Done():
		e.giveUp(ended(ctx))
		<-e.drained
	}
	e.collectLeft.Do(func() {
		items := e.state.collect() // without the lock: the state no longer changes
		for i := range items {
			e.left = append(e.left, items[i].Item)
		}
		if len(items) > 0 {
			e.cfg.Done(items, ErrClosed)
		}
	})
	return e.left, e.state.cause
}

// giveUp prevents further runs and cancels those in flight, because the ctx of a Close has ended.
func (e *Engine[T, W]) giveUp(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := &e.state; !s.aborted && s.live > 0 {
		s.aborted, s.cause = true, cause
		e.cancel(ErrClosed)
	}
	e.endIfDrainedLocked()
}

// endIfDrainedLocked ends the engine when Close was called and nothing is left to run.
func (e *Engine[T, W]) endIfDrainedLocked() {
	if !e.state.isDrained() || isClosed(e.drained) {
		return
	}
	e.alarm.set(time.Time{})
	if e.rest.timer != nil {
		e.rest.timer.Stop()
	}
	e.cancel(ErrClosed)
	close(e.drained)
}

// dispatchLocked starts a goroutine for each batch that leaves now.
func (e *Engine[T, W]) dispatchLocked() { e.startLocked(e.leavingLocked()) }

// leavingLocked returns the batches that leave now, and sets the alarm for those that leave later. The slice is reused:
// the caller clears it before it unlocks, so that it keeps no batch alive.
func (e *Engine[T, W]) leavingLocked() []*Batch[T, W] {
	leaving, wake := e.state.dispatch(time.Now())
	e.alarm.set(wake)
	return leaving
}

func (e *Engine[T, W]) startLocked(leaving []*Batch[T, W]) {
	for _, b := range leaving {
		go e.work(b)
	}
	clear(leaving)
}

// tick is called by the alarm. If the alarm is set anew meanwhile, tick finds nothing due and sets it again.
func (e *Engine[T, W]) tick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.alarm.at = time.Time{}
	e.dispatchLocked()
}

// work runs a batch, and then others while any may leave. The goroutine is reused because its stack has already grown to the
// size that a run needs.
func (e *Engine[T, W]) work(b *Batch[T, W]) {
	e.topUp(b)
	for b != nil {
		b = e.runOne(b)
	}
}

// topUp adds the items that have been admitted since a batch was cut. The goroutine of a batch often starts only when a
// goroutine that admits items in a loop pauses. Without topUp an idle engine would send the loop's first item in a
// request of its own, and the others would wait for its end. If order matters there is no topUp, because another batch
// of the lane may have left meanwhile.
func (e *Engine[T, W]) topUp(b *Batch[T, W]) {
	if !e.cfg.Unordered {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.topUp(b, time.Now())
}

// runOne runs a batch and applies its result. It returns one of the batches that leave now, or nil; the others get
// goroutines of their own.
func (e *Engine[T, W]) runOne(b *Batch[T, W]) (next *Batch[T, W]) {
	began := time.Now()
	b.fresh = false
	r := e.cfg.Run(e.ctx, b)
	took := time.Since(began)
	// Done is called without the lock, because it may run code of the program. It is called before the result is applied, so
	// that Flush returns only after Done has been called for every item.
	if len(r.Done) > 0 {
		e.cfg.Done(r.Done, nil)
	}
	if len(r.Failed) > 0 {
		e.cfg.Done(r.Failed, r.Err)
	}
	done, failed := tallyOf(r.Done), tallyOf(r.Failed)
	spare := !b.Candidate && len(r.Done) == len(b.Items) // the other candidates of the lane still look at those of a candidate
	if spare {
		clear(b.Items)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.apply(b, r, done, failed, took)
	if spare {
		b.lane.queue.keepSpare(b.Items)
	}
	if leaving := e.leavingLocked(); len(leaving) > 0 {
		next, leaving[0] = leaving[0], nil
		e.startLocked(leaving[1:])
	}
	e.endIfDrainedLocked()
	e.restLocked()
	return next
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
