package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// model is a naive implementation of the documented behaviour: it answers every question by looking at every message.
type model struct {
	options  StreamOptions
	messages []*modelMessage // including dead ones
	seq      int64
}

type modelMessage struct {
	key, data string
	seq       int64
	dead      bool
	dropped   bool
}

// modelConsumer has a state for each message that was delivered.
type modelConsumer struct {
	model  *model
	filter Filter
	limits ConsumerLimits
	states map[int64]*modelState
}

type modelState struct {
	message *modelMessage
	count   int
	id      ID // while on lease
	until   time.Time
	done    bool
}

func (m *model) live() []*modelMessage {
	return slices.DeleteFunc(slices.Clone(m.messages), func(x *modelMessage) bool { return x.dead })
}

func (m *model) bytes() (n int64) {
	for _, x := range m.live() {
		n += int64(len(x.key) + len(x.data))
	}
	return n
}

// send stores one message after the other. When they do not fit it restores what was there before.
func (m *model) send(batch []Message) (published int, err error) {
	before := make([]modelMessage, len(m.messages))
	for i, x := range m.messages {
		before[i] = *x
	}
	first := m.seq
	var mine []*modelMessage
	for _, in := range batch {
		if m.options.OneMessagePerKey {
			i := slices.IndexFunc(m.messages, func(x *modelMessage) bool { return !x.dead && x.key == in.Key })
			if i >= 0 && m.messages[i].data == in.Data && !m.options.ProcessUnmodified {
				continue
			}
			if i >= 0 {
				m.messages[i].dead = true
			}
		}
		m.seq++
		x := &modelMessage{key: in.Key, data: in.Data, seq: m.seq}
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
			return 0, ErrFull
		}
		oldest.dead, oldest.dropped = true, true
	}
	for m.options.RetainUpTo > 0 && len(m.live()) > m.options.RetainUpTo {
		oldest := m.live()[0]
		oldest.dead, oldest.dropped = true, true
	}
	return published, nil
}

// expire ends leases that have expired or whose message was dropped.
func (c *modelConsumer) expire() {
	now := time.Now()
	for _, s := range c.states {
		if s.onLease() && (!s.until.After(now) || s.message.dropped) {
			c.release(s, Nack)
		}
	}
}

func (s *modelState) onLease() bool { return !s.id.IsZero() }

func (c *modelConsumer) release(s *modelState, how Settlement) {
	s.id = ID{}
	if how == Return {
		s.count--
	}
	s.done = s.done || how == Ack || s.message.dead || c.limits.MaxDeliver > 0 && s.count >= c.limits.MaxDeliver
}

func (c *modelConsumer) outstanding() (n int) {
	for _, s := range c.states {
		if s.onLease() {
			n++
		}
	}
	return n
}

// deliverable reports whether x could be delivered now: it is not settled, and every older message of its key is.
func (c *modelConsumer) deliverable(x *modelMessage) bool {
	if !c.filter.Match(x.key) || x.dead {
		return false
	}
	for _, older := range c.model.messages {
		s := c.states[older.seq]
		if older.seq > x.seq || older.key != x.key {
			continue
		}
		if s != nil && !s.done && !s.onLease() && c.limits.MaxDeliver > 0 && s.count >= c.limits.MaxDeliver {
			s.done = true // the limit was lowered
		}
		unsettled := s == nil && !older.dead || s != nil && !s.done && (s.onLease() || !older.dead)
		if older != x && unsettled {
			return false
		}
		if older == x && (!unsettled || s != nil && s.onLease()) {
			return false
		}
	}
	return true
}

func (c *modelConsumer) receive(n int) (got []*modelState) {
	c.expire()
	for _, x := range c.model.messages {
		if len(got) == n || c.outstanding() >= c.limits.MaxAckPending {
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
		s.id[0] = 1 // until the store's id is known
		s.until = time.Now().Add(c.limits.AckWait)
		got = append(got, s)
	}
	return got
}

func (c *modelConsumer) settle(ids []ID, how Settlement) {
	c.expire()
	for _, id := range ids {
		for _, s := range c.states {
			if s.id == id {
				c.release(s, how)
			}
		}
	}
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

// TestTheDocumentedStoreBehavesAsItsModel runs the same random sequence of operations on both.
func TestTheDocumentedStoreBehavesAsItsModel(t *testing.T) {
	kinds := map[string]StreamOptions{
		"appending":            {},
		"appending, retained":  {RetainUpTo: 12},
		"appending, bounded":   {MaxBytes: 18, RetainAtLeast: 4},
		"one per key":          {OneMessagePerKey: true},
		"one per key, all":     {OneMessagePerKey: true, ProcessUnmodified: true},
		"one per key, bounded": {OneMessagePerKey: true, MaxBytes: 16, RetainAtLeast: 2, RetainUpTo: 5},
	}
	for name, options := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(12) {
				synctest.Test(t, func(t *testing.T) { newScenario(t, options, seed).run(150) })
			}
		})
	}
}

// scenario is one run: a stream and two consumers, and the model of each.
type scenario struct {
	t         *testing.T
	random    *rand.Rand
	steps     string
	stream    Stream
	model     *model
	consumers []*pair
}

type pair struct {
	store Consumer
	model *modelConsumer
	ids   []ID // of all deliveries
}

func newScenario(t *testing.T, o StreamOptions, seed uint64) *scenario {
	t.Helper()
	o.Name = "s"
	s, err := NewMemory().CreateStream(t.Context(), o)
	require.NoError(t, err)
	st := &scenario{t: t, random: rand.New(rand.NewPCG(seed, 1)), stream: s, model: &model{options: o}}
	for i, pattern := range []string{">", "a.*"} {
		limits := ConsumerLimits{AckWait: 3 * time.Second, MaxAckPending: 7, MaxDeliver: 3 * i, MaxWaiting: 1}
		c, err := s.CreateConsumer(t.Context(), ConsumerOptions{Name: fmt.Sprint(i), Filter: pattern, ConsumerLimits: limits})
		require.NoError(t, err)
		st.consumers = append(st.consumers, &pair{store: c, model: &modelConsumer{
			model: st.model, filter: NewFilter(pattern), limits: limits, states: map[int64]*modelState{},
		}})
	}
	st.steps = fmt.Sprintf("seed %d:", seed)
	return st
}

func (s *scenario) run(steps int) {
	for range steps {
		p := s.consumers[s.random.IntN(len(s.consumers))]
		switch s.random.IntN(10) {
		case 0, 1, 2:
			s.send()
		case 3, 4, 5:
			s.receive(p)
		case 6, 7:
			s.settle(p)
		case 8:
			wait := time.Duration(s.random.IntN(2000)) * time.Millisecond
			s.steps += fmt.Sprint(" wait ", wait)
			time.Sleep(wait)
		case 9:
			s.update(p)
		}
		s.check()
	}
}

func (s *scenario) send() {
	batch := make([]Message, 1+s.random.IntN(4))
	for i := range batch {
		batch[i] = Message{
			Key:  []string{"a.1", "a.2", "a.3", "b.1", "b.2", "c"}[s.random.IntN(6)],
			Data: []string{"x", "y", "zz"}[s.random.IntN(3)],
		}
	}
	s.steps += fmt.Sprint(" send ", batch)
	want, wantErr := s.model.send(batch)
	got, err := s.stream.Send(s.t.Context(), Once{}, batch)
	require.Equal(s.t, wantErr, err, s.steps)
	require.Equal(s.t, want, got, s.steps)
}

func (s *scenario) receive(p *pair) {
	n := 1 + s.random.IntN(5)
	s.steps += fmt.Sprint(" receive ", must(p.store.Info(s.t.Context())).Name, " ", n)
	want := p.model.receive(n)
	got, err := p.store.Receive(s.t.Context(), n, nil)
	require.NoError(s.t, err, s.steps)
	require.Len(s.t, got, len(want), s.steps)
	for i, d := range got {
		w := want[i]
		require.Equal(s.t, []any{w.message.seq, w.message.key, w.message.data, w.count}, []any{d.Seq, d.Key, d.Data, d.Count}, s.steps)
		w.id = d.ID
		p.ids = append(p.ids, d.ID)
	}
}

// settle settles some of the latest ids, most of which are settled or expired already.
func (s *scenario) settle(p *pair) {
	var ids []ID
	for range s.random.IntN(4) {
		if len(p.ids) > 0 {
			recent := p.ids[max(0, len(p.ids)-8):]
			ids = append(ids, recent[s.random.IntN(len(recent))])
		}
	}
	how := Settlement(s.random.IntN(3))
	s.steps += fmt.Sprint(" settle ", must(p.store.Info(s.t.Context())).Name, " ", how, " ", ids)
	p.model.settle(ids, how)
	require.NoError(s.t, p.store.Settle(s.t.Context(), ids, how), s.steps)
}

func (s *scenario) update(p *pair) {
	p.model.expire() // under the old limits
	limits := ConsumerLimits{
		AckWait:       time.Duration(1+s.random.IntN(4)) * time.Second,
		MaxAckPending: 1 + s.random.IntN(8),
		MaxDeliver:    s.random.IntN(4),
		MaxWaiting:    1,
	}
	s.steps += fmt.Sprint(" update ", must(p.store.Info(s.t.Context())).Name, " ", limits)
	_, _ = p.store.State(s.t.Context()) // makes the store expire its leases, too
	p.model.limits = limits
	_, err := p.store.Update(s.t.Context(), limits)
	require.NoError(s.t, err, s.steps)
	p.model.available() // applies a lowered max_deliver, as the store does at once
}

func (s *scenario) check() {
	s.t.Helper()
	var want, got []string
	for _, x := range s.model.live() {
		want = append(want, fmt.Sprint(x.seq, x.key, x.data))
	}
	for _, m := range must(s.stream.List(s.t.Context(), ListQuery{Limit: 1000})) {
		got = append(got, fmt.Sprint(m.Seq, m.Key, m.Data))
	}
	require.Equal(s.t, want, got, s.steps)
	require.Equal(s.t, s.model.bytes(), must(s.stream.Info(s.t.Context())).Bytes, s.steps)
	require.Equal(s.t, len(want), must(s.stream.Info(s.t.Context())).Messages, s.steps)
	for _, p := range s.consumers {
		available := p.model.available()
		state := must(p.store.State(s.t.Context()))
		require.Equal(s.t, available, state.Available, s.steps)
		require.Len(s.t, state.Outstanding, p.model.outstanding(), s.steps)
	}
}
