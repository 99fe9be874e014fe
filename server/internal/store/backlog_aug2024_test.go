package store

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// rowModel is a naive implementation of a consumer of the 2024 server: a table, as in that server's database.
type rowModel struct {
	limits  ConsumerLimits
	created time.Time
	table   map[string]*modelRow
}

type modelRow struct {
	key, data string
	seq       int64
	state     string
	count     int
	until     time.Time
	id        ID // zero until the store's id is known
}

func (m *rowModel) sorted() []*modelRow {
	var rows []*modelRow
	for _, r := range m.table {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *modelRow) int { return cmp.Compare(a.seq, b.seq) })
	return rows
}

// deleteAcked deletes the acked rows once their time is over.
func (m *rowModel) deleteAcked() {
	for key, r := range m.table {
		if r.state == "acked" && !time.Now().Before(m.created.Add(keepAcked)) {
			delete(m.table, key)
		}
	}
}

func (m *rowModel) stored(x Message) {
	m.deleteAcked()
	r := m.table[x.Key]
	if r == nil {
		r = &modelRow{key: x.Key, state: "available"}
		m.table[x.Key] = r
	}
	switch r.state {
	case "delivered":
		r.state = "pending"
	case "acked":
		r.state = "available"
	}
	r.data, r.seq = x.Data, x.Seq
}

func (r *modelRow) visible() bool {
	return r.state == "available" || r.state != "acked" && !r.until.After(time.Now())
}

func (m *rowModel) receive(n int) (got []*modelRow) {
	m.deleteAcked()
	rows := m.sorted()
	for _, r := range rows[:min(len(rows), m.limits.MaxAckPending)] {
		if len(got) < n && r.visible() {
			r.state, r.until = "delivered", time.Now().Add(m.limits.AckWait)
			r.count++
			got = append(got, r)
		}
	}
	return got
}

func (m *rowModel) settle(ids []ID, how Settlement) {
	m.deleteAcked()
	for _, id := range ids {
		for key, r := range m.table {
			switch {
			case r.id != id || r.id.IsZero() || r.state == "acked" || r.state == "available":
			case how != Ack || r.state == "pending":
				r.state = "available"
			case time.Now().Before(m.created.Add(keepAcked)):
				r.state = "acked"
			default:
				delete(m.table, key)
			}
		}
	}
}

// TestThe2024StoreBehavesAsItsModel runs the same random sequence of operations on both.
func TestThe2024StoreBehavesAsItsModel(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) { newRowScenario(t, seed).run(200) })
	}
}

type rowScenario struct {
	t      *testing.T
	random *rand.Rand
	steps  string
	stream Stream
	store  Consumer
	model  *rowModel
	ids    []ID
}

func newRowScenario(t *testing.T, seed uint64) *rowScenario {
	t.Helper()
	s, err := NewAug2024().CreateStream(t.Context(), StreamOptions{Name: "s"})
	require.NoError(t, err)
	limits := ConsumerLimits{AckWait: 20 * time.Second, MaxAckPending: 4, MaxDeliver: 1, MaxWaiting: 1}
	st := &rowScenario{t: t, random: rand.New(rand.NewPCG(seed, 2)), stream: s, steps: fmt.Sprint("seed ", seed, ":")}
	st.model = &rowModel{limits: limits, created: time.Now(), table: map[string]*modelRow{}}
	st.send() // before the consumer is created
	st.store, err = s.CreateConsumer(t.Context(), ConsumerOptions{Name: "c", Filter: "a.>", ConsumerLimits: limits})
	require.NoError(t, err)
	return st
}

func (s *rowScenario) run(steps int) {
	for range steps {
		switch s.random.IntN(8) {
		case 0, 1, 2:
			s.send()
		case 3, 4:
			s.receive()
		case 5, 6:
			s.settle()
		case 7:
			time.Sleep(time.Duration(s.random.IntN(30)) * time.Second)
		}
		s.check()
	}
}

// send gives the model what the store made of the batch: another test checks order and seqs.
func (s *rowScenario) send() {
	batch := make([]Message, 1+s.random.IntN(3))
	for i, key := range s.random.Perm(6)[:len(batch)] {
		batch[i] = Message{Key: []string{"a.1", "a.2", "a.3", "a.4", "a.5", "b"}[key], Data: fmt.Sprint(s.random.IntN(3))}
	}
	s.steps += fmt.Sprint(" send ", batch)
	before := s.newestSeq()
	_, err := s.stream.Send(s.t.Context(), Once{}, batch)
	require.NoError(s.t, err)
	for _, m := range must(s.stream.List(s.t.Context(), ListQuery{Limit: 100})) {
		if m.Seq > before && m.Key != "b" {
			s.model.stored(m)
		}
	}
}

func (s *rowScenario) newestSeq() int64 {
	newest := must(s.stream.List(s.t.Context(), ListQuery{Limit: 1, Desc: true}))
	if len(newest) == 0 {
		return 0
	}
	return newest[0].Seq
}

func (s *rowScenario) receive() {
	n := 1 + s.random.IntN(5)
	s.steps += fmt.Sprint(" receive ", n)
	want := s.model.receive(n)
	got, err := s.store.Receive(s.t.Context(), n, nil)
	require.NoError(s.t, err)
	require.Len(s.t, got, len(want), s.steps)
	for i, d := range got {
		w := want[i]
		require.Equal(s.t, []any{w.seq, w.key, w.data, w.count}, []any{d.Seq, d.Key, d.Data, d.Count}, s.steps)
		require.True(s.t, w.id.IsZero() || w.id == d.ID, "the ack id of %s changed: %s", w.key, s.steps)
		w.id = d.ID
		s.ids = append(s.ids, d.ID)
	}
}

func (s *rowScenario) settle() {
	var ids []ID
	for range s.random.IntN(3) {
		if len(s.ids) > 0 {
			ids = append(ids, s.ids[s.random.IntN(len(s.ids))])
		}
	}
	how := []Settlement{Ack, Ack, Nack}[s.random.IntN(3)]
	s.steps += fmt.Sprint(" settle ", how, " ", ids)
	s.model.settle(ids, how)
	require.NoError(s.t, s.store.Settle(s.t.Context(), ids, how))
}

func (s *rowScenario) check() {
	s.t.Helper()
	var want, got []string
	for _, r := range s.model.sorted() {
		if r.state != "acked" {
			want = append(want, fmt.Sprint(r.seq, r.key, r.count, r.visible()))
		}
	}
	for _, v := range must(s.store.Peek(s.t.Context(), PeekQuery{ListQuery: ListQuery{Limit: 100}})) {
		got = append(got, fmt.Sprint(v.Message.Seq, v.Message.Key, v.Count, v.State == Available))
	}
	require.Equal(s.t, want, got, s.steps)
}
