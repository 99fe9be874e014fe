package durable

import (
	"context"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// A receive reads first and leases then: it plans under the lock with what has been read. When the plan needs more, it
// reads that without the lock and plans again. So an error of a read leases nothing, and what is leased is known in size.

// skipUnrecorded is how many messages a consumer may pass by, because they do not match its filter, before a record says so.
// After a crash they are read again.
const skipUnrecorded = 10_000

// receiving is one receive.
type receiving struct {
	c      *consumer
	n      int
	waiter waitqueue.Waiter // nil for a receive that does not wait

	known map[int64]windowMessage // ready messages that were read
	bytes int                     // how much of the log to read next
	need  need
	seqs  []int64 // ready messages, lowest first
	got   []store.Delivery
	own   seglog.Pos // the record of the receive
	sent  seglog.Pos // the newest record that holds a message of got
	held  string     // a key that holds up so many messages that an operator should know
}

// need is what a plan needs before it can be made.
type need uint8

const (
	nothing need = iota
	unread       // more of the log
	ready        // the messages of seqs
	sought       // the messages of keys that have left some out
)

// run leases messages and appends them to dst.
func (r *receiving) run(ctx context.Context, dst []store.Delivery) ([]store.Delivery, error) {
	s := r.c.stream
	if err := s.store.log.WaitRoom(ctx); err != nil {
		return dst, err
	}
	r.bytes = smallRun
	for {
		if err := ctx.Err(); err != nil {
			return dst, context.Cause(ctx)
		}
		if err := s.locked(r.plan); err != nil {
			return dst, err
		}
		if r.need == nothing {
			break
		}
		if err := r.read(ctx); err != nil {
			return dst, err
		}
	}
	if r.held != "" {
		s.store.options.Logger.Warn("too many messages wait for an unsettled message of their key: of some keys they are read again later",
			"stream", s.options.Name, "consumer", r.c.info.Name, "key", r.held, "waiting", s.store.options.maxMet)
	}
	if len(r.got) == 0 {
		return dst, nil
	}
	if err := s.store.log.WaitWritten(ctx, r.own); err != nil {
		return dst, err
	}
	if err := s.store.log.Wait(ctx, r.sent); err != nil {
		return dst, err
	}
	return append(dst, r.got...), nil
}

// read reads what the plan needs.
func (r *receiving) read(ctx context.Context) error {
	switch r.need {
	case unread:
		err := r.c.fill(ctx, r.bytes)
		r.bytes = min(2*r.bytes, largeRun)
		return err
	case ready:
		r.known = make(map[int64]windowMessage, len(r.seqs))
		return r.c.stream.fetch(r.seqs, func(m *rawMessage) {
			r.known[m.seq] = windowMessage{Message: m.message(), pos: m.pos}
		})
	default:
		return r.c.seek()
	}
}

// plan plans the receive, and applies the plan if nothing is missing. It requires the lock.
func (r *receiving) plan() error {
	c := r.c
	if err := c.unchangeable(); err != nil {
		return err
	}
	now := c.stream.store.clock.now()
	c.expire(now)
	if c.backlog.Seeks() > 0 {
		r.need = sought
		return nil
	}
	p := c.backlog.Plan(r.n, now, c.stream.store.opening, c.stream.store.options.maxMet)
	fresh, enough := r.choose(p)
	if !enough {
		return nil
	}
	r.need = nothing
	rec := p.Receive()
	if !rec.Empty() || rec.Next-c.backlog.Next() >= skipUnrecorded {
		r.noteHeld(rec)
		var leased []backlog.Leased
		r.own, leased = c.receive(rec, make([]backlog.Leased, 0, r.n))
		r.deliver(rec, leased, fresh)
	}
	if len(r.got) == 0 && !p.Full() && c.window.next <= c.stream.last {
		r.need = unread // all that was read waits for earlier messages
		return nil
	}
	switch {
	case r.waiter == nil:
		// The timer has to follow the new leases: a receive may wait because max_ack_pending is reached.
		c.waiting.Update()
	case len(r.got) > 0:
		c.waiting.Leave(r.waiter)
	default:
		c.waiting.Stay(r.waiter)
	}
	return nil
}

// choose shows the plan the messages. fresh are those of the window that it leases. It reports whether they are enough.
func (r *receiving) choose(p *backlog.Plan) (fresh []windowMessage, enough bool) {
	c := r.c
	var room store.AnswerRoom
	r.seqs = c.backlog.TopReady(min(r.n, c.backlog.Room()), r.seqs[:0])
	for _, seq := range r.seqs {
		m, ok := r.known[seq]
		if !ok {
			r.need = ready
			return nil, false
		}
		if !room.Take(m.Message.Size()) {
			return nil, true
		}
		p.TakeReady()
	}
	for i := range c.window.messages {
		if p.Full() {
			return fresh, true
		}
		m := &c.window.messages[i]
		if !c.stream.Alive(m.Seq) {
			continue
		}
		if p.Of(m.read()) == backlog.Fresh {
			if !room.Take(m.Message.Size()) {
				return fresh, true
			}
			fresh = append(fresh, *m)
		}
		p.Read(m.read())
	}
	if !p.Full() && c.window.next <= c.stream.last && c.window.bytes < store.MaxAnswerBytes {
		r.need = unread
		return nil, false
	}
	if !p.Full() {
		p.Skip(c.window.next)
	}
	return fresh, true
}

// noteHeld notes a key whose messages are left out of the met ones, once until there is room again.
func (r *receiving) noteHeld(rec *backlog.Receive) {
	c := r.c
	if c.backlog.Met() < c.stream.store.options.maxMet/2 {
		c.warned = false
	}
	if len(rec.Left) == 0 || c.warned {
		return
	}
	c.warned = true
	for _, m := range c.window.messages {
		if m.Seq == rec.Left[0].Seq {
			r.held = m.Key
		}
	}
}

// deliver makes the deliveries of what was leased: the ready messages, and then the fresh ones.
func (r *receiving) deliver(rec *backlog.Receive, leased []backlog.Leased, fresh []windowMessage) {
	at := r.c.stream.store.clock.wall(rec.Now)
	r.got = make([]store.Delivery, len(leased))
	for i, l := range leased {
		m := r.known[l.Seq]
		if i >= rec.Ready {
			m = fresh[i-rec.Ready]
		}
		r.sent = max(r.sent, m.pos)
		id := ackID(r.c.salt, backlog.Delivery{Seq: l.Seq, Lease: rec.Lease})
		r.got[i] = store.Delivery{Message: m.Message, ID: id, Count: l.Count, Expired: l.Expired, At: at}
	}
}

// receive records and applies a receive.
func (c *consumer) receive(rec *backlog.Receive, dst []backlog.Leased) (seglog.Pos, []backlog.Leased) {
	pos := c.record(kindReceive, rec.AppendTo)
	dst = c.backlog.Receive(rec, dst)
	c.window.readTo(c.backlog.Next())
	return pos, dst
}
