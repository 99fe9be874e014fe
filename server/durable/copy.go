package durable

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

func appendCopyMark(dst []byte, m store.CopyMark) []byte {
	return binary.AppendString(append(dst, byte(m.State)), m.Peer)
}

func readCopyMark(in *binary.Reader) store.CopyMark {
	return store.CopyMark{State: store.CopyState(in.Byte()), Peer: in.String()}
}

// CreateCopy implements store.Copyable.
func (st *Store) CreateCopy(ctx context.Context, info store.StreamInfo, of string) (store.Stream, error) {
	mark := store.CopyMark{State: store.CopyTarget, Peer: of}
	return st.createStream(ctx, info.StreamOptions, info.InsertedAt, mark)
}

// createStream creates a stream. A mark other than zero is one of its creation, so that a crash does not leave a target that nobody
// knows to be one.
func (st *Store) createStream(ctx context.Context, o store.StreamOptions, at time.Time, mark store.CopyMark) (store.Stream, error) {
	if err := st.log.WaitRoom(ctx); err != nil {
		return nil, err
	}
	g := st.streams.Load()
	s, err := g.add(o.Name, func(sid uint32) *stream {
		id, at := uuid.NewString(), at.UnixNano()
		kind, body := kindCreateStream, appendStream(nil, id, at, o)
		if mark.State != store.NotCopied {
			kind, body = kindCreateCopy, appendCopyMark(body, mark)
		}
		s := newStream(st, g, sid, st.append(kind, sid, body), id, at, o)
		s.mark = mark
		return s
	})
	if s == nil {
		return nil, err
	}
	if waited := st.committed(ctx, s.created); waited != nil {
		return nil, waited
	}
	if err != nil {
		return nil, err
	}
	return newStreamHandle(s), nil
}

// CopyMark implements store.CopyableStream.
func (h *streamHandle) CopyMark(ctx context.Context) (mark store.CopyMark, err error) {
	s := h.stream()
	err = s.look(ctx, func() (seglog.Pos, error) {
		mark = s.mark
		return s.newest, s.ended
	})
	return mark, err
}

// SetCopyMark implements store.CopyableStream.
func (h *streamHandle) SetCopyMark(ctx context.Context, mark store.CopyMark) error {
	s := h.stream()
	return s.change(ctx, func() (seglog.Pos, error) {
		if s.ended != nil || s.mark == mark {
			return s.newest, s.ended
		}
		s.mark = mark
		return s.record(kindCopyMark, appendCopyMark(nil, mark)), nil
	})
}

// NextSeq implements store.CopyableStream.
func (h *streamHandle) NextSeq(ctx context.Context) (next int64, err error) {
	s := h.stream()
	err = s.look(ctx, func() (seglog.Pos, error) {
		next = s.last + 1
		return s.newest, nil
	})
	return next, err
}

// Sends implements store.CopyableStream.
func (h *streamHandle) Sends(ctx context.Context) (all []store.RememberedSend, err error) {
	s := h.stream()
	var list []success
	now := s.store.clock.now()
	err = s.look(ctx, func() (seglog.Pos, error) {
		list = s.sent.frozen()
		return s.newest, nil
	})
	for _, x := range list {
		if now-x.at <= rememberFor {
			all = append(all, store.RememberedSend{Key: x.key, Body: x.body, Published: x.published, At: x.at / int64(time.Microsecond)})
		}
	}
	return all, err
}

// Position implements store.CopyableConsumer.
func (h *consumerHandle) Position(ctx context.Context) (p store.Position, err error) {
	c, err := h.find()
	if err != nil {
		return p, err
	}
	for {
		seeks := false
		err := c.stream.change(ctx, func() (seglog.Pos, error) {
			if c.ended != nil {
				return c.stream.newest, c.ended
			}
			c.endLeases()
			if seeks = c.backlog.Seeks() > 0; !seeks {
				p = c.backlog.Position()
			}
			return c.stream.newest, nil
		})
		if err != nil || !seeks {
			return p, err
		}
		if err := c.seek(); err != nil {
			return p, err
		}
	}
}

// endLeases ends all leases.
func (c *consumer) endLeases() {
	now := c.stream.store.clock.now()
	c.expire(now)
	leases := c.backlog.OnLeaseNow()
	if len(leases) == 0 {
		return
	}
	r := newSettleRecord(c.cid, now, backlog.Nack, 0, leases)
	c.record(r.kind(), r.appendTo)
	c.backlog.Settle(r.deliveries, r.how, r.now, r.delay)
	c.waiting.Update()
}
