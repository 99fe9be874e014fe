package torture

import (
	"context"
	"fmt"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Check is Compare where everything can be read.
func (a *Accounts) Check(ctx context.Context, st store.Store, suffixLost bool) []string {
	faults, err := a.Compare(ctx, st, suffixLost)
	if err != nil {
		return append(faults, err.Error())
	}
	return faults
}

// Compare compares what a store holds with what was answered, and returns what is wrong. It reads only, and returns the error
// of a read. When suffixLost is set the newest operations may be missing, but none that was answered before another began
// that is there.
func (a *Accounts) Compare(ctx context.Context, st store.Store, suffixLost bool) (faults []string, err error) {
	c := &check{a: a, st: st, found: map[string]*contents{}}
	for _, o := range streamOptions {
		if err := c.read(ctx, o.Name); err != nil {
			return a.faults, fmt.Errorf("%s cannot be read: %w", o.Name, err)
		}
	}
	if suffixLost {
		c.horizon = c.newest()
	} else {
		c.horizon = a.events + 1
	}
	for _, o := range streamOptions {
		c.checkStream(o)
		for _, name := range consumerNames {
			c.checkConsumer(o.Name, name)
		}
	}
	for _, o := range purgedStreams {
		if err := c.checkPurged(ctx, o); err != nil {
			return a.faults, fmt.Errorf("%s cannot be read: %w", o.Name, err)
		}
	}
	return a.faults, c.checkChurned(ctx)
}

// check is one comparison.
type check struct {
	a       *Accounts
	st      store.Store
	horizon int // what was done before this event has to be there
	found   map[string]*contents
}

// contents is what a stream holds.
type contents struct {
	seqs      []int64
	messages  []Message
	present   map[Message]bool
	unsettled map[string]map[Message]store.View // of each consumer
}

func (c *check) read(ctx context.Context, stream string) error {
	s, err := c.st.Stream(ctx, stream)
	if err != nil {
		return err
	}
	found := &contents{present: map[Message]bool{}, unsettled: map[string]map[Message]store.View{}}
	c.found[stream] = found
	q := store.ListQuery{Limit: 1_000}
	for {
		page, err := s.List(ctx, q)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			name, ok := parse(m)
			if !ok {
				c.a.fault("%s: seq %d is not what was sent: %s=%.100q", stream, m.Seq, m.Key, m.Data)
			}
			if found.present[name] {
				c.a.fault("%s: message %v is there twice", stream, name)
			}
			found.seqs, found.messages = append(found.seqs, m.Seq), append(found.messages, name)
			found.present[name] = true
		}
		q = q.Next(page[len(page)-1].Seq)
	}
	for _, name := range consumerNames {
		if found.unsettled[name], err = c.peek(ctx, s, name); err != nil {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
	}
	return nil
}

func (c *check) peek(ctx context.Context, s store.Stream, consumer string) (map[Message]store.View, error) {
	h, err := s.Consumer(ctx, consumer)
	if err != nil {
		return nil, err
	}
	all := map[Message]store.View{}
	q := store.PeekQuery{ListQuery: store.ListQuery{Limit: 1_000}}
	for {
		page, err := h.Peek(ctx, q)
		if err != nil || len(page) == 0 {
			return all, err
		}
		for _, v := range page {
			name, ok := parse(v.Message)
			if !ok {
				c.a.fault("consumer %s: seq %d is not what was sent: %s=%.100q", consumer, v.Message.Seq, v.Message.Key, v.Message.Data)
			}
			all[name] = v
		}
		q.ListQuery = q.Next(page[len(page)-1].Message.Seq)
	}
}

// newest returns the latest event of which something is there.
func (c *check) newest() (at int) {
	for stream, found := range c.found {
		for _, m := range found.messages {
			if s := c.a.sent(stream, m); s != nil {
				at = max(at, s.asked)
			}
		}
		for _, name := range consumerNames {
			for m, r := range c.a.consumers[stream+"/"+name].messages {
				if _, unsettled := found.unsettled[name][m]; !unsettled && found.present[m] {
					at = max(at, r.ack.asked)
				}
			}
		}
	}
	return at
}

// sent returns the send of a message, or nil if it was not asked for.
func (a *Accounts) sent(stream string, m Message) *sent {
	if m.Worker < 0 || m.Worker >= sendersOfStream || m.Send >= len(a.sends[stream][m.Worker]) || m.Index >= batchSize(m.Send) {
		return nil
	}
	return a.sends[stream][m.Worker][m.Send]
}

// must reports whether the operation has to be there.
func (c *check) must(o *operation) bool { return o.done > 0 && o.done < c.horizon }
