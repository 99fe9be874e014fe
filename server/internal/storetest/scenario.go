package storetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// defaultSeeds is how many random runs each kind of stream gets.
const defaultSeeds = 12

// runModel runs the same random operations on the store and on the model, and compares everything that the store shows
// after each.
func runModel(t *testing.T, cfg *Config) {
	t.Helper()
	kinds := map[string]store.StreamOptions{
		"appending":            {},
		"appending, retained":  {RetainUpTo: 12},
		"appending, bounded":   {MaxBytes: 18, RetainAtLeast: 4},
		"one per key":          {OneMessagePerKey: true},
		"one per key, all":     {OneMessagePerKey: true, ProcessUnmodified: true},
		"one per key, bounded": {OneMessagePerKey: true, MaxBytes: 16, RetainAtLeast: 2, RetainUpTo: 5},
	}
	seeds := cfg.Seeds
	if seeds == 0 {
		seeds = defaultSeeds
	}
	for name, options := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				cfg.bubble(t, func(t *testing.T) { newScenario(t, cfg, options, seed).run(150) })
			}
		})
	}
}

// scenario is one run: a stream and two consumers, and the model of each.
type scenario struct {
	f         *fixture
	random    *rand.Rand
	steps     string
	model     *model
	consumers []*pair
	sends     []pastSend // the latest ones that have a key
	lastKey   int
}

// pair is a consumer and its model.
type pair struct {
	name, filter string
	store        store.Consumer
	model        *modelConsumer
	ids          []store.ID // of all deliveries
}

// pastSend is a send that may be repeated, whole or in parts.
type pastSend struct {
	once  store.Once
	batch []store.Message
}

func newScenario(t *testing.T, cfg *Config, o store.StreamOptions, seed uint64) *scenario {
	t.Helper()
	s := &scenario{
		f: newFixture(t, cfg, o, store.ConsumerLimits{}), random: rand.New(rand.NewPCG(seed, 1)),
		model: &model{options: o, sent: map[string]rememberedSend{}},
		steps: fmt.Sprintf("seed %d:", seed),
	}
	require.NoError(t, s.f.consumer.Delete(t.Context()))
	for i, pattern := range []string{">", "a.*"} {
		p := &pair{name: fmt.Sprint("c", i), filter: pattern}
		s.consumers = append(s.consumers, p)
		s.createPair(p, store.ConsumerLimits{AckWait: 3 * time.Second, MaxAckPending: 7, MaxDeliver: 3 * i, MaxWaiting: 1})
	}
	return s
}

func (s *scenario) createPair(p *pair, limits store.ConsumerLimits) {
	o := store.ConsumerOptions{Name: p.name, Filter: p.filter, ConsumerLimits: orDefaults(limits)}
	if s.f.isExtended() && s.random.IntN(2) == 0 {
		o.Start = s.random.Int64N(s.model.seq + 4)
	}
	c, err := s.f.stream.CreateConsumer(s.f.t.Context(), o)
	require.NoError(s.f.t, err, s.steps)
	s.say("from ", o.Start)
	p.store = c
	p.model = &modelConsumer{model: s.model, filter: store.NewFilter(p.filter), limits: limits, start: o.StartIn(s.model.seq), states: map[int64]*modelState{}}
}

func (s *scenario) say(words ...any) { s.steps += " " + fmt.Sprint(words...) }

func (s *scenario) run(steps int) {
	for range steps {
		p := s.consumers[s.random.IntN(len(s.consumers))]
		switch n := s.random.IntN(100); {
		case n < 25:
			s.sendSome()
		case n < 33:
			s.repeat()
		case n < 60:
			s.receiveSome(p)
		case n < 75:
			s.settleSome(p)
		case n < 80:
			s.extendSome(p)
		case n < 88:
			s.pass(time.Duration(s.random.IntN(2000)) * time.Millisecond)
		case n < 89:
			s.pass(11 * time.Minute) // sends are forgotten
			clear(s.model.sent)
		case n < 94:
			s.updateLimits(p)
		case n < 95:
			s.recreate(p)
		case n < 97 && s.f.isExtended():
			s.purgeSome()
		default:
			s.openAgain()
		}
		s.check()
	}
}

func (s *scenario) pass(d time.Duration) {
	s.say("wait ", d)
	time.Sleep(d)
}

func (s *scenario) sendSome() {
	messages := make([]store.Message, 1+s.random.IntN(4))
	for i := range messages {
		messages[i] = store.Message{
			Key:  modelKeys[s.random.IntN(len(modelKeys))],
			Data: []string{"x", "y", "zz"}[s.random.IntN(3)],
		}
		if s.f.keepsHeaders() && s.random.IntN(3) == 0 {
			messages[i].Headers = []headers.Packed{"n\x001\x00", "n\x002\x00", "n\x00\x00o\x00\x00"}[s.random.IntN(3)]
		}
	}
	once := store.Once{Body: fmt.Append(nil, messages)}
	if s.random.IntN(2) == 0 {
		s.lastKey++
		once.Key = fmt.Sprint("send ", s.lastKey)
	}
	s.sendPast(pastSend{once, messages})
}

var modelKeys = []string{"a.1", "a.2", "a.3", "b.1", "b.2", "c"}

// repeat sends again what was sent, a part of it, or another body under its key.
func (s *scenario) repeat() {
	if len(s.sends) == 0 {
		return
	}
	again := s.sends[s.random.IntN(len(s.sends))]
	switch s.random.IntN(4) {
	case 0:
		again.once.Body = []byte("another")
	case 1, 2:
		s.lastKey++
		again.once.PartOf = []string{"unknown", again.once.Key}
		again.once.Key = fmt.Sprint("part ", s.lastKey)
		again.batch = again.batch[s.random.IntN(len(again.batch)):]
		again.once.Body = fmt.Append(nil, again.batch)
	}
	s.sendPast(again)
}

func (s *scenario) sendPast(x pastSend) {
	s.say("send ", x.once.Key, x.once.PartOf, x.batch)
	want, wantErr := s.model.sendOnce(x.once, x.batch)
	got, err := s.f.stream.Send(s.f.t.Context(), x.once, x.batch)
	if wantErr != nil {
		require.ErrorIs(s.f.t, err, wantErr, s.steps)
	} else {
		require.NoError(s.f.t, err, s.steps)
	}
	require.Equal(s.f.t, want, got, s.steps)
	if x.once.Key != "" {
		s.sends = append(s.sends[max(0, len(s.sends)-5):], x)
	}
}

func (s *scenario) receiveSome(p *pair) {
	n := 1 + s.random.IntN(5)
	s.say("receive ", p.name, " ", n)
	want := p.model.receive(n)
	got, err := p.store.Receive(s.f.t.Context(), n, nil)
	require.NoError(s.f.t, err, s.steps)
	require.Len(s.f.t, got, len(want), s.steps)
	for i, d := range got {
		w := want[i]
		require.Equal(s.f.t, []any{w.message.seq, w.message.key, w.message.data, w.message.headers, w.count, w.expired}, []any{d.Seq, d.Key, d.Data, d.Headers, d.Count, d.Expired}, s.steps)
		w.id = d.ID
		p.ids = append(p.ids, d.ID)
	}
}

// someIDs returns some of the latest ids, most of which are settled or have expired already.
func (s *scenario) someIDs(p *pair) (ids []store.ID) {
	for range s.random.IntN(4) {
		if len(p.ids) > 0 {
			recent := p.ids[max(0, len(p.ids)-8):]
			ids = append(ids, recent[s.random.IntN(len(recent))])
		}
	}
	return ids
}

func (s *scenario) extendSome(p *pair) {
	ids, wait := s.someIDs(p), time.Duration(s.random.IntN(6000))*time.Millisecond
	s.say("extend ", p.name, " ", wait, " ", ids)
	extended, err := p.store.Extend(s.f.t.Context(), ids, wait)
	require.NoError(s.f.t, err, s.steps)
	require.Equal(s.f.t, p.model.extend(ids, wait), extended, s.steps)
}

func (s *scenario) settleSome(p *pair) {
	ids := s.someIDs(p)
	how, delay := store.Settlement(s.random.IntN(3)), time.Duration(0)
	if how != store.Ack && s.random.IntN(2) == 0 {
		delay = time.Duration(s.random.IntN(3000)) * time.Millisecond
	}
	s.say("settle ", p.name, " ", how, " ", delay, " ", ids)
	p.model.settle(ids, how, delay)
	if delay == 0 {
		require.NoError(s.f.t, p.store.Settle(s.f.t.Context(), ids, how), s.steps)
	} else {
		require.NoError(s.f.t, p.store.Delay(s.f.t.Context(), ids, how, delay), s.steps)
	}
}

func (s *scenario) updateLimits(p *pair) {
	p.model.expire() // under the old limits
	limits := store.ConsumerLimits{
		AckWait:       time.Duration(1+s.random.IntN(4)) * time.Second,
		MaxAckPending: 1 + s.random.IntN(8),
		MaxDeliver:    s.random.IntN(4),
		MaxWaiting:    1,
	}
	s.say("update ", p.name, " ", limits)
	need(s.f, p.store.State) // makes the store expire its leases, too
	p.model.limits = limits
	_, err := p.store.Update(s.f.t.Context(), limits)
	require.NoError(s.f.t, err, s.steps)
	p.model.available() // applies a lowered max_deliver, as the store does at once
}

// recreate deletes a consumer and creates it again, so that it starts anew.
func (s *scenario) recreate(p *pair) {
	s.say("recreate ", p.name)
	require.NoError(s.f.t, p.store.Delete(s.f.t.Context()), s.steps)
	s.createPair(p, p.model.limits)
}

func (s *scenario) purgeSome() {
	q := store.PurgeQuery{Pattern: []string{"", "a.*", "a.1", ">"}[s.random.IntN(4)], Before: max(0, s.model.seq-int64(s.random.IntN(12)))}
	if s.random.IntN(6) == 0 {
		q.Before = 0
	}
	s.say("purge ", q)
	purged, err := s.f.extended().Purge(s.f.t.Context(), q)
	require.NoError(s.f.t, err, s.steps)
	require.Equal(s.f.t, s.model.purge(q), purged, s.steps)
}

func (s *scenario) openAgain() {
	if s.f.cfg.Reopen == nil {
		return
	}
	s.say("open again")
	s.f.store = s.f.cfg.Reopen(s.f.t, s.f.store)
	s.f.stream = s.f.findStream("s")
	for _, p := range s.consumers {
		p.store = s.f.findConsumer(s.f.stream, p.name)
	}
}

func (s *scenario) check() {
	s.f.t.Helper()
	stored := []string{}
	for _, m := range s.f.list(store.ListQuery{Limit: 1000}) {
		stored = append(stored, fmt.Sprint(m.Seq, " ", m.Key, "=", m.Data, m.Headers))
	}
	require.Equal(s.f.t, s.model.list(), stored, s.steps)
	info := s.f.streamInfo()
	require.Equal(s.f.t, []any{s.model.bytes(), len(stored)}, []any{info.Bytes, info.Messages}, s.steps)
	for _, p := range s.consumers {
		available := p.model.available()
		state := need(s.f, p.store.State)
		require.Equal(s.f.t, available, state.Available, s.steps)
		leased, delayed := p.model.outstanding()
		require.Equal(s.f.t, delayed, state.Delayed, s.steps)
		require.Len(s.f.t, state.Outstanding, leased, s.steps)
		views, err := p.store.Peek(s.f.t.Context(), store.PeekQuery{ListQuery: store.ListQuery{Limit: 1000}})
		require.NoError(s.f.t, err, s.steps)
		shown := []string{}
		for _, v := range views {
			shown = append(shown, fmt.Sprint(v.Message.Seq, " ", v.Message.Key, " ", viewText(v)))
		}
		require.Equal(s.f.t, p.model.views(), shown, s.steps)
		s.checkMeasure(p, views)
	}
	s.checkKey(modelKeys[s.random.IntN(len(modelKeys))])
}

// checkMeasure compares what metrics show of a consumer with what a peek shows.
func (s *scenario) checkMeasure(p *pair, views []store.View) {
	s.f.t.Helper()
	leased, delayed := p.model.outstanding()
	m := need(s.f, p.store.(store.Measured).Measure)
	require.Equal(s.f.t, []int{leased, delayed}, []int{m.Outstanding, m.Delayed}, s.steps)
	if m.Estimated {
		return
	}
	oldest := int64(0)
	if len(views) > 0 {
		oldest = views[0].Message.UpdatedAt
	}
	require.Equal(s.f.t, []any{len(views), oldest}, []any{m.Backlog, m.OldestAt}, s.steps)
}

// checkKey compares the newest message of a key and its states.
func (s *scenario) checkKey(key string) {
	s.f.t.Helper()
	want := s.model.newest(key)
	m, views, err := s.f.stream.States(s.f.t.Context(), key)
	if want == nil {
		require.ErrorIs(s.f.t, err, store.ErrNoMessage, s.steps)
		return
	}
	require.NoError(s.f.t, err, s.steps)
	require.Equal(s.f.t, []any{want.seq, want.data, want.headers}, []any{m.Seq, m.Data, m.Headers}, s.steps)
	states := map[string]string{} // by the names of consumers
	for _, v := range views {
		states[v.Name] = viewText(v.View)
		if v.State == store.Acked {
			states[v.Name] = ""
		}
	}
	wantStates := map[string]string{}
	for _, p := range s.consumers {
		if p.model.filter.Match(key) {
			wantStates[p.name] = p.model.view(want)
		}
	}
	require.Equal(s.f.t, wantStates, states, s.steps)
}
