package store

import (
	"slices"
	"strings"
)

// batch is what one send will change. It is planned before anything changes, so that a refused send leaves no trace.
type batch struct {
	add         []*entry
	replaced    []*entry // already marked dead, so that roomFor does not count them twice
	bytes       int64    // of add
	freed       int64    // of replaced
	published   int      // messages that count as a change
	skippedSeqs int64    // seqs that the 2024 server takes and does not use
}

// planDocumented is how Sequin documents a send. A stream appends all messages, also several of one key; with
// one_message_per_key a message replaces the one with its key.
func planDocumented(newest *keyIndex, o StreamOptions, messages []Message) (batch, error) {
	if o.OneMessagePerKey {
		return planReplacing(newest, o.ProcessUnmodified, messages), nil
	}
	return planAppending(messages), nil
}

func planAppending(messages []Message) (b batch) {
	// One allocation for the batch. Retention drops the oldest messages first, so whole batches are freed in turn.
	slab := make([]entry, len(messages))
	b.add = make([]*entry, len(messages))
	for i := range messages {
		m, e := &messages[i], &slab[i]
		if m.Headers == "" {
			e.key, e.text = m.Key, m.Data
		} else {
			e.copy(m)
		}
		e.setVerbatim(m.Verbatim)
		b.add[i] = e
		b.bytes += e.size()
	}
	b.published = len(messages)
	return b
}

// planReplacing stores the last of several messages with one key; no consumer would see the others. Each message that
// differs from the one before it counts as published, as if they had been sent one by one.
func planReplacing(newest *keyIndex, processUnmodified bool, messages []Message) (b batch) {
	lookups := newest.lookUp(messages)
	defer lookups.release()
	for i := range messages {
		m := &messages[i]
		l, _ := lookups.note(i)
		if l.added >= 0 {
			if e := b.add[l.added]; !e.holds(m) || processUnmodified {
				b.published++
				b.bytes -= e.size()
				e = b.newEntry(m)
				e.insertedAt = b.add[l.added].insertedAt
				b.add[l.added] = nil
				l.added = len(b.add)
				b.add = append(b.add, e)
			}
			continue
		}
		old := l.entry
		if old != nil && old.holds(m) && !processUnmodified {
			continue
		}
		e := b.newEntry(m)
		if old != nil {
			e.insertedAt = old.insertedAt
			b.replace(old)
		}
		b.published++
		l.added = len(b.add)
		b.add = append(b.add, e)
	}
	b.add = slices.DeleteFunc(b.add, func(e *entry) bool { return e == nil })
	return b
}

// planAug2024 is what the 2024 server does with a send. It stores the last message first, and its database refuses a
// batch with a key that occurs twice. A message that replaces another takes two seqs, one that changes nothing takes one.
func planAug2024(newest *keyIndex, _ StreamOptions, messages []Message) (b batch, err error) {
	lookups := newest.lookUp(messages)
	defer lookups.release()
	for i := len(messages) - 1; i >= 0; i-- {
		l, again := lookups.note(i)
		if again {
			b.undo()
			return batch{}, ErrDoubledKey
		}
		m, old := &messages[i], l.entry
		if old != nil && old.holds(m) {
			b.skippedSeqs++
			continue
		}
		e := b.newEntry(m)
		if old != nil {
			e.insertedAt = old.insertedAt
			b.replace(old)
			b.skippedSeqs++
		}
		b.published++
		b.add = append(b.add, e)
	}
	return b, nil
}

// newEntry copies the message's strings. Those of a request share one text, which a message that outlives the others of
// its request would keep in memory.
func (b *batch) newEntry(m *Message) *entry {
	e := new(entry)
	e.copy(m)
	e.setVerbatim(m.Verbatim)
	b.bytes += e.size()
	return e
}

// copy copies the strings of a message into a new entry, with one allocation.
func (e *entry) copy(m *Message) {
	var text strings.Builder
	text.Grow(int(m.Size()))
	text.WriteString(m.Key)
	text.WriteString(m.Data)
	text.WriteString(string(m.Headers))
	all := text.String()
	e.key, e.text, e.headers = all[:len(m.Key)], all[len(m.Key):], uint16(len(m.Headers))
}

func (b *batch) replace(old *entry) {
	old.dead = true
	b.replaced = append(b.replaced, old)
	b.freed += old.size()
}

// undo makes the replaced entries live again.
func (b *batch) undo() {
	for _, e := range b.replaced {
		e.dead = false
	}
}
