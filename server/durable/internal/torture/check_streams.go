package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

func (c *check) checkStream(o store.StreamOptions) {
	found, a := c.found[o.Name], c.a
	for i, m := range found.messages {
		s := a.sent(o.Name, m)
		if s == nil || s.impossible() {
			a.fault("%s: message %v is there, but its send was never asked for or was refused", o.Name, m)
			continue
		}
		if !o.OneMessagePerKey && i > 0 && found.seqs[i] != found.seqs[i-1]+1 {
			a.fault("%s: seq %d follows seq %d", o.Name, found.seqs[i], found.seqs[i-1])
		}
		// A batch is stored as a whole, in order, behind the batches of its worker before it.
		if !o.OneMessagePerKey && m.Index > 0 && (i == 0 && o.RetainUpTo == 0 || i > 0 && found.messages[i-1] != Message{m.Worker, m.Send, m.Index - 1}) {
			a.fault("%s: message %v does not follow the one before it in its batch", o.Name, m)
		}
	}
	switch {
	case o.OneMessagePerKey:
		c.checkKeys(o.Name)
	case o.RetainUpTo > 0:
		c.checkRetained(o)
	default:
		c.checkAppended(o.Name)
	}
}

// checkAppended holds that every send is there, whole, and in the order of its worker.
func (c *check) checkAppended(stream string) {
	found := c.found[stream]
	if len(found.seqs) > 0 && found.seqs[0] != 1 {
		c.a.fault("%s begins at seq %d", stream, found.seqs[0])
	}
	for _, all := range c.a.sends[stream] {
		for _, s := range all {
			n := 0
			for i := range batchSize(s.number) {
				if found.present[Message{s.worker, s.number, i}] {
					n++
				}
			}
			if n != 0 && n != batchSize(s.number) {
				c.a.fault("%s: %d of %d messages of send %d.%d are there", stream, n, batchSize(s.number), s.worker, s.number)
			}
			if n == 0 && c.must(&s.operation) {
				c.a.fault("%s: send %d.%d was answered and is lost", stream, s.worker, s.number)
			}
		}
	}
	last := make([]int, sendersOfStream)
	for _, m := range found.messages {
		if m.Send < last[m.Worker] {
			c.a.fault("%s: message %v comes after send %d of its worker", stream, m, last[m.Worker])
		}
		last[m.Worker] = m.Send
	}
}

// checkRetained holds that what is missing is older than what is there.
func (c *check) checkRetained(o store.StreamOptions) {
	found := c.found[o.Name]
	if len(found.messages) > o.RetainUpTo {
		c.a.fault("%s has %d messages", o.Name, len(found.messages))
	}
	oldest := c.horizon // when the oldest send that is there was done
	total := 0
	for i := range found.messages {
		if s := c.a.sent(o.Name, found.messages[i]); s != nil && s.done > 0 {
			oldest = min(oldest, s.done)
		}
	}
	for _, all := range c.a.sends[o.Name] {
		for _, s := range all {
			if !c.must(&s.operation) {
				continue
			}
			total += batchSize(s.number)
			last := Message{s.worker, s.number, batchSize(s.number) - 1}
			if !found.present[last] && s.asked > oldest {
				c.a.fault("%s: send %d.%d was answered and is missing, while an older one is there", o.Name, s.worker, s.number)
			}
		}
	}
	if len(found.messages) < min(total, o.RetainUpTo) {
		c.a.fault("%s has %d messages of %d", o.Name, len(found.messages), total)
	}
}

// checkKeys holds that each key has the version that was answered last, or a later one.
func (c *check) checkKeys(stream string) {
	found := c.found[stream]
	versions := map[string]Message{}
	for _, m := range found.messages {
		if other, twice := versions[m.key()]; twice {
			c.a.fault("%s: key %s has the versions %v and %v", stream, m.key(), other, m)
		}
		versions[m.key()] = m
	}
	for _, all := range c.a.sends[stream] {
		for _, s := range all {
			for i := range batchSize(s.number) {
				m := Message{s.worker, s.number, i}
				if v, exists := versions[m.key()]; c.must(&s.operation) && (!exists || v.Send < m.Send) {
					c.a.fault("%s: version %v of %s was answered; there is %v", stream, m, m.key(), v)
				}
			}
		}
	}
	// A send is there as a whole: a version that is gone was replaced by a later one.
	for _, m := range found.messages {
		for i := range batchSize(m.Send) {
			if sibling := (Message{m.Worker, m.Send, i}); versions[sibling.key()].Send < m.Send {
				c.a.fault("%s: message %v is there, and %v of its batch is not", stream, m, sibling)
			}
		}
	}
}

func (c *check) checkChurned(ctx context.Context) error {
	streams, err := c.st.Streams(ctx)
	if err != nil {
		return fmt.Errorf("the streams cannot be listed: %w", err)
	}
	var names []string
	for _, s := range streams {
		info, err := s.Info(ctx)
		if err != nil {
			return fmt.Errorf("a stream cannot be read: %w", err)
		}
		if !strings.HasPrefix(info.Name, "t.") {
			continue
		}
		names = append(names, info.Name)
		c.checkGone("stream "+info.Name, true, c.a.churned[info.Name])
		consumers, err := s.Consumers(ctx)
		if err != nil {
			return fmt.Errorf("the consumers of %s cannot be listed: %w", info.Name, err)
		}
		if len(consumers) > 1 {
			c.a.fault("stream %s has %d consumers", info.Name, len(consumers))
		}
		c.checkGone("consumer "+info.Name+"/"+churnedConsumer, len(consumers) > 0, c.a.gone[info.Name])
	}
	for name, known := range c.a.churned {
		if !slices.Contains(names, name) {
			c.checkGone("stream "+name, false, known)
		}
	}
	return nil
}

// checkGone holds that what is created and perhaps deleted exists when it has to, and only then. known is nil when it was
// never asked for.
func (c *check) checkGone(what string, exists bool, known *churned) {
	if known == nil {
		known = &churned{}
	}
	switch {
	case exists && known.create.impossible():
		c.a.fault("%s was never created", what)
	case exists && c.must(&known.remove):
		c.a.fault("%s was deleted, and is there", what)
	case !exists && c.must(&known.create) && (known.remove.asked == 0 || known.remove.impossible()):
		c.a.fault("%s was created, and is not there", what)
	}
}
