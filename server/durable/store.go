package durable

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Store is a store in a directory. It starts a goroutine that writes, and one that makes snapshots and cleans. Close ends
// them.
type Store struct {
	dir     string
	options Options
	clock   clock
	log     *seglog.Log
	opening uint64
	readers sync.Pool

	opened      sync.Once    // the first record of the opening is appended
	openedAt    int64        // what it says
	snapshotEnd seglog.Pos   // no record from here on is in the snapshot that was read
	keys        atomic.Int64 // of streams with one message per key
	streams     atomic.Pointer[registry]
	keeper      *keeper
	final       finalFailure
}

var _ store.Store = (*Store)(nil)

// ID implements store.Store.
func (st *Store) ID() string { return uuid.UUID(st.log.ID()).String() }

// append appends a record. It never waits and never fails: a wait for the position does.
func (st *Store) append(kind byte, sid uint32, body []byte) seglog.Pos {
	st.recordOpening()
	pos := st.log.Append(kind, sid, body)
	st.keeper.appended(len(body))
	return pos
}

// recordOpening appends the first record of an opening: when the store was opened. An opening that changes nothing has none.
func (st *Store) recordOpening() {
	st.opened.Do(func() { st.log.Append(kindOpened, 0, binary.AppendInt(nil, st.openedAt)) })
}

// committed waits until a record is committed.
func (st *Store) committed(ctx context.Context, pos seglog.Pos) error {
	if st.log.Committed(pos) {
		return nil
	}
	return st.log.Wait(ctx, pos)
}

// CreateStream implements store.Store.
func (st *Store) CreateStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	return st.createStream(ctx, o, time.Now(), store.CopyMark{})
}

// Stream implements store.Store.
func (st *Store) Stream(ctx context.Context, ref string) (store.Stream, error) {
	s, newest, err := st.streams.Load().find(ref)
	if waited := st.committed(ctx, newest); waited != nil {
		return nil, waited
	}
	if err != nil {
		return nil, err
	}
	return newStreamHandle(s), nil
}

// Streams implements store.Store.
func (st *Store) Streams(ctx context.Context) ([]store.Stream, error) {
	g := st.streams.Load()
	if err := g.err(); failed(err) {
		return nil, err
	}
	all, newest := g.list()
	if err := st.committed(ctx, newest); err != nil {
		return nil, err
	}
	out := make([]store.Stream, 0, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		out = append(out, newStreamHandle(all[i]))
	}
	return out, nil
}

// Consumer implements store.Store.
func (st *Store) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	g := st.streams.Load()
	if err := g.err(); failed(err) {
		return nil, err
	}
	var found *consumer
	ambiguous := false
	for _, s := range g.all() {
		var c *consumer
		_ = s.locked(func() error { c = s.findConsumer(ref); return nil })
		switch {
		case c == nil:
		case c.info.ID == ref:
			return newConsumerHandle(ctx, c)
		case found != nil:
			ambiguous = true
		default:
			found = c
		}
	}
	switch {
	case ambiguous:
		return nil, store.ErrAmbiguous
	case found == nil:
		return nil, store.ErrNoConsumer
	}
	return newConsumerHandle(ctx, found)
}

// Probe implements store.Store. It waits for nothing: a store whose disk hangs answers it.
func (st *Store) Probe(context.Context) error {
	if err := st.streams.Load().err(); err != nil {
		return err
	}
	return st.log.Err()
}

// Close ends every wait, writes a snapshot, so that the next Open is fast, and releases the directory.
func (st *Store) Close() error {
	st.streams.Load().end(store.ErrClosed)
	return st.keeper.close()
}

// failed reports whether what ended a stream or a consumer took its state away: not a Close or a Delete, after which it can
// still be looked at.
func failed(err error) bool {
	return err != nil && err != store.ErrClosed && err != store.ErrNoStream && err != store.ErrNoConsumer
}

// Info says how much the store holds.
type Info struct {
	Streams   int
	Keys      int64 // of streams that keep one message per key
	KeyBytes  int64 // about how much memory their index takes
	DiskBytes int64 // of all segments
	Segments  int
	Syncs     int64 // of the log since Open
}

// Info returns how much the store holds. It reads no files.
func (st *Store) Info() Info {
	i := Info{Streams: len(st.streams.Load().all()), Keys: st.keys.Load(), Syncs: st.log.Syncs()}
	i.KeyBytes = i.Keys * keyindex.BytesPerKey
	for _, s := range st.log.Segments() {
		i.Segments++
		i.DiskBytes += s.Bytes
	}
	return i
}

// Extended implements store.Extended: streams can be purged, and consumers start where their creators say. It does nothing.
func (st *Store) Extended() {}

// KeepsHeaders implements store.KeepsHeaders.
func (st *Store) KeepsHeaders() {}
