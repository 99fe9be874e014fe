package durable

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sending is one send. What needs no lock is done before: messages are encoded, or hashed.
type sending struct {
	s        *stream
	once     once
	messages []store.Message
	free     error     // why the disk has no room
	blob     *buffer   // the messages as the record has them, on a stream that appends
	bytes    int64     // of their keys, headers and data
	headers  bool      // one of the messages has headers
	verbatim bool      // store.Message.Verbatim of all messages
	sums     []keySums // of the messages, on a stream with one message per key
	needs    int64     // seq of the oldest message whose size must be read, or 0

	published int64
	pos       seglog.Pos
}

func newSending(s *stream, o store.Once, messages []store.Message) *sending {
	p := &sending{s: s, once: newOnce(o), messages: messages, headers: hasHeaders(messages), verbatim: allVerbatim(messages), free: s.store.log.Free()}
	if p.free != nil {
		s.store.keeper.diskIsFull()
	}
	if s.keyed != nil {
		p.sums = make([]keySums, len(messages))
		for i := range messages {
			p.sums[i] = sum(messages[i].Key, messages[i].Data, string(messages[i].Headers))
		}
		return p
	}
	for i := range messages {
		p.bytes += messages[i].Size()
	}
	lengths := 2 * maxLength
	if p.headers {
		lengths += maxLength
	}
	p.blob = buffers.get()
	p.blob.bytes = slices.Grow(p.blob.bytes[:0], maxSendHead+int(p.bytes)+lengths*len(messages))[:maxSendHead]
	for i := range messages {
		p.blob.bytes = appendMessage(p.blob.bytes, &messages[i], p.headers)
	}
	return p
}

func (p *sending) release() {
	if p.blob != nil {
		buffers.put(p.blob)
	}
}

func (p *sending) run(ctx context.Context) (int, error) {
	log := p.s.store.log
	if err := log.WaitRoom(ctx); err != nil {
		return 0, err
	}
	for {
		err := p.s.locked(p.send)
		if p.needs > 0 && err == nil {
			if err = p.s.readSizes(p.needs); err == nil {
				continue
			}
		}
		if waited := p.s.store.committed(ctx, p.pos); err == nil && waited != nil {
			err = waited
		}
		if err != nil {
			return 0, err
		}
		return int(p.published), nil
	}
}

// send stores the messages, unless this send or one that contained it has succeeded. It requires the lock. It returns nil
// with needs set when sizes must be read first.
func (p *sending) send() error {
	s := p.s
	p.needs = 0
	if err := s.unchangeable(); err != nil {
		return err
	}
	now := s.store.clock.now()
	published, found, known, err := s.sent.find(p.once, now, len(p.messages))
	p.pos = s.newest
	if err != nil {
		return err
	}
	p.published = published
	if found && (known || !p.once.named) {
		return nil
	}
	r := sendRecord{at: max(s.lastAt, time.Now().UnixMicro()), now: now, first: s.last + 1, published: published, headers: p.headers, verbatim: p.verbatim}
	if p.once.named {
		r.named, r.key, r.body = true, p.once.key, p.once.body
	}
	stored := []store.Message(nil)
	if !found {
		if p.free != nil {
			return p.free
		}
		if stored, err = p.plan(&r); err != nil || p.needs > 0 {
			return err
		}
		p.published = r.published
		if r.count == 0 && r.trim == 0 && !r.named {
			return nil
		}
	}
	p.append(&r, stored)
	return nil
}

// plan decides what the send stores and drops.
func (p *sending) plan(r *sendRecord) (stored []store.Message, err error) {
	if p.s.keyed != nil {
		return p.planReplacing(r)
	}
	r.published, r.count = int64(len(p.messages)), len(p.messages)
	if err := p.planTrim(r); err != nil || p.needs > 0 {
		return nil, err
	}
	return p.messages, nil
}

// append appends the record and applies it.
func (p *sending) append(r *sendRecord, stored []store.Message) {
	s := p.s
	b := buffers.get()
	defer buffers.put(b)
	b.bytes = r.appendHead(b.bytes[:0])
	body, bytes := b.bytes, int64(0)
	if s.keyed != nil {
		for i := range stored {
			b.bytes = appendMessage(b.bytes, &stored[i], r.headers)
		}
		body = b.bytes
	} else if r.count > 0 {
		// The head goes directly before the messages, so that they need not be copied.
		start := maxSendHead - len(b.bytes)
		copy(p.blob.bytes[start:], b.bytes)
		body, bytes = p.blob.bytes[start:], p.bytes
		s.noteSizes(r.first, stored)
	}
	p.pos = s.record(r.kind(), body)
	s.applySend(r, p.pos, bytes, int64(len(body)))
	s.feed(r, stored, p.pos)
}

// feed gives the stored messages to the consumers that wait.
func (s *stream) feed(r *sendRecord, stored []store.Message, pos seglog.Pos) {
	var full []store.Message
	for _, c := range s.consumers {
		if c.waiting.Len() > 0 && full == nil {
			full = copies(stored)
			for i := range full {
				m := &full[i]
				m.Seq, m.UpdatedAt, m.InsertedAt = r.first+int64(i), r.at, r.at
				if r.inserted != nil {
					m.InsertedAt -= r.inserted[i]
				}
			}
		}
		c.feed(full, pos)
		c.waiting.Update()
	}
}

// copies returns copies of the messages, whose strings share one allocation: those of a send are valid until it returns.
func copies(messages []store.Message) []store.Message {
	size := 0
	for i := range messages {
		size += int(messages[i].Size())
	}
	var text strings.Builder
	text.Grow(size)
	for i := range messages {
		text.WriteString(messages[i].Key)
		text.WriteString(messages[i].Data)
		text.WriteString(string(messages[i].Headers))
	}
	rest := text.String()
	all := make([]store.Message, len(messages))
	for i := range messages {
		key, end := len(messages[i].Key), messages[i].Size()
		data := key + len(messages[i].Data)
		all[i].Key, all[i].Data, all[i].Headers, rest = rest[:key], rest[key:data], headers.Packed(rest[data:end]), rest[end:]
	}
	return all
}

// planReplacing stores the last of several messages with one key; no consumer would see the others. Each message that
// differs from the one before it counts as published, as if they had been sent one by one.
func (p *sending) planReplacing(r *sendRecord) (stored []store.Message, err error) {
	s := p.s
	chosen := make(map[hash]int, len(p.messages)) // index of the message that is stored for a key
	for i := range p.messages {
		m := &p.sums[i]
		if before, again := chosen[m.key]; again {
			if p.sums[before].data == m.data && p.sums[before].size == m.size && !s.options.ProcessUnmodified {
				continue
			}
		} else if old := s.keyed.index.Find(keyindex.Hash(m.key)); old != nil && !s.options.ProcessUnmodified &&
			old.Data == keyindex.Hash(m.data) && old.Size == m.size {
			continue
		}
		chosen[m.key] = i
		r.published++
	}
	r.inserted = make([]int64, 0, len(chosen))
	for i := range p.messages {
		m := p.sums[i]
		if at, ok := chosen[m.key]; !ok || at != i {
			continue
		}
		insertedAt := r.at
		if old := s.keyed.index.Find(keyindex.Hash(m.key)); old != nil {
			insertedAt = old.InsertedAt
		}
		r.inserted = append(r.inserted, r.at-insertedAt)
		r.sums = append(r.sums, m)
		stored = append(stored, p.messages[i])
	}
	r.count = len(stored)
	return stored, s.planTrimKeyed(r)
}
