package durable

import (
	"slices"
	"sync"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// registry is the streams of a store. Only its methods take its lock. It may be held when a record is appended, and never
// when the lock of a stream is taken. It may be taken while the lock of a stream is held.
type registry struct {
	mu      sync.RWMutex
	byID    map[string]*stream
	byName  map[string]*stream
	bySID   map[uint32]*stream
	ordered []*stream // oldest first
	nextSID uint32
	removed seglog.Pos // the newest record that deleted a stream
	ended   error      // what is returned from then on
}

func newRegistry() *registry {
	return &registry{byID: map[string]*stream{}, byName: map[string]*stream{}, bySID: map[uint32]*stream{}, nextSID: 1}
}

// add adds a stream that create makes from its number, or returns the one that has the name with store.ErrNameTaken.
func (g *registry) add(name string, create func(sid uint32) *stream) (*stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil {
		return nil, g.ended
	}
	if old := g.byName[name]; old != nil {
		return old, store.ErrNameTaken
	}
	s := create(g.nextSID)
	g.insert(s)
	return s, nil
}

// insert requires the lock. A stream that has the name already was deleted by a record that a repair could not save.
func (g *registry) insert(s *stream) {
	if old := g.byName[s.options.Name]; old != nil {
		g.forget(old)
	}
	g.byID[s.id], g.byName[s.options.Name], g.bySID[s.sid] = s, s, s
	g.ordered = append(g.ordered, s)
	g.nextSID = max(g.nextSID, s.sid+1)
}

// restore inserts a stream of a replay.
func (g *registry) restore(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.insert(s)
}

// reserve makes all numbers below sid used.
func (g *registry) reserve(sid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nextSID = max(g.nextSID, sid)
}

// next returns the number of the next stream.
func (g *registry) next() uint32 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.nextSID
}

// remove removes a stream and calls record, which appends the record, unless it is removed already. The caller has the lock
// of the stream and ends it: a snapshot that sees a stream that has not ended says that it has all records so far.
func (g *registry) remove(s *stream, record func() seglog.Pos) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil {
		return g.ended
	}
	if g.bySID[s.sid] != s {
		return store.ErrNoStream
	}
	g.forget(s)
	g.removed = record()
	return nil
}

// forget requires the lock.
func (g *registry) forget(s *stream) {
	delete(g.byID, s.id)
	delete(g.bySID, s.sid)
	delete(g.byName, s.options.Name)
	g.ordered = slices.DeleteFunc(g.ordered, func(o *stream) bool { return o == s })
}

// end makes everything return err from now on, and ends all streams.
func (g *registry) end(err error) {
	g.mu.Lock()
	if g.ended == nil {
		g.ended = err
	}
	g.mu.Unlock()
	for _, s := range g.all() {
		_ = s.locked(func() error { s.end(err); return nil })
	}
}

// find finds a stream by id or name. An id is preferred to a name that looks like one. It returns the newest record that it
// has seen.
func (g *registry) find(ref string) (*stream, seglog.Pos, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if failed(g.ended) {
		return nil, 0, g.ended
	}
	if s := g.byID[ref]; s != nil {
		return s, s.created, nil
	}
	if s := g.byName[ref]; s != nil {
		return s, s.created, nil
	}
	return nil, g.removed, store.ErrNoStream
}

// number finds a stream by its number, or returns nil.
func (g *registry) number(sid uint32) *stream {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.bySID[sid]
}

// all returns the streams, oldest first.
func (g *registry) all() []*stream {
	all, _ := g.list()
	return all
}

// list returns the streams, oldest first, and the newest record that created or deleted one.
func (g *registry) list() (all []*stream, newest seglog.Pos) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	newest = g.removed
	for _, s := range g.ordered {
		newest = max(newest, s.created)
	}
	return slices.Clone(g.ordered), newest
}

// err returns why the streams have ended.
func (g *registry) err() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.ended
}

// apply applies a record of a replay.
func (g *registry) apply(st *Store, rec seglog.Record) error {
	switch rec.Kind {
	case kindOpened:
		return g.applyOpened(rec)
	case seglog.KindLost:
		g.applyLost(rec.Pos)
		return nil
	}
	if rec.Kind >= kindsEnd {
		return unknownKind(rec)
	}
	s := g.number(rec.Stream)
	switch {
	case (rec.Kind == kindCreateStream || rec.Kind == kindCreateCopy) && s == nil:
		return g.applyCreate(st, rec)
	case s == nil || rec.Pos < s.restored && !s.wantsBelowSnapshot(rec):
		return nil
	case rec.Kind == kindDeleteStream:
		err := g.remove(s, func() seglog.Pos { return rec.Pos })
		s.end(store.ErrNoStream)
		return err
	}
	return s.apply(rec)
}
