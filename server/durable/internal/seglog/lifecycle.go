package seglog

import (
	"errors"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Start starts the goroutine that writes. It comes after Replay, and after Recover.
func (l *Log) Start() error {
	if err := l.Err(); err != nil {
		return err
	}
	l.writer.stopped = make(chan struct{})
	go l.writer.run()
	return nil
}

// Recover makes a log usable whose write has failed, and returns nil for one that has not failed. The caller then reads its
// state again, with ReadSnapshot and Replay, and calls Start. The records that were not written stay lost: Wait returns
// the failure for them. Recover returns the failure when that is final, and store.ErrDiskFull, wrapped, while there is no
// room for a segment.
func (l *Log) Recover() error {
	failed := l.Err()
	if failed == nil || errors.Is(failed, errFinal) || errors.Is(failed, store.ErrClosed) || errors.Is(failed, store.ErrReadOnly) {
		return failed
	}
	<-l.writer.stopped
	heads := l.segments.heads()
	last := heads[len(heads)-1]
	files, err := l.o.FS.List(l.dir)
	if err == nil {
		err = l.writer.dropAhead(files, last.number)
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.dir)
	}
	if err == nil {
		err = l.space.ensure()
	}
	if err != nil {
		return writeFailure("make", spareFile, err)
	}
	l.queue.recover(last, l.Written(), l.writer.sealed)
	return nil
}

// Close writes and syncs what is appended, ends the goroutine of Start, and releases the lock. Afterwards Wait returns
// store.ErrClosed for what is appended. Close returns the error of the last writes. Only the first call does anything.
func (l *Log) Close() error {
	if l.queue.close() {
		return nil
	}
	var err error
	if l.writer.stopped != nil {
		<-l.writer.stopped
		err = l.writer.closing
	}
	l.queue.fail(store.ErrClosed) // if the writer was not started
	if l.space != nil {
		l.space.wait()
	}
	l.release()
	return err
}

// release closes the files.
func (l *Log) release() {
	if l.writer != nil {
		l.writer.file.Close()
		for _, f := range l.writer.ahead {
			f.Close()
		}
	}
	if l.segments != nil {
		l.segments.close()
	}
	if l.lock != nil {
		l.lock.Close()
	}
}
