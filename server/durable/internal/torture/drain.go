package torture

import (
	"context"
	"errors"
	"fmt"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Drain lets the leases end, by wait, receives and acks everything, and holds that exactly what was unsettled comes.
func (a *Accounts) Drain(ctx context.Context, st store.Store, wait func()) []string {
	c := &check{a: a, st: st, found: map[string]*contents{}}
	for _, o := range streamOptions {
		if err := c.read(ctx, o.Name); err != nil {
			a.fault("%s cannot be read: %v", o.Name, err)
			return a.faults
		}
	}
	wait()
	for _, consumer := range consumerNames {
		for stream, found := range c.found {
			if err := a.drain(ctx, st, stream, consumer, found.unsettled[consumer]); err != nil {
				a.fault("%s/%s cannot be drained: %v", stream, consumer, err)
			}
		}
	}
	return a.faults
}

func (a *Accounts) drain(ctx context.Context, st store.Store, stream, consumer string, unsettled map[Message]store.View) error {
	s, err := st.Stream(ctx, stream)
	if err != nil {
		return err
	}
	c, err := s.Consumer(ctx, consumer)
	if err != nil {
		return err
	}
	for {
		got, err := c.Receive(ctx, 100, nil)
		if err != nil {
			return err
		}
		if len(got) == 0 {
			break
		}
		ids := make([]store.ID, len(got))
		for i, d := range got {
			ids[i] = d.ID
			m, ok := parse(d.Message)
			if _, expected := unsettled[m]; !ok || !expected {
				a.fault("%s/%s: seq %d was settled, and comes again", stream, consumer, d.Seq)
			}
			delete(unsettled, m)
		}
		if err := c.Settle(ctx, ids, store.Ack); err != nil {
			return err
		}
	}
	for m, v := range unsettled {
		if consumer != limitedConsumer || v.Count < maxDeliver {
			a.fault("%s/%s: message %v does not come when all leases have ended", stream, consumer, m)
		}
	}
	if page, err := c.Peek(ctx, store.PeekQuery{ListQuery: store.ListQuery{Limit: 1}}); err != nil || len(page) > 0 {
		return errors.Join(err, fmt.Errorf("%d messages are left", len(page)))
	}
	return nil
}
