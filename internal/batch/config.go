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
	// Limits returns the limits of a lane's batches. It is called with the engine's lock held, each time the engine looks
	// for batches that may leave, because what the server takes may become known late.
	Limits func(lane int) Limits
	// MaxItems and MaxBytes bound what is buffered. MaxItems 0 means that neither bound holds.
	MaxItems, MaxBytes int
	// Linger is how long a batch that is not full waits for more items.
	Linger time.Duration
	// AsyncRelease says that a goroutine of the caller releases failed items with BeginReport, so that an admission may
	// wait for it. Without it, whoever admits items has to release the failed ones too, and could wait for itself.
	AsyncRelease bool
	// Compare is optional: a lane that holds more than one batch then sends its least items first. It is called with the
	// engine's lock held.
	Compare func(a, b T) int
	// Unordered says that the order of items does not matter. Urgent items then leave while their lane backs off, and
	// items that have just been admitted join a batch that is about to run.
	Unordered bool
	// InOrder says that nothing of a lane passes its first candidate. See Result.Aside.
	InOrder bool
	// Part is optional: it returns the Work of a batch that holds some of b's items. Without it that Work is zero. It is
	// called with the engine's lock held.
	Part func(b *Batch[T, W]) W
	// Run makes one attempt at a batch. It returns soon after ctx has ended.
	Run func(ctx context.Context, b *Batch[T, W]) Result[T, W]
	// Done is called once for each item with its final result: nil when it succeeded, the Result's Err when it failed,
	// the error given to Drop, or ErrClosed when Close left it. It is called without the engine's lock and must not keep
	// the slice.
	Done func(items []Entry[T], err error)
}

// Limits bound a batch.
type Limits struct {
	Count    int  // most items
	Bytes    int  // most bytes of the items and Overhead together; a single item may exceed it
	Overhead int  // bytes of a request without items
	Distinct bool // no ID twice
}

// filled reports whether items of so many bytes make a full batch.
func (l Limits) filled(bytes int) bool { return bytes >= l.Bytes-l.Overhead }

// Entry is an item and what the engine needs to know of it.
type Entry[T any] struct {
	Item T
	// Size is how many bytes the item takes in a request.
	Size int
	// ID marks items that must keep their order and may be forbidden to share a batch; 0 means none. It is a hash: two
	// IDs that are equal by chance delay one item by a batch, and do no other harm.
	ID uint64

	epoch *epoch // counts the item until its final result
}

// Batch is what Run gets.
type Batch[T, W any] struct {
	Items []Entry[T]
	// Work belongs to Run. It is zero at first and is kept while the batch is retried.
	Work W
	// Skipped says that an item with a repeated ID was passed over when this batch was cut.
	Skipped bool
	// Candidate says that the batch runs beside its lane. See Result.Aside.
	Candidate bool

	lane  *lane[T, W]
	fresh bool // was cut and has not run yet

	// Of candidates:
	running bool
	behind  bool      // an earlier candidate holds an ID of it
	resume  time.Time // it does not run before
}

// Halve returns two new batches with the first and second half of b's items, each with a zero Work. The first is the
// smaller one. b must hold at least two items.
func (b *Batch[T, W]) Halve() (left, right *Batch[T, W]) {
	n := len(b.Items) / 2
	return &Batch[T, W]{Items: b.Items[:n:n]}, &Batch[T, W]{Items: b.Items[n:]}
}

// Result is what became of a batch that ran. Together its lists hold each of the batch's items once.
type Result[T, W any] struct {
	// Done are the items that succeeded. Their room becomes free.
	Done []Entry[T]
	// Failed are the items that failed for good, with Err. They keep their room until Release or BeginReport.
	Failed []Entry[T]
	Err    error
	// Again are batches to run after Wait, in order, before anything else of the lane. Each keeps its Work.
	Again []*Batch[T, W]
	// Aside says that one of the items may be what makes the server fail. The batches in Again become candidates: they run
	// beside their lane, which goes on with items of other IDs. Later items with an ID of a candidate wait until no
	// candidate holds it. What a candidate's run puts into Again stays a candidate. With Config.InOrder the lane waits
	// for its candidates, one after the other.
	Aside bool
	// Wait is how long the lane backs off, or the candidates in Again wait.
	Wait time.Duration
}

// Partition splits items into those to keep and those for which remove returns true. Both parts keep their order. It
// calls remove once for each item, in order. Where nothing is removed it returns items itself; otherwise both parts are
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
