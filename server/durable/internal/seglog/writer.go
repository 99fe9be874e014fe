package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// errFinal is in the errors after which Recover cannot help.
var errFinal = errors.New("open the store again")

// writer writes what is queued. One goroutine runs it, from Start until the queue is closed or fails. Nobody else uses its
// fields meanwhile.
type writer struct {
	queue    *queue
	segments *segmentTable
	space    *space
	logger   *slog.Logger
	every    time.Duration // the Policy; at most 0 syncs each group
	markIn   time.Duration
	onSync   func(took time.Duration) // or nil

	file     vfs.File            // of the newest segment that has a header
	ahead    map[uint32]vfs.File // of the segments behind it
	sealed   uint32              // the number of the next segment, once the seal is synced
	unsynced bool                // something other than a mark is written and not synced
	amount   int64               // bytes of that
	marked   bool                // the newest record is a mark
	fresh    bool                // no record of this opening is synced
	timer    *time.Timer         // runs when unsynced: until the sync; or else, when nothing is synced and not marked: until the mark
	syncing  chan error          // gets the result of the sync that runs beside the writes; nil when none runs
	syncTo   Pos                 // what that sync syncs
	due      bool                // another one has to follow it at once
	syncs    atomic.Int64        // of segments
	took     time.Duration       // how long the last sync took, of a policy that syncs each group
	gathered gathered
	stopped  chan struct{} // closed at the end of run; nil before Start
	closing  error         // what failed while the log was closed
}

func (w *writer) run() {
	defer close(w.stopped)
	w.timer = time.NewTimer(w.markIn)
	if w.unsynced { // since before a failure
		w.timer.Reset(w.every)
	}
	defer w.timer.Stop()
	for {
		if err, done := w.step(); done {
			w.queue.fail(cmp.Or(w.awaitSync(), err))
			return
		}
	}
}

// step writes a group or waits for one. When done it returns why nothing more is written.
func (w *writer) step() (err error, done bool) {
	if w.every <= 0 {
		w.gather()
	}
	g, forced, closing := w.queue.next()
	switch {
	case g != nil:
		err = w.write(g)
	case closing:
		if w.closing = w.finish(); w.closing != nil {
			return fmt.Errorf("%w: %w", store.ErrClosed, w.closing), true
		}
		return store.ErrClosed, true
	case !forced || w.syncing != nil:
		select {
		case <-w.queue.wake:
		case <-w.timer.C:
			w.tick()
		case failure := <-w.syncing:
			err = w.endSync(failure)
		}
		return err, err != nil
	}
	if err != nil {
		return err, true
	}
	select {
	case <-w.timer.C:
		w.tick()
	case failure := <-w.syncing:
		err = w.endSync(failure)
	default:
	}
	if err == nil && forced && w.syncing == nil {
		w.beginSync()
	}
	return err, err != nil
}

// tick does what the timer ran for.
func (w *writer) tick() {
	switch {
	case w.unsynced && w.syncing == nil:
		w.beginSync()
	case w.unsynced:
		w.due = true
	case !w.marked && w.syncing == nil:
		w.queue.mark()
	}
}

// write writes a group, and syncs it where it must be synced at once.
func (w *writer) write(g *group) error {
	file, err := w.fileOf(g)
	if err != nil {
		return writeFailure("make", segmentName(max(g.next, g.segment)), err)
	}
	if _, err := file.WriteAt(g.data, g.offset); err != nil {
		return w.cut(g, file, writeFailure("write", segmentName(g.segment), err))
	}
	if g.head != nil {
		w.file.Close() // all of it is synced
		w.file, w.sealed = file, 0
		delete(w.ahead, g.segment)
		w.segments.add(*g.head)
	}
	// The number of an opening is on disk before anybody hears of a record that carries it, so that no other opening gets it.
	// The records of a segment are on disk before the next segment gets one.
	first := w.fresh && !g.mark
	if first {
		if err := w.awaitSync(); err != nil {
			return err
		}
		if err := w.syncFile(w.file, g.segment); err != nil {
			return err
		}
		w.fresh = false
	}
	syncs := !g.mark && (first || w.every <= 0 || g.next != 0)
	end := g.end()
	w.queue.wroteGroup(syncs)
	w.marked = g.mark
	switch {
	case first:
		w.nowSynced(end)
	case syncs:
		w.unsynced = true
		if err := w.sync(); err != nil {
			return err
		}
	case !g.mark:
		w.noteUnsynced(g.length)
	}
	if g.next != 0 {
		w.sealed = g.next
	}
	return nil
}

// fileOf returns the file that the group goes to. The file of the segment behind a seal is made before the seal is written.
func (w *writer) fileOf(g *group) (vfs.File, error) {
	file := w.file
	if g.head != nil {
		var err error
		if file, err = w.openAhead(g.segment, int64(g.head.capacity)); err != nil {
			return nil, err
		}
	}
	if g.next != 0 {
		if _, err := w.openAhead(g.next, w.space.size); err != nil {
			return nil, err
		}
		w.space.prepare()
	}
	return file, nil
}

// openAhead returns the file of a segment that has no header yet.
func (w *writer) openAhead(number uint32, size int64) (vfs.File, error) {
	if f := w.ahead[number]; f != nil {
		return f, allocateMore(f, size)
	}
	f, err := w.space.take(segmentName(number), size)
	if err == nil {
		w.ahead[number] = f
	}
	return f, err
}

// allocateMore makes the file at least size bytes long. It syncs the length.
func allocateMore(f vfs.File, size int64) error {
	if had, err := f.Size(); err != nil || had >= size {
		return err
	}
	if err := f.Allocate(size); err != nil {
		return err
	}
	return f.Sync()
}

// dropAhead gives the files back that were made for segments that the log does not have, and does not name in a seal.
func (w *writer) dropAhead(files []vfs.Info, last uint32) error {
	for n, f := range w.ahead {
		if n != w.sealed {
			f.Close()
			delete(w.ahead, n)
		}
	}
	for _, f := range files {
		if n := segmentNumber(f.Name); n > last && n != w.sealed {
			if err := w.space.giveBack(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// cut makes the log end where it ended before the group, of which a part may be written.
func (w *writer) cut(g *group, file vfs.File, failure error) error {
	err := zero(file, g.offset, g.offset+min(g.length, segmentHeader+recordHeader))
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return inDoubt{fmt.Errorf("%w, and cannot be cut back: %w: %w", failure, err, errFinal)}
	}
	w.logger.Error("a write failed; the log is cut back", "position", position(g.segment, g.offset), "error", failure)
	return failure
}

// finish syncs the log and marks it, so that all of it is known to be synced.
func (w *writer) finish() error {
	if err := w.sync(); err != nil {
		return err
	}
	if w.marked {
		return nil
	}
	w.queue.mark()
	for {
		g, _, _ := w.queue.next()
		if g == nil {
			break
		}
		if err := w.write(g); err != nil {
			return err
		}
	}
	return w.syncFile(w.file, w.queue.tail().Segment())
}

func writeFailure(do, name string, err error) error {
	if vfs.IsFull(err) {
		return fmt.Errorf("%w: %s %s: %w", store.ErrDiskFull, do, name, err)
	}
	return fmt.Errorf("%w: %s %s: %w", store.ErrFailed, do, name, err)
}

// inDoubt is a failure after which records may be on disk whose writers do not hear that they are. It matches
// store.ErrUnknown for those who wait for such a record. What comes later has surely no effect, and gets the failure alone.
type inDoubt struct{ failure error }

func (d inDoubt) Error() string        { return store.ErrUnknown.Error() + ": " + d.failure.Error() }
func (d inDoubt) Is(target error) bool { return target == store.ErrUnknown }
func (d inDoubt) Unwrap() error        { return d.failure }

// withoutDoubt returns the failure alone.
func withoutDoubt(err error) error {
	if d, ok := err.(inDoubt); ok {
		return d.failure
	}
	return err
}
