package store

import unsettled "github.com/sequin-go/sequin/server/internal/backlog"

// Walk is a walk through the messages from where a consumer has read on, by ascending seq, that shows those which are not settled.
//
// Whether a message waits behind another one of its key may rest on messages before those that a query asks for. A walk that begins
// in the middle collects some messages, and then looks back once, for their keys alone. That is many times as fast as to remember all
// keys from the beginning.
type Walk struct {
	State *unsettled.Frozen
	Hash  func(key string) unsettled.Hash
	// Show gets the messages in order. It returns false when it wants no more.
	Show func(unsettled.View, Message) bool
	// LookBack calls found for the messages from first on and below before whose key is in keys. found removes keys.
	LookBack func(first, before int64, keys map[string]bool, found func(key string, seq int64)) error

	read        []unsettled.View        // of the messages that lie before the consumer, by seq
	seen        map[unsettled.Hash]bool // keys of unread messages
	first, from int64                   // where the consumer has read on, and where the walk begins
	wanted      *unsettled.View         // of the message that Wants was asked for; nil for an unread one
	waiting     []collected
	bytes       int64
	atOnce      int // how many to collect
}

// collected is a message that waits for a look back.
type collected struct {
	message Message
	read    *unsettled.View // nil for an unread message
}

// Start returns the seq at which the walk begins, if the consumer has read on at first. A walk for the newest messages begins there:
// it passes by nearly all, and would look back often.
func (w *Walk) Start(first int64, q ListQuery) (from int64) {
	w.read, w.seen = w.State.Views, map[unsettled.Hash]bool{}
	w.first, w.from, w.atOnce = first, first, max(q.Limit, 1)
	if !q.Desc && q.After >= first {
		w.from = q.After + 1
	}
	return w.from
}

// Wants reports whether the next message is not settled, and must be given to Add.
func (w *Walk) Wants(seq int64, key string) bool {
	for len(w.read) > 0 && w.read[0].Seq < seq {
		w.read = w.read[1:] // it was dropped, or lies before the walk
	}
	if w.wanted = nil; len(w.read) > 0 && w.read[0].Seq == seq {
		w.wanted, w.read = &w.read[0], w.read[1:]
		return true
	}
	return w.State.IsUnread(seq, w.Hash(key))
}

// Add takes a message that the walk wants. It returns false when Show has.
func (w *Walk) Add(m Message) (more bool, err error) {
	c := collected{m, w.wanted}
	if w.from == w.first {
		return w.show(c), nil
	}
	w.waiting = append(w.waiting, c)
	if w.bytes += m.Size(); len(w.waiting) < w.atOnce && w.bytes < MaxAnswerBytes {
		return true, nil
	}
	return w.flush()
}

// End ends the walk. It is not called after an Add that has returned false.
func (w *Walk) End() error {
	_, err := w.flush()
	return err
}

// flush shows the messages that were collected. The next time it collects more, so that it looks back a few times only.
func (w *Walk) flush() (more bool, err error) {
	keys := map[string]bool{}
	for i := range w.waiting {
		if w.waiting[i].read == nil {
			keys[w.waiting[i].message.Key] = true
		}
	}
	if len(keys) > 0 {
		err := w.LookBack(w.first, w.from, keys, func(key string, seq int64) {
			if h := w.Hash(key); w.State.IsUnread(seq, h) {
				w.seen[h] = true
				delete(keys, key)
			}
		})
		if err != nil {
			return false, err
		}
	}
	for i := range w.waiting {
		if !w.show(w.waiting[i]) {
			return false, nil
		}
	}
	w.waiting, w.bytes, w.atOnce = w.waiting[:0], 0, 8*w.atOnce
	return true, nil
}

func (w *Walk) show(c collected) bool {
	if c.read != nil {
		return w.Show(*c.read, c.message)
	}
	h := w.Hash(c.message.Key)
	v := w.State.Unread(c.message.Seq, h, w.seen[h])
	w.seen[h] = true
	return w.Show(v, c.message)
}
