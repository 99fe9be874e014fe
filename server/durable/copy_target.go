package durable

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A stream that is the target of a copy has the messages of another one with their seqs and times. They are stored as those of
// sends are. What the other stream has not counts as purged.

// restoreBytes bounds the messages of one record.
const restoreBytes = 1 << 20

// RestoreMessages implements store.CopyableStream.
func (h *streamHandle) RestoreMessages(ctx context.Context, messages []store.Message, next int64) error {
	s := h.stream()
	return s.change(ctx, func() (seglog.Pos, error) {
		err := s.restorable()
		if err == nil && len(messages) > 0 {
			err = s.store.log.Free()
		}
		if err == nil && s.keyed != nil {
			err = s.store.roomForKeys(int64(len(messages)))
		}
		if err == nil {
			s.restore(messages, next)
		}
		return s.newest, err
	})
}

// restorable returns why the stream takes nothing of a copy, or nil.
func (s *stream) restorable() error {
	if s.ended != nil {
		return s.ended
	}
	return s.mark.NotTarget()
}

func (s *stream) restore(messages []store.Message, next int64) {
	for len(messages) > 0 && messages[0].Seq <= s.last {
		messages = messages[1:]
	}
	for len(messages) > 0 {
		n := s.together(messages)
		s.skip(messages[0].Seq)
		s.restoreTogether(messages[:n])
		messages = messages[n:]
	}
	s.skip(next)
}

// together returns how many of the messages are one record: they follow one another and have one time.
func (s *stream) together(messages []store.Message) int {
	n, bytes := 1, messages[0].Size()
	for n < len(messages) && messages[n].Seq == messages[n-1].Seq+1 && messages[n].UpdatedAt == messages[0].UpdatedAt {
		if bytes += messages[n].Size(); bytes > restoreBytes {
			break
		}
		n++
	}
	return n
}

func (s *stream) restoreTogether(messages []store.Message) {
	r := sendRecord{
		at: messages[0].UpdatedAt, now: s.store.clock.now(), first: messages[0].Seq, count: len(messages), published: int64(len(messages)),
		headers: hasHeaders(messages),
	}
	if s.keyed != nil {
		for i := range messages {
			m := &messages[i]
			r.inserted = append(r.inserted, r.at-m.InsertedAt)
			r.sums = append(r.sums, sum(m.Key, m.Data, string(m.Headers)))
		}
	}
	b := buffers.get()
	defer buffers.put(b)
	b.bytes = r.appendHead(b.bytes[:0])
	bytes := int64(0)
	for i := range messages {
		b.bytes = appendMessage(b.bytes, &messages[i], r.headers)
		bytes += messages[i].Size()
	}
	pos := s.record(r.kind(), b.bytes)
	s.applySend(&r, pos, bytes, int64(len(b.bytes)))
}

// skip makes next the seq of the next message.
func (s *stream) skip(next int64) {
	if next > s.last+1 {
		s.applySkip(next, s.record(kindSkip, binary.AppendInt(nil, next)))
	}
}

// applySkip applies the record of a skip.
func (s *stream) applySkip(next int64, pos seglog.Pos) {
	switch {
	case s.first > s.last:
		s.first = next
	case s.keyed == nil:
		l := s.appended
		gap := hole{s.last + 1, next - 1, true}
		if n := len(l.holes); n > 0 && l.holes[n-1].last == s.last {
			l.holes = slices.Clone(l.holes) // join changes the last one, which a reader may look at
		}
		l.holes = l.holes.join(gap)
		l.missing += next - 1 - s.last
	}
	s.last = next - 1
	s.stored = pos
}

// RestoreSends implements store.CopyableStream.
func (h *streamHandle) RestoreSends(ctx context.Context, all []store.RememberedSend) error {
	s := h.stream()
	return s.change(ctx, func() (seglog.Pos, error) {
		if err := s.restorable(); err != nil {
			return s.newest, err
		}
		for _, x := range all {
			r := sendRecord{
				at: s.lastAt, now: x.At * int64(time.Microsecond), first: s.last + 1, published: x.Published, named: true, key: x.Key, body: x.Body,
			}
			pos := s.record(kindSend, r.appendHead(nil))
			s.applySend(&r, pos, 0, 0)
		}
		return s.newest, nil
	})
}

// RestoreConsumer implements store.CopyableStream.
func (h *streamHandle) RestoreConsumer(ctx context.Context, info store.ConsumerInfo, p store.Position) error {
	s := h.stream()
	keys, err := s.keysOf(p)
	if err != nil {
		return err
	}
	return s.change(ctx, func() (seglog.Pos, error) {
		err := s.restorable()
		if err == nil && slices.ContainsFunc(s.consumers, func(c *consumer) bool { return c.info.Name == info.Name }) {
			err = store.ErrNameTaken
		}
		if err != nil {
			return s.newest, err
		}
		r := consumerRecord{cid: s.nextCID, id: uuid.NewString(), at: info.InsertedAt.UnixNano(), options: info.ConsumerOptions}
		b := backlog.AtPosition(s, limitsOf(info.ConsumerLimits), p, keys)
		body := appendConsumerAt(nil, &r, info.UpdatedAt.UnixNano(), b)
		if len(body) > seglog.MaxBody {
			return s.newest, fmt.Errorf("%w: consumer %s has %d keys with unsettled messages, more than one record takes", store.ErrFailed, info.Name, len(p.Heads))
		}
		pos := s.record(kindRestoreConsumer, body)
		s.applyRestoreConsumer(binary.NewReader(body), pos)
		return pos, nil
	})
}

// keysOf reads the keys of the heads of a position.
func (s *stream) keysOf(p store.Position) ([]backlog.Hash, error) {
	seqs := make([]int64, len(p.Heads))
	for i, h := range p.Heads {
		seqs[i] = h.Seq
	}
	keys := make([]backlog.Hash, 0, len(seqs))
	err := s.fetch(seqs, func(m *rawMessage) { keys = append(keys, keyHash(view(m.key))) })
	if err == nil && len(keys) < len(seqs) {
		err = fmt.Errorf("%w: %d messages that a consumer has not settled are not there", store.ErrFailed, len(seqs)-len(keys))
	}
	return keys, err
}

func appendConsumerAt(dst []byte, r *consumerRecord, updatedAt int64, b *backlog.Backlog) []byte {
	dst = binary.AppendBool(dst, r.kind() == kindCreateConsumerAt)
	dst = r.appendTo(dst)
	dst = binary.AppendInt(dst, updatedAt)
	return b.AppendTo(dst)
}

// applyRestoreConsumer applies the record of a consumer at a position.
func (s *stream) applyRestoreConsumer(in *binary.Reader, pos seglog.Pos) {
	r := readConsumer(in, in.Bool())
	updatedAt := in.Int()
	b := backlog.Read(s, in)
	if in.Err() != nil {
		return
	}
	c := s.applyCreateConsumer(&r, pos)
	if c.created != pos {
		return // it is in the snapshot
	}
	c.info.UpdatedAt = time.Unix(0, updatedAt)
	c.backlog = b
	c.window.readTo(b.Next())
}
