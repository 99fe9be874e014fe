package batch

import (
	"context"
	"slices"
	"time"
)

// Config says what an Engine runs, and within which limits.
type Config[T, W any] struct {
	// Lanes is the number of independent queues. Slots is how many batches of one lane may be in flight at once. Both
	// are at least 1.
	Lanes, Slots int
	// FullSlots is optional. It returns how many batches of one lane may be in flight while the next one is full, if that is more
	// than Slots. It is called with the engine's lock held.
	FullSlots func() int
	// MaxLanes is optional. If it is larger than Lanes, the number of lanes adapts between the two: it doubles where that carries more
	// items, and halves while batches are far from full. Both must be powers of two times one number, Slots must be 1, and items go to
	// the lane that Engine.Lane returns for their ID. At most 256. MayGrow is optional; it is called with the engine's lock held, and false
	// keeps the number from growing.
	MaxLanes int
	MayGrow  func() bool
	// Limits returns the limits of a lane's batches. It is called with the engine's lock held, each time the engine looks
	// for batches that may leave, because the limits may change.
	Limits func(lane int) Limits
	// MaxItems and MaxBytes limit the buffered items. If MaxItems is 0 there is no limit. MaxItems grows by LaneItems with each lane
	// beyond Lanes.
	MaxItems, MaxBytes, LaneItems int
	// Linger is how long a batch that is not full waits for more items.
	Linger time.Duration
	// AsyncRelease says that a goroutine of the caller releases failed items with BeginReport, so that an admission may
	// wait for it. Without AsyncRelease the goroutine that admits items also releases failed ones, and could wait for
	// itself.
	AsyncRelease bool
	// Compare is optional. If it is set, a lane in which more than one batch is queued sends its least items first. It is
	// called with the engine's lock held.
	Compare func(a, b T) int
	// Unordered says that the order of items does not matter. Urgent items then leave while their lane backs off, and
	// items that have just been admitted join a batch that is about to run.
	Unordered bool
	// InOrder says that no batch of a lane passes its first candidate. See Result.Aside.
	InOrder bool
	// Part is optional. It returns the Work of a new batch with some of b's items. Without Part that Work is zero. It is
	// called with the engine's lock held.
	Part func(b *Batch[T, W]) W
	// Run makes one attempt at a batch. It must return soon after ctx has ended.
	Run func(ctx context.Context, b *Batch[T, W]) Result[T, W]
	// Done is called once for each item with its final result: nil if it succeeded, Result.Err if it failed, the error
	// given to Drop if it was dropped, or ErrClosed if Close left it. It is called without the engine's lock and must not
	// keep the slice.
	Done func(items []Entry[T], err error)
	// Rest is optional. It is called with the engine's lock held when the engine, which has had no items for a while, frees the
	// memory that it keeps for later ones.
	Rest func()
}

// Limits bound a batch.
type Limits struct {
	Count    int  // most items
	Bytes    int  // most bytes of the items and Overhead together; a single item may exceed it
	Overhead int  // bytes of a request without items
	Distinct bool // no ID twice
}

// filled reports whether items with a total size of bytes make a full batch.
func (l Limits) filled(bytes int) bool { return bytes >= l.Bytes-l.Overhead }

// fill returns how full a batch of these items is, at most 1.
func (l Limits) fill(bytes, items int) float64 {
	return min(1, max(float64(items)/float64(l.Count), float64(bytes)/float64(max(1, l.Bytes-l.Overhead))))
}

// Entry is an item and what the engine needs to know of it.
type Entry[T any] struct {
	Item T
	// Size is how many bytes the item takes in a request.
	Size int
	// ID is equal for items that must keep their order, and that Limits.Distinct keeps out of the same batch. 0 means that
	// the item has no ID. An ID is a hash: if two are equal by chance, one item is delayed by a batch.
	ID uint64

	epoch *epoch // counts the item until its final result
}

// Batch is a list of items that run together.
type Batch[T, W any] struct {
	Items []Entry[T]
	// Work belongs to Run. It is zero at first and is kept while the batch is retried.
	Work W
	// Skipped says that an item with a repeated ID was passed over when this batch was cut.
	Skipped bool
	// Candidate says that the batch runs beside its lane. See Result.Aside.
	Candidate bool
	// Why says why the batch was cut from its queue at Left. It is 0 for a batch that Run has made. The first of its items has
	// waited at least since Since.
	Why         Why
	Since, Left time.Time

	lane  *lane[T, W]
	fresh bool // it was cut and has not run yet
	full  bool // it was cut from enough items to be full

	// Used by candidates only.
	running bool
	behind  bool      // an earlier candidate holds an ID of it
	resume  time.Time // when it may run
}

// Why is a reason for a batch to leave.
type Why uint8

// The reasons. A batch for which several are true has the first.
const (
	whyFull   Why = iota + 1 // as many items as the limits allow
	whyBytes                 // as many bytes
	whyClose                 // Close was called
	whyFlush                 // Flush or FlushLane was called, an urgent item was admitted, or the buffer is full
	whyLinger                // the first item has waited for long enough
	whyIdle                  // nothing was in flight
)

// String returns the name of a reason in lower case.
func (w Why) String() string {
	return [...]string{"", "full", "bytes", "close", "flush", "linger", "idle"}[w]
}

// Halve returns two new batches with the first and second half of b's items, each with a zero Work. The first is the
// smaller one. b must hold at least two items.
func (b *Batch[T, W]) Halve() (left, right *Batch[T, W]) {
	n := len(b.Items) / 2
	return &Batch[T, W]{Items: b.Items[:n:n]}, &Batch[T, W]{Items: b.Items[n:]}
}

// Lane returns the number of the lane that the batch was cut from. It is the number that Config.Limits got.
func (b *Batch[T, W]) Lane() int { return b.lane.number }

// Result is the result of running a batch. Together its lists hold each of the batch's items once.
type Result[T, W any] struct {
	// Done are the items that succeeded. Their room becomes free.
	Done []Entry[T]
	// Failed are the items that failed for good, with Err. They keep their room until Release or BeginReport.
	Failed []Entry[T]
	Err    error
	// Again are batches to run after Wait, in order, before anything else of the lane. Each keeps its Work.
	Again []*Batch[T, W]
	// Aside says that one of the items may be at fault. The batches in Again become candidates: they run beside their lane,
	// which continues with items of other IDs. Later items with an ID of a candidate wait until no candidate holds that ID.
	// The batches in Again of a candidate's Result are candidates too. With Config.InOrder the lane waits until its
	// candidates have run, one after the other.
	Aside bool
	// Wait is how long the lane backs off, or the candidates in Again wait.
	Wait time.Duration
}

// Partition splits items into those to keep and those for which remove returns true. Both parts keep their order. It
// calls remove once for each item, in order. If nothing is removed it returns items itself; otherwise both parts are
// new slices.
func Partition[T any](items []Entry[T], remove func(*Entry[T]) bool) (kept, removed []Entry[T]) {
	first := 0
	for first < len(items) && !remove(&items[first]) {
		first++
	}
	if first == len(items) {
		return items, nil
	}
	kept, removed = slices.Clone(items[:first]), append(removed, items[first])
	for i := first + 1; i < len(items); i++ {
		if e := &items[i]; remove(e) {
			removed = append(removed, *e)
		} else {
			kept = append(kept, *e)
		}
	}
	return kept, removed
}
