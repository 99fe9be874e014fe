package durable

import (
	"context"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// window holds messages that a consumer has not read and that were read from the log for it: those below next that match
// its filter. It is no part of the state. It is empty when nothing is left to read.
type window struct {
	messages []windowMessage // by seq
	next     int64           // seq from which the log is read on
	pos      seglog.Pos      // where that is, or 0
	bytes    int64           // of keys and data of messages
}

type windowMessage struct {
	store.Message
	key backlog.Hash
	pos seglog.Pos // of the record that holds the message
}

func (m *windowMessage) read() backlog.Message { return backlog.Message{Seq: m.Seq, Key: m.key} }

// A window is filled by smallRun first and by up to largeRun when one receive needs more. A send adds its messages to the
// windows of consumers that wait, up to largeRun.

// add adds a message that matches.
func (w *window) add(m store.Message, key backlog.Hash, pos seglog.Pos) {
	w.messages = append(w.messages, windowMessage{m, key, pos})
	w.bytes += m.Size()
}

// readTo drops what the backlog has read.
func (w *window) readTo(next int64) {
	i := 0
	for i < len(w.messages) && w.messages[i].Seq < next {
		w.bytes -= w.messages[i].Message.Size()
		i++
	}
	w.messages = w.messages[i:]
	if len(w.messages) == 0 {
		w.messages = nil
	}
	if next > w.next {
		w.next, w.pos = next, 0
	}
}

// fill reads a run into the window of the consumer. It is called without the lock. When another receive is reading it waits
// for that instead.
func (c *consumer) fill(ctx context.Context, bytes int) error {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	again := repeat{}
	for {
		var r run
		at, ok := int64(0), false
		_ = c.stream.locked(func() error { at, r, ok = c.windowRun(bytes); return nil })
		if !ok {
			return c.stream.locked(func() error { c.readAll(); return nil })
		}
		var w window
		read := 0
		next, pos, err := c.stream.read(r, func(m *rawMessage) bool {
			read++
			if c.filter.Match(view(m.key)) {
				w.add(m.message(), keyHash(view(m.key)), m.pos)
			}
			return true
		})
		if err != nil && next == r.from {
			if !again.worth(next, r) {
				return err
			}
			continue
		}
		return c.stream.locked(func() error {
			if c.ended == nil && c.window.next == at {
				c.share.Add(read, len(w.messages))
				c.window.extend(&w, next, pos)
			}
			return nil
		})
	}
}

// windowRun returns the run that the window needs next, and the seq from which it needs messages.
func (c *consumer) windowRun(bytes int) (at int64, r run, ok bool) {
	w := &c.window
	r, ok = c.stream.runFrom(w.next, bytes)
	if ok && w.next == r.from && c.stream.within(r, w.pos) {
		r.pos = w.pos
	}
	return w.next, r, ok
}

// readAll notes that nothing behind the window is left to read.
func (c *consumer) readAll() {
	if _, _, more := c.windowRun(0); c.ended == nil && !more && c.window.next <= c.stream.last {
		c.window.next, c.window.pos = c.stream.last+1, 0
	}
}

// extend adds what was read up to next, where the log goes on at pos.
func (w *window) extend(read *window, next int64, pos seglog.Pos) {
	w.messages = append(w.messages, read.messages...)
	w.bytes += read.bytes
	w.next, w.pos = next, pos
}

// feed gives the messages of a send to the window of a consumer that waits, so that nothing is read for it. It stops when
// the window is full.
func (c *consumer) feed(messages []store.Message, pos seglog.Pos) {
	w := &c.window
	if c.waiting.Len() == 0 || len(messages) == 0 || w.next != messages[0].Seq {
		return
	}
	for i := range messages {
		if w.bytes >= largeRun {
			return
		}
		matched := 0
		if m := &messages[i]; c.filter.Match(m.Key) {
			matched = 1
			w.add(*m, keyHash(m.Key), pos)
		}
		c.share.Add(1, matched)
		w.next, w.pos = messages[i].Seq+1, 0
	}
}

// skipWaiting reads the messages of the window up to the first that can be delivered, and reports whether there is one.
func (c *consumer) skipWaiting() bool {
	now := c.stream.store.clock.now()
	p := c.backlog.Plan(1, now, c.stream.store.opening, c.stream.store.options.maxMet)
	found, skipped := false, 0
	for i := range c.window.messages {
		m := &c.window.messages[i]
		if !c.stream.Alive(m.Seq) {
			continue
		}
		if p.Of(m.read()) == backlog.Fresh {
			found = true
			break
		}
		skipped++
		p.Read(m.read())
	}
	if skipped > 0 {
		c.receive(p.Receive(), nil)
	}
	return found
}
