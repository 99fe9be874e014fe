package batch

import "time"

// state is what the mutex of an Engine guards. Its methods expect the mutex to be held. They do not wait.
type state[T, W any] struct {
	cfg     *Config[T, W]
	lanes   []*lane[T, W] // none while the engine rests
	homes   []uint8       // the number of laneAt of each home, which takes too long for each item
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
	return state[T, W]{cfg: cfg, homes: make([]uint8, cfg.mostLanes()),
		tuner: newTuner(cfg.Lanes, cfg.mostLanes()), spreadOver: cfg.Lanes, epochs: newEpochs()}
}

// makeAllUrgent sends everything that is queued now without waiting for more items.
func (s *state[T, W]) makeAllUrgent() {
	for _, l := range s.lanes {
		l.makeUrgent()
	}
}

// tally is what the state has to know about items that got their final result. It is computed without the mutex.
type tally struct {
	items, bytes int
	of           []epochItems
}

// epochItems is how many of the items an epoch counts.
type epochItems struct {
	epoch *epoch
	items int
}

func tallyOf[T any](items []Entry[T]) tally {
	t := tally{items: len(items), bytes: sizeOf(items)}
	var of *epochItems
	for i := range items {
		if e := items[i].epoch; of == nil || of.epoch != e {
			t.of = append(t.of, epochItems{epoch: e})
			of = &t.of[len(t.of)-1]
		}
		of.items++
	}
	return t
}

// apply applies the result of a batch, with the tallies of its lists. took is how long the batch ran.
func (s *state[T, W]) apply(b *Batch[T, W], r Result[T, W], done, failed tally, took time.Duration) {
	l := b.lane
	if b.Candidate {
		s.running--
	} else {
		l.inFlight--
		s.inFlight--
		if done.items+failed.items > 0 {
			s.pace.record(took)
		}
	}
	s.succeed(done)
	s.fail(failed)
	if final := done.items+failed.items > 0; final || r.Wait > 0 {
		s.failing = !final
	}
	now := time.Now()
	l.putBack(b, r, now, s.cfg.InOrder)
	s.epochs.turn()
	s.epochs.split(now)
	s.adapt(b, r, now)
	s.grant()
}

// succeed counts items as done and frees their room.
func (s *state[T, W]) succeed(t tally) {
	s.complete(t)
	s.totals.Done += uint64(t.items)
	s.buffered -= t.items
	s.bytes -= t.bytes
}

// fail counts items as failed. They keep their room.
func (s *state[T, W]) fail(t tally) {
	s.complete(t)
	s.totals.Failed += uint64(t.items)
}

func (s *state[T, W]) complete(t tally) {
	for _, of := range t.of {
		of.epoch.live -= of.items
	}
	s.live -= t.items
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
