package seglog

import (
	"fmt"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sync syncs everything that is written.
func (w *writer) sync() error {
	if err := w.awaitSync(); err != nil {
		return err
	}
	written := Pos(w.queue.written.Load())
	began := time.Now()
	if written != Pos(w.queue.durable.Load()) {
		if err := w.syncFile(w.file, written.Segment()); err != nil {
			return err
		}
	}
	w.took = time.Since(began)
	w.nowSynced(written)
	return nil
}

func (w *writer) nowSynced(end Pos) {
	w.unsynced, w.amount, w.due = false, 0, false
	w.queue.synced(end)
	w.timer.Reset(w.markIn)
}

// syncBytes is how many bytes are synced before their time, so that the disk writes all the time. Without it a fast disk would be idle
// for the first part of a burst. They take some 30 ms on a disk of 260 MB/s, of which the sync itself takes one.
const syncBytes = 8 << 20

// noteUnsynced notes that a group is written, of a policy that does not sync each.
func (w *writer) noteUnsynced(bytes int64) {
	if !w.unsynced {
		w.unsynced = true
		w.timer.Reset(w.every)
	}
	if w.amount += bytes; w.amount < syncBytes {
		return
	}
	if w.due = w.syncing != nil; !w.due {
		w.beginSync()
	}
}

// beginSync starts a sync of what is written, in a goroutine that ends with it. Groups are written meanwhile, since nobody
// waits for a sync before the answer. No sync may run.
func (w *writer) beginSync() {
	w.unsynced, w.amount, w.due = false, 0, false
	w.syncTo = Pos(w.queue.written.Load())
	w.syncing = make(chan error, 1)
	go func(file vfs.File, end Pos, needed bool, done chan<- error) {
		if needed {
			done <- w.syncFile(file, end.Segment())
			return
		}
		done <- nil
	}(w.file, w.syncTo, w.syncTo != Pos(w.queue.durable.Load()), w.syncing)
}

// endSync takes the result of the sync that beginSync has started.
func (w *writer) endSync(failure error) error {
	w.syncing = nil
	if failure != nil {
		return failure
	}
	w.queue.synced(w.syncTo)
	switch {
	case w.due:
		w.beginSync()
	case !w.unsynced:
		w.timer.Reset(w.markIn)
	}
	return nil
}

// awaitSync waits until no sync runs, and returns why the last one failed.
func (w *writer) awaitSync() error {
	for w.syncing != nil {
		w.due = false // the caller syncs, or ends
		if err := w.endSync(<-w.syncing); err != nil {
			return err
		}
	}
	return nil
}

// syncFile syncs a segment. A sync that fails is not tried again: the system may have dropped what it could not
// write, and would report success.
func (w *writer) syncFile(file vfs.File, segment uint32) error {
	w.syncs.Add(1)
	began := time.Now()
	err := file.Sync()
	if w.onSync != nil {
		w.onSync(time.Since(began))
	}
	if err != nil {
		return inDoubt{fmt.Errorf("%w: sync %s: %w: %w", store.ErrFailed, segmentName(segment), err, errFinal)}
	}
	return nil
}
