package storetest

import (
	"slices"
	"time"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// model is a naive implementation of the documented behaviour: it answers every question by looking at every message.
type model struct {
	options  store.StreamOptions
	messages []*modelMessage // including dead ones
	sent     map[string]rememberedSend
	seq      int64
}

type modelMessage struct {
	key, data string
	headers   headers.Packed
	seq       int64
	dead      bool
	dropped   bool
}

// modelConsumer has a state for each message that was delivered.
type modelConsumer struct {
	model  *model
	filter store.Filter
	limits store.ConsumerLimits
	start  int64
	states map[int64]*modelState
}

type modelState struct {
	message *modelMessage
	count   int
	expired int      // of count: ended with the lease, neither settled nor extended
	id      store.ID // while on lease
	until   time.Time
	delayed time.Time // when the delay ends, zero for none
	done    bool

	extended bool
}

func (m *model) live() []*modelMessage {
	return slices.DeleteFunc(slices.Clone(m.messages), func(x *modelMessage) bool { return x.dead })
}

func (m *model) bytes() (n int64) {
	for _, x := range m.live() {
		n += int64(len(x.key) + len(x.data) + len(x.headers))
	}
	return n
}

// send stores one message after the other. When they do not fit it restores what was there before.
func (m *model) send(batch []store.Message) (published int, err error) {
	before := make([]modelMessage, len(m.messages))
	for i, x := range m.messages {
		before[i] = *x
	}
	first := m.seq
	var mine []*modelMessage
	for _, in := range batch {
		if m.options.OneMessagePerKey {
			i := slices.IndexFunc(m.messages, func(x *modelMessage) bool { return !x.dead && x.key == in.Key })
			if i >= 0 && m.messages[i].data == in.Data && m.messages[i].headers == in.Headers && !m.options.ProcessUnmodified {
				continue
			}
			if i >= 0 {
				m.messages[i].dead = true
			}
		}
		m.seq++
		x := &modelMessage{key: in.Key, data: in.Data, headers: in.Headers, seq: m.seq}
		m.messages = append(m.messages, x)
		mine = append(mine, x)
		published++
	}
	// Of several messages of one key in a batch only the last is stored, and only it takes a seq.
	m.messages = slices.DeleteFunc(m.messages, func(x *modelMessage) bool { return x.dead && slices.Contains(mine, x) })
	m.seq = first
	for _, x := range mine {
		if !x.dead {
			m.seq++
			x.seq = m.seq
		}
	}
	for m.options.MaxBytes > 0 && m.bytes() > m.options.MaxBytes {
		oldest := m.live()[0]
		if slices.Contains(mine, oldest) || len(m.live()) <= m.options.RetainAtLeast {
			m.messages = m.messages[:len(before)]
			for i := range before {
				*m.messages[i] = before[i]
			}
			m.seq = first
			return 0, store.ErrFull
		}
		oldest.dead, oldest.dropped = true, true
	}
	for m.options.RetainUpTo > 0 && len(m.live()) > m.options.RetainUpTo {
		oldest := m.live()[0]
		oldest.dead, oldest.dropped = true, true
	}
	return published, nil
}

func (m *model) purge(q store.PurgeQuery) (purged int) {
	f := store.NewFilter(q.Pattern)
	for _, x := range m.live() {
		if (q.Pattern == "" || f.Match(x.key)) && (q.Before == 0 || x.seq < q.Before) {
			x.dead, x.dropped = true, true
			purged++
		}
	}
	return purged
}

// expire ends leases that have expired or whose message was dropped.
func (c *modelConsumer) expire() {
	now := time.Now()
	for _, s := range c.states {
		if s.onLease() && (!s.until.After(now) || s.message.dropped) {
			if !s.extended && !s.until.After(now) {
				s.expired++
			}
			c.release(s, store.Nack, 0)
		}
		if s.isDelayed() && (!s.delayed.After(now) || s.message.dead) {
			s.delayed = time.Time{}
		}
	}
}

func (s *modelState) onLease() bool { return !s.id.IsZero() }

func (s *modelState) isDelayed() bool { return !s.delayed.IsZero() }

func (c *modelConsumer) release(s *modelState, how store.Settlement, delay time.Duration) {
	s.id = store.ID{}
	if how == store.Return {
		s.count--
	}
	s.done = s.done || how == store.Ack || s.message.dead || c.limits.MaxDeliver > 0 && s.count >= c.limits.MaxDeliver
	if delay > 0 && !s.done {
		s.delayed = time.Now().Add(delay)
	}
}

func (c *modelConsumer) outstanding() (leased, delayed int) {
	for _, s := range c.states {
		if s.onLease() {
			leased++
		}
		if s.isDelayed() {
			delayed++
		}
	}
	return leased, delayed
}

// deliverable reports whether x could be delivered now: it is not settled, and every older message of its key is.
func (c *modelConsumer) deliverable(x *modelMessage) bool {
	if !c.filter.Match(x.key) || x.dead || x.seq < c.start {
		return false
	}
	for _, older := range c.model.messages {
		s := c.states[older.seq]
		if older.seq > x.seq || older.key != x.key || older.seq < c.start {
			continue
		}
		if s != nil && !s.done && !s.onLease() && !s.isDelayed() && c.limits.MaxDeliver > 0 && s.count >= c.limits.MaxDeliver {
			s.done = true // the limit was lowered
		}
		unsettled := s == nil && !older.dead || s != nil && !s.done && (s.onLease() || !older.dead)
		if older != x && unsettled {
			return false
		}
		if older == x && (!unsettled || s != nil && (s.onLease() || s.isDelayed())) {
			return false
		}
	}
	return true
}

func (c *modelConsumer) receive(n int) (got []*modelState) {
	c.expire()
	for _, x := range c.model.messages {
		if leased, delayed := c.outstanding(); len(got) == n || leased+delayed >= c.limits.MaxAckPending {
			break
		}
		if !c.deliverable(x) {
			continue
		}
		s := c.states[x.seq]
		if s == nil {
			s = &modelState{message: x}
			c.states[x.seq] = s
		}
		s.count++
		s.extended = false
		s.id[0] = 1 // until the store's id is known
		s.until = time.Now().Add(c.limits.AckWait)
		got = append(got, s)
	}
	return got
}

func (c *modelConsumer) settle(ids []store.ID, how store.Settlement, delay time.Duration) {
	c.expire()
	for _, id := range ids {
		for _, s := range c.states {
			if s.id == id {
				c.release(s, how, delay)
			}
		}
	}
}

func (c *modelConsumer) extend(ids []store.ID, wait time.Duration) (extended []store.ID) {
	c.expire()
	for _, id := range ids {
		for _, s := range c.states {
			if s.onLease() && s.id == id {
				extended = append(extended, id)
				s.extended = true
				if until := time.Now().Add(wait); until.After(s.until) {
					s.until = until
				}
			}
		}
	}
	return extended
}

func (c *modelConsumer) available() (n int) {
	c.expire()
	for _, x := range c.model.messages {
		if c.deliverable(x) {
			n++
		}
	}
	return n
}
