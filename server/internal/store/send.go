package store

import "slices"

// Send appends or replaces, as the stream's options say. A batch that does not fit leaves no trace.
func (s *stream) Send(messages []Message) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return 0, s.gone
	}
	var b batch
	switch {
	case s.memory.rows:
		if err := b.planReversed(s, messages); err != nil {
			return 0, err
		}
	case s.keys != nil:
		b.planReplacing(s, messages)
	default:
		b.planAppending(messages)
	}
	drop, ok := s.roomFor(&b)
	if !ok {
		b.undo()
		return 0, ErrFull
	}
	for _, e := range b.replaced {
		s.log.kill(e)
	}
	for range drop {
		s.drop(s.log.oldest())
	}
	s.store(&b)
	for s.options.RetainUpTo > 0 && s.log.live > s.options.RetainUpTo {
		s.drop(s.log.oldest())
	}
	for _, c := range s.consumers {
		c.changed()
	}
	return b.published, nil
}

// batch is what a send will do, worked out before anything is touched.
type batch struct {
	add       []*entry
	replaced  []*entry // marked dead while the batch is planned, so that none is counted twice
	bytes     int64    // of add
	freed     int64    // of replaced
	published int
	burned    int64 // seqs that the 2024 server uses up for what it does not store
}

func (b *batch) planAppending(messages []Message) {
	// One allocation a batch, which retention frees as it came: oldest first.
	slab := make([]entry, len(messages))
	b.add = make([]*entry, len(messages))
	for i, m := range messages {
		e := &slab[i]
		e.key, e.data = m.Key, m.Data
		b.add[i] = e
		b.bytes += e.size()
	}
	b.published = len(messages)
}

// planReplacing keeps the last of several messages with one key: the others would be replaced unseen. Each that
// differs from the one before it counts as published, as if they had come one by one.
func (b *batch) planReplacing(s *stream, messages []Message) {
	index := make(map[string]int, len(messages)) // of the key's entry in b.add
	for _, m := range messages {
		if i, again := index[m.Key]; again {
			if e := b.add[i]; e.data != m.Data || s.options.ProcessUnmodified {
				b.published++
				b.bytes -= e.size()
				e = b.entry(m)
				e.insertedAt = b.add[i].insertedAt
				b.add[i] = nil
				index[m.Key] = len(b.add)
				b.add = append(b.add, e)
			}
			continue
		}
		old := s.keys[m.Key]
		if old != nil && old.data == m.Data && !s.options.ProcessUnmodified {
			continue
		}
		e := b.entry(m)
		if old != nil {
			e.insertedAt = old.insertedAt
			b.replace(old)
		}
		b.published++
		index[m.Key] = len(b.add)
		b.add = append(b.add, e)
	}
	b.add = slices.DeleteFunc(b.add, func(e *entry) bool { return e == nil })
}

// planReversed does what the 2024 server does: the last message of a batch is stored first, and a key that occurs twice
// is an error of its database. A message that replaces takes two seqs, one that changes nothing takes one.
func (b *batch) planReversed(s *stream, messages []Message) error {
	seen := make(map[string]struct{}, len(messages))
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		if _, again := seen[m.Key]; again {
			b.undo()
			return ErrDoubledKey
		}
		seen[m.Key] = struct{}{}
		old := s.keys[m.Key]
		if old != nil && old.data == m.Data {
			b.burned++
			continue
		}
		e := b.entry(m)
		if old != nil {
			e.insertedAt = old.insertedAt
			b.replace(old)
			b.burned++
		}
		b.published++
		b.add = append(b.add, e)
	}
	return nil
}

func (b *batch) entry(m Message) *entry {
	m = m.clone()
	e := &entry{key: m.Key, data: m.Data}
	b.bytes += e.size()
	return e
}

func (b *batch) replace(old *entry) {
	old.dead = true
	b.replaced = append(b.replaced, old)
	b.freed += old.size()
}

func (b *batch) undo() {
	for _, e := range b.replaced {
		e.dead = false
	}
}

// roomFor tells how many of the oldest messages must go so that the batch fits, and whether it can fit at all: messages
// of the batch itself never go, nor does anything once only RetainAtLeast messages are left.
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
	at := now()
	first := s.nextSeqs(b.burned + int64(len(b.add)))
	for i, e := range b.add {
		e.seq, e.updatedAt = first+b.burned+int64(i), at
		if e.insertedAt == 0 {
			e.insertedAt = at
		}
		s.log.append(e)
		if s.keys != nil {
			s.keys[e.key] = e
		}
	}
	for _, c := range s.consumers {
		c.stored(b.add)
	}
	for _, e := range b.replaced {
		s.tellLost(e)
	}
}

// nextSeqs takes n consecutive seqs and returns the first. On the 2024 server all streams share one sequence.
func (s *stream) nextSeqs(n int64) int64 {
	if s.memory.rows {
		return s.memory.seq.Add(n) - n + 1
	}
	s.seq += n
	return s.seq - n + 1
}

// drop takes a message away for retention's sake.
func (s *stream) drop(e *entry) {
	e.dropped = true
	s.log.kill(e)
	if s.keys != nil {
		delete(s.keys, e.key)
	}
	s.tellLost(e)
}

func (s *stream) tellLost(e *entry) {
	if e.held == 0 {
		return
	}
	for _, c := range s.consumers {
		c.lost(e)
	}
}
