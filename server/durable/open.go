package durable

import (
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Open opens the store in a directory, which it makes with mode 0700 if there is none. It reads the newest snapshot and what
// was stored since, and of streams that keep one message per key all messages.
//
// The errors match store errors: another process uses the directory (the error names it), the directory has another version,
// it cannot be written, or it is damaged: the error then names the file and the offset, and nothing is changed. What a crash
// has cut off at the end of the log is no damage.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	log, err := seglog.Open(dir, o.log())
	if err != nil {
		return nil, err
	}
	st := &Store{dir: dir, options: o, log: log, clock: clock{time.Now()}, opening: uint64(log.Opening()), final: newFinalFailure()}
	st.readers.New = func() any { return log.NewReader() }
	st.keeper = newKeeper(st)
	g, err := st.load()
	if err == nil {
		err = log.Start()
	}
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	st.streams.Store(g)
	if o.repaired != nil {
		if err := st.repaired(g); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	st.keeper.start()
	return st, nil
}

// load makes the streams from the newest snapshot and the log.
func (st *Store) load() (*registry, error) {
	g := newRegistry()
	st.keys.Store(0)
	st.opened = sync.Once{}
	st.snapshotEnd = math.MaxUint64
	from, err := st.log.ReadSnapshot(func(r io.Reader) error { return st.readSnapshot(r, g) })
	if err != nil {
		return nil, err
	}
	if st.rebuilds(g) {
		from = st.log.Segments()[0].First
	}
	if err := st.log.Replay(from, func(rec seglog.Record) error { return g.apply(st, rec) }); err != nil {
		return nil, err
	}
	st.snapshotEnd = 0
	st.openedAt = st.clock.now()
	for _, s := range g.all() {
		if s.keyed != nil {
			s.keyed.finish(s.first)
		}
		s.applyOpened(st.openedAt, math.MaxUint64)
		for _, c := range s.consumers {
			c.window.readTo(c.backlog.Next())
		}
	}
	return g, nil
}

// rebuilds reports whether a stream of the snapshot needs all segments, because the snapshot has no index of its keys.
func (st *Store) rebuilds(g *registry) bool {
	for _, s := range g.all() {
		if s.keyed != nil {
			return true
		}
	}
	return false
}

func (g *registry) applyOpened(rec seglog.Record) error {
	in := binary.NewReader(rec.Body)
	now := in.Int()
	if in.Err() != nil {
		return undecodable(rec)
	}
	for _, s := range g.all() {
		if rec.Pos >= s.restored {
			s.applyOpened(now, rec.Pos)
		}
	}
	return nil
}

// applyLost notes that records are missing, which a repair could not save.
func (g *registry) applyLost(pos seglog.Pos) {
	for _, s := range g.all() {
		for _, c := range s.consumersAt(pos) {
			c.backlog.Lost()
		}
	}
}

func (g *registry) applyCreate(st *Store, rec seglog.Record) error {
	in := binary.NewReader(rec.Body)
	id, at, options := readStream(in)
	mark := store.CopyMark{}
	if rec.Kind == kindCreateCopy {
		mark = readCopyMark(in)
	}
	if in.Err() != nil {
		return undecodable(rec)
	}
	if rec.Stream < g.next() {
		return nil // it was deleted before the snapshot
	}
	s := newStream(st, g, rec.Stream, rec.Pos, id, at, options)
	s.mark = mark
	g.restore(s)
	return nil
}
