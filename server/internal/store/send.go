package store

import "time"

// send stores a batch as the dialect plans it, or nothing of it. It drops old messages to make room, as far as the
// stream's options allow.
func (s *stream) send(messages []Message) (int, error) {
	if s.ended != nil {
		return 0, s.ended
	}
	b, err := s.dialect.plan(s.newest, s.options, messages)
	if err != nil {
		return 0, err
	}
	drop, ok := s.roomFor(&b)
	if !ok {
		b.undo()
		return 0, ErrFull
	}
	for _, e := range b.replaced {
		s.log.remove(e)
	}
	for range drop {
		s.drop(s.log.oldest())
	}
	s.store(&b)
	for s.options.RetainUpTo > 0 && s.log.live > s.options.RetainUpTo {
		s.drop(s.log.oldest())
	}
	for _, c := range s.consumers {
		c.waiting.Update()
	}
	return b.published, nil
}

// roomFor returns how many of the oldest messages have to be dropped so that the batch fits; ok is false when it cannot
// fit. Messages of the batch itself are never dropped, and none is once only RetainAtLeast messages are left.
func (s *stream) roomFor(b *batch) (drop int, ok bool) {
	limit := s.options.MaxBytes
	if limit == 0 {
		return 0, true
	}
	bytes := s.log.bytes - b.freed + b.bytes
	count := s.log.live - len(b.replaced) + len(b.add)
	for _, e := range s.log.from(0) {
		if bytes <= limit || count <= s.options.RetainAtLeast {
			break
		}
		if e.dead {
			continue
		}
		bytes -= e.size()
		count--
		drop++
	}
	return drop, bytes <= limit
}

func (s *stream) store(b *batch) {
	at := max(s.lastAt, time.Now().UnixMicro()) // the resolution of message times
	s.lastAt = at
	taken := b.skippedSeqs + int64(len(b.add))
	first := s.seqs.Add(taken) - taken + 1
	for i, e := range b.add {
		e.seq, e.updatedAt = first+b.skippedSeqs+int64(i), at
		if e.insertedAt == 0 {
			e.insertedAt = at
		}
		s.log.append(e)
		if s.newest != nil {
			s.newest.put(e)
		}
	}
	for _, c := range s.consumers {
		c.backlog.stored(b.add)
	}
	for _, e := range b.replaced {
		s.notifyRemoved(e)
	}
}

// drop removes a message for retention or a purge.
func (s *stream) drop(e *entry) {
	e.dropped = true
	s.log.remove(e)
	if s.newest != nil {
		s.newest.remove(e.key)
	}
	s.notifyRemoved(e)
}

func (s *stream) notifyRemoved(e *entry) {
	if e.refs == 0 {
		return
	}
	for _, c := range s.consumers {
		c.backlog.removed(e)
	}
}
