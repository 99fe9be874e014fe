package durable

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

const (
	// recoverEvery is how often a store tries to go on after a failed write.
	recoverEvery = time.Second
	// lookEvery is how often the keeper looks for segments that can be removed, in a store to which little is written.
	lookEvery = time.Minute
	// lookAgain is how often it looks while sends are refused because the disk is full.
	lookAgain = time.Second
)

// keeper makes snapshots, cleans, and makes the store usable after a failed write. It runs one goroutine.
type keeper struct {
	store   *Store
	written atomic.Int64  // bytes appended since the last snapshot
	wake    chan struct{} // has room for one
	full    chan struct{} // a send was refused because the disk is full; has room for one
	looked  time.Time
	ctx     context.Context
	stop    context.CancelFunc
	done    chan struct{}
	dead    map[uint32]seglog.Pos // segments without a living message, and where the log ended when that was seen
}

func newKeeper(st *Store) *keeper {
	k := &keeper{store: st, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{})}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

func (k *keeper) start() { go k.run() }

// appended counts what was appended.
func (k *keeper) appended(n int) {
	if k.written.Add(int64(n)) >= k.store.options.SnapshotBytes {
		signal(k.wake)
	}
}

// diskIsFull makes the keeper look for segments that can be removed.
func (k *keeper) diskIsFull() { signal(k.full) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	defer close(k.done)
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.store.log.Failed():
			if err := k.recover(); err != nil {
				if k.ctx.Err() == nil {
					k.store.final.set(err)
				}
				return
			}
		case <-k.wake:
			if k.written.Load() >= k.store.options.SnapshotBytes {
				k.tidy()
			}
		case <-timer.C:
			k.look()
		case <-k.full:
			if time.Since(k.looked) >= lookAgain {
				k.look()
			}
		}
	}
}

// look removes and cleans segments for which no snapshot is due: after the delete of a stream little may be written, and to a
// full disk nothing is. A segment is removed when it was dead before two snapshots.
func (k *keeper) look() {
	k.looked = time.Now()
	for range snapshotsToRemove {
		if !k.worthTidying() {
			return
		}
		// A snapshot at the position of the one before it would take its place.
		k.store.append(kindNothing, 0, nil)
		if !k.tidy() {
			return
		}
	}
}

// snapshotsToRemove is how many calls of tidy remove a segment that has just died.
const snapshotsToRemove = 3

// tidy writes a snapshot, and removes and cleans segments. It reports whether it could. A failure of the log is handled by
// run.
func (k *keeper) tidy() bool {
	what, err := "cannot write a snapshot; the next one is tried later", k.snapshot(k.ctx)
	if err == nil {
		what, err = "cannot clean the log; it is tried again later", k.clean(k.ctx)
	}
	if err != nil && k.ctx.Err() == nil {
		k.store.options.Logger.Warn(what, "error", err)
	}
	return err == nil
}

// recover ends the streams, and reads them again when the log can be written again. It returns an error when it cannot, or
// when the store is closed.
func (k *keeper) recover() error {
	st := k.store
	failure := st.log.Err()
	st.streams.Load().end(failure)
	st.options.Logger.Error("the log cannot be written: no request is answered until it can", "error", failure)
	for {
		err := st.log.Recover()
		if err == nil {
			break
		}
		if err == failure {
			st.options.Logger.Error("the log will not be written again: the store has to be closed", "error", err)
			return err
		}
		select {
		case <-k.ctx.Done():
			return k.ctx.Err()
		case <-time.After(recoverEvery):
		}
	}
	g, err := st.load()
	if err == nil {
		err = st.log.Start()
	}
	if err != nil {
		st.options.Logger.Error("the state cannot be read again: the store has to be closed", "error", err)
		return err
	}
	st.streams.Store(g)
	st.options.Logger.Info("the log is written again", "streams", len(g.all()))
	return nil
}

// close ends the goroutine, writes a last snapshot if something was stored since the one before, and closes the log. Without
// the snapshot, for which a full disk has no room, nothing is lost: the next opening reads more of the log.
func (k *keeper) close() error {
	if k.ctx.Err() != nil {
		<-k.done
		return nil
	}
	k.stop()
	<-k.done
	log := k.store.log
	var err error
	if log.Err() == nil && k.written.Load() > 0 {
		if err = k.snapshot(context.Background()); err != nil && log.Err() == nil {
			k.store.options.Logger.Warn("cannot write a snapshot: nothing is lost, but the next opening takes longer", "error", err)
			err = nil
		}
	}
	return errors.Join(err, log.Close())
}
