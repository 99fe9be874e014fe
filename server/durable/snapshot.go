package durable

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	wire "github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A snapshot is a sequence of parts, each with its kind, its length, and its body. Each stream and each consumer is copied
// on its own, and says up to which position of the log it is complete, so that nothing has to stand still for long. It does
// not have the index of a stream with one message per key: that is made again from the segments.
const (
	partEnd byte = iota
	partStore
	partStream
	partConsumer
	partSuccesses
	partConsumerAt // of one that does not start at the beginning
)

// snapshot writes a snapshot.
func (k *keeper) snapshot(ctx context.Context) error {
	st := k.store
	counted := k.written.Load()
	from := st.log.End()
	err := st.log.WriteSnapshot(ctx, from, func(w io.Writer) error { return st.writeSnapshot(ctx, w) })
	if err == nil {
		k.written.Add(-counted)
	}
	return err
}

func (st *Store) writeSnapshot(ctx context.Context, w io.Writer) error {
	g := st.streams.Load()
	if err := writePart(w, partStore, wire.AppendUint(nil, uint64(g.next()))); err != nil {
		return err
	}
	for _, s := range g.all() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.writeSnapshot(w); err != nil {
			return err
		}
	}
	return writePart(w, partEnd, nil)
}

func writePart(w io.Writer, kind byte, body []byte) error {
	head := binary.AppendUvarint([]byte{kind}, uint64(len(body)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// writeSnapshot writes the stream and its consumers.
func (s *stream) writeSnapshot(w io.Writer) error {
	var body []byte
	var sent []success
	var consumers []*consumer
	err := s.locked(func() error {
		if failed(s.ended) || s.ended == store.ErrNoStream {
			return s.ended
		}
		body = s.appendTo(nil)
		sent = s.sent.frozen()
		consumers = append(consumers, s.consumers...)
		return nil
	})
	if errors.Is(err, store.ErrNoStream) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := writePart(w, partStream, body); err != nil {
		return err
	}
	if err := writePart(w, partSuccesses, appendSuccesses(wire.AppendUint(nil, uint64(s.sid)), sent)); err != nil {
		return err
	}
	for _, c := range consumers {
		err := s.locked(func() error {
			if c.ended == store.ErrNoConsumer {
				return c.ended
			}
			body = c.appendTo(body[:0])
			return nil
		})
		kind := partConsumer
		if c.info.Start > 1 { // it never changes
			kind = partConsumerAt
		}
		if err == nil {
			err = writePart(w, kind, body)
		}
		if err != nil && err != store.ErrNoConsumer {
			return err
		}
	}
	return nil
}

// appendTo appends the stream without its consumers and without the sends that it remembers.
func (s *stream) appendTo(dst []byte) []byte {
	dst = wire.AppendUint(dst, uint64(s.sid))
	dst = wire.AppendUint(dst, uint64(s.store.log.End()))
	dst = appendStream(dst, s.id, s.at, s.options)
	for _, n := range []int64{s.first, s.last, s.lastAt, int64(s.nextCID)} {
		dst = wire.AppendInt(dst, n)
	}
	if s.keyed == nil {
		dst = s.appended.appendTo(dst)
	}
	if s.mark != (store.CopyMark{}) { // a stream without a mark is written as it was before there were marks
		dst = appendCopyMark(dst, s.mark)
	}
	return dst
}

func (l *appendedLog) appendTo(dst []byte) []byte {
	dst = wire.AppendInt(dst, l.bytes)
	dst = wire.AppendUint(dst, uint64(len(l.entries)))
	var last indexEntry
	for _, e := range l.entries {
		dst = wire.AppendInt(dst, e.first-last.first)
		dst = wire.AppendInt(dst, int64(e.pos-last.pos))
		last = e
	}
	dst = wire.AppendUint(dst, uint64(len(l.spans)))
	for _, s := range l.spans {
		dst = wire.AppendInt(dst, s.last)
		dst = wire.AppendInt(dst, s.size)
		dst = wire.AppendUint(dst, uint64(s.segment))
	}
	return appendRanges(appendRanges(dst, l.holes.lost()), l.holes.purged())
}

func (l *appendedLog) readFrom(in *wire.Reader) {
	l.bytes = in.Int()
	var e indexEntry
	for range in.Count(2) {
		e.first += in.Int()
		e.pos += seglog.Pos(in.Int())
		l.entries = append(l.entries, e)
	}
	for range in.Count(3) {
		l.spans = append(l.spans, span{in.Int(), in.Int(), uint32(in.Uint())})
	}
	if len(in.Rest()) == 0 {
		return // snapshots of version 1 have no holes
	}
	for _, r := range readRanges(in) {
		l.holes = append(l.holes, hole{first: r.First, last: r.Last})
	}
	if len(in.Rest()) > 0 { // snapshots of version 2 have no purged ones
		if purged := readRanges(in); len(purged) > 0 {
			l.holes = l.holes.purge(purged)
		}
	}
	l.missing = l.holes.size()
}

func (c *consumer) appendTo(dst []byte) []byte {
	dst = wire.AppendUint(dst, uint64(c.stream.sid))
	dst = wire.AppendUint(dst, uint64(c.stream.store.log.End()))
	r := consumerRecord{c.cid, c.info.ID, c.info.InsertedAt.UnixNano(), c.info.ConsumerOptions}
	dst = r.appendTo(dst)
	dst = wire.AppendInt(dst, c.info.UpdatedAt.UnixNano())
	return c.backlog.AppendTo(dst)
}

// readSnapshot makes the streams of a snapshot.
func (st *Store) readSnapshot(r io.Reader, g *registry) error {
	b := bufio.NewReaderSize(r, 1<<16)
	for {
		kind, err := b.ReadByte()
		if err != nil {
			return fmt.Errorf("read a snapshot: %w", err)
		}
		n, err := binary.ReadUvarint(b)
		if err != nil {
			return fmt.Errorf("read a snapshot: %w", err)
		}
		body, err := io.ReadAll(io.LimitReader(b, int64(n)))
		if err != nil || uint64(len(body)) < n {
			return fmt.Errorf("read a snapshot: part of kind %d: %w", kind, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if kind == partEnd {
			return nil
		}
		in := wire.NewReader(body)
		st.readPart(kind, in, g)
		if in.Err() != nil {
			return fmt.Errorf("read a snapshot: part of kind %d: %w", kind, store.ErrDamaged)
		}
	}
}

func (st *Store) readPart(kind byte, in *wire.Reader, g *registry) {
	switch kind {
	case partStore:
		g.reserve(uint32(in.Uint()))
	case partStream:
		if s := st.readStream(in, g); in.Err() == nil {
			g.restore(s)
		}
	case partSuccesses:
		if s := g.number(uint32(in.Uint())); s != nil {
			s.sent = readSuccesses(in)
		}
	case partConsumer, partConsumerAt:
		if s := g.number(uint32(in.Uint())); s != nil {
			if c := s.readConsumer(in, kind == partConsumerAt); in.Err() == nil {
				s.consumers = append(s.consumers, c)
			}
		}
	}
}

func (st *Store) readStream(in *wire.Reader, g *registry) *stream {
	sid, restored := uint32(in.Uint()), seglog.Pos(in.Uint())
	id, at, options := readStream(in)
	s := newStream(st, g, sid, 0, id, at, options)
	s.restored = restored
	s.first, s.last, s.lastAt, s.nextCID = in.Int(), in.Int(), in.Int(), uint64(in.Int())
	if s.keyed == nil {
		s.appended.readFrom(in)
		s.appended.sizes.first = s.first
	} else {
		s.keyed.build = &keyindex.Builder{}
	}
	if len(in.Rest()) > 0 {
		s.mark = readCopyMark(in)
	}
	return s
}

func (s *stream) readConsumer(in *wire.Reader, starts bool) *consumer {
	restored := seglog.Pos(in.Uint())
	r := readConsumer(in, starts)
	c := newConsumer(s, &r, 0)
	c.restored = restored
	c.info.UpdatedAt = time.Unix(0, in.Int())
	c.backlog = backlog.Read(s, in)
	return c
}
