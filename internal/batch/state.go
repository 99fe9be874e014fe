package batch

import "time"

// state is what the mutex of an Engine guards. Its methods expect the mutex to be held. They do not wait.
type state[T, W any] struct {
	cfg     *Config[T, W]
	lanes   []*lane[T, W]
	homes   []uint8 // the number of laneAt of each home, which takes too long for each item
	cutter  cutter
	leaving []*Batch[T, W] // scratch space of dispatch

	buffered int // items that take room: live ones, and failed ones that have not been released
	bytes    int // of the buffered items
	live     int // items without a final result
	inFlight int // batches that run, without candidates
	running  int // candidates that run
	totals   Totals

	tuner      tuner
	spreadOver int  // the number of open lanes; 0 while some have to open or close
	failing    bool // the latest batch to end backs off, and no item has had its final result since

	pace    pace
	reports reports
	waiters []*waiter[T] // first come first
	epochs  epochs

	suspended error // see Engine.Suspend
	closed    bool
	aborted   bool  // Close gave up: no batch leaves
	cause     error // why Close gave up
}

func newState[T, W any](cfg *Config[T, W]) state[T, W] {
	s := state[T, W]{cfg: cfg, tuner: newTuner(cfg.Lanes, cfg.mostLanes()), spreadOver: cfg.Lanes, epochs: newEpochs()}
	s.addLanes(cfg.Lanes)
	s.homes = make([]uint8, cfg.mostLanes())
	s.findHomes()
	return s
}

// makeAllUrgent sends everything that is queued now without waiting for more items.
func (s *state[T, W]) makeAllUrgent() {
	for _, l := range s.lanes {
		l.makeUrgent()
	}
}

// apply applies the result of a batch. took is how long the batch ran.
func (s *state[T, W]) apply(b *Batch[T, W], r Result[T, W], took time.Duration) {
	l := b.lane
	if b.Candidate {
		s.running--
	} else {
		l.inFlight--
		s.inFlight--
		if len(r.Done)+len(r.Failed) > 0 {
			s.pace.record(took)
		}
	}
	s.succeed(r.Done)
	s.fail(r.Failed)
	if final := len(r.Done)+len(r.Failed) > 0; final || r.Wait > 0 {
		s.failing = !final
	}
	now := time.Now()
	l.putBack(b, r, now, s.cfg.InOrder)
	if len(r.Done) == len(b.Items) {
		l.keepSpare(b.Items, s.cfg.Slots)
	}
	s.epochs.turn()
	s.epochs.split(now)
	s.adapt(b, r, now)
	s.grant()
}

// succeed counts items as done and frees their room.
func (s *state[T, W]) succeed(items []Entry[T]) {
	s.complete(items)
	s.totals.Done += uint64(len(items))
	s.buffered -= len(items)
	for i := range items {
		s.bytes -= items[i].Size
	}
}

// fail counts items as failed. They keep their room.
func (s *state[T, W]) fail(items []Entry[T]) {
	s.complete(items)
	s.totals.Failed += uint64(len(items))
}

func (s *state[T, W]) complete(items []Entry[T]) {
	for i := range items {
		items[i].epoch.live--
	}
	s.live -= len(items)
}

// remove removes the unwanted items from the queues and from the batches that wait to run again.
func (s *state[T, W]) remove(unwanted func(*T) bool) (removed []Entry[T]) {
	for i := range s.lanes {
		removed = append(removed, s.lanes[i].remove(unwanted, s.cfg.Part)...)
	}
	return removed
}

// isDrained reports whether Close was called and nothing is left to run.
func (s *state[T, W]) isDrained() bool {
	return s.closed && s.inFlight+s.running == 0 && (s.live == 0 || s.aborted)
}

// collect returns the items that Close left, lane by lane in order.
func (s *state[T, W]) collect() (left []Entry[T]) {
	for i := range s.lanes {
		left = s.lanes[i].appendTo(left)
	}
	return left
}
