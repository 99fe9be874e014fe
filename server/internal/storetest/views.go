package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var viewTests = []test{
	{promise: "a list returns what the query asks for", check: listAnswers},
	{promise: "a list returns what the query asks for where messages are replaced", check: listOfReplaced, options: onePerKey},
	{promise: "a peek lists what is not settled", check: peekAnswers},
	{promise: "a peek from the middle shows what a whole one shows there", check: peekFromTheMiddle},
	{promise: "a long peek from the middle shows the same", check: longPeekFromTheMiddle},
	{promise: "a peek shows the lease of a replaced message", check: peekOfReplaced, options: onePerKey, timed: true},
	{promise: "a peek leases nothing", check: peekLeasesNothing},
	{promise: "the states of a message follow what happens to it", check: statesFollow},
	{promise: "the states of a message name the consumers that match", check: statesNameConsumers},
	{promise: "a view shows the lease", check: viewShowsTheLease, timed: true},
	{promise: "the state of a consumer counts", check: stateCounts, timed: true},
}

var words = [...]string{store.Available: "available", store.Delivered: "delivered", store.Withheld: "withheld", store.Acked: "acked", store.Delayed: "delayed"}

func listAnswers(f *fixture) {
	f.send("a.1", "b.1", "a.2", "b.2", "a.3")
	for _, tt := range []struct {
		q    store.ListQuery
		want []string
	}{
		{store.ListQuery{Limit: 9}, []string{"a.1=", "b.1=", "a.2=", "b.2=", "a.3="}},
		{store.ListQuery{Limit: 2}, []string{"a.1=", "b.1="}},
		{store.ListQuery{Limit: 2, Desc: true}, []string{"a.3=", "b.2="}},
		{store.ListQuery{Limit: 2, Pattern: "a.*"}, []string{"a.1=", "a.2="}},
		{store.ListQuery{Limit: 5, Pattern: "b.>", Desc: true}, []string{"b.2=", "b.1="}},
		{store.ListQuery{Limit: 5, After: 1, Before: 4}, []string{"b.1=", "a.2="}},
		{store.ListQuery{Limit: 2, Before: 4, Desc: true}, []string{"a.2=", "b.1="}},
		{store.ListQuery{Limit: 9, After: 3, Pattern: "a.*"}, []string{"a.3="}},
		{store.ListQuery{Limit: 9, After: 5}, []string{}},
		{store.ListQuery{Limit: 9, Before: 1}, []string{}},
		{store.ListQuery{Limit: 9, After: 4, Before: 2}, []string{}},
		{store.ListQuery{Limit: 9, Pattern: "c"}, []string{}},
	} {
		require.Equal(f.t, tt.want, pairs(f.list(tt.q)), "%+v", tt.q)
	}
}

func listOfReplaced(f *fixture) {
	f.send("a=1", "b=1", "c=1", "d=1")
	f.send("b=2", "a=2")
	all := []string{"c=1", "d=1", "b=2", "a=2"}
	require.Equal(f.t, all, pairs(f.list(store.ListQuery{Limit: 9})))
	require.Equal(f.t, reversed(all), pairs(f.list(store.ListQuery{Limit: 9, Desc: true})))
	require.Equal(f.t, all[1:3], pairs(f.list(store.ListQuery{Limit: 9, After: 3, Before: 6})))
	var paged []string
	q := store.ListQuery{Limit: 1}
	for page := f.list(q); len(page) > 0; page = f.list(q) {
		paged = append(paged, pairs(page)...)
		q = q.Next(page[0].Seq)
	}
	require.Equal(f.t, all, paged)
}

func (f *fixture) peekWords(q store.PeekQuery) []string {
	f.t.Helper()
	out := []string{}
	for _, v := range f.peek(q) {
		out = append(out, v.Message.Key+" "+words[v.State])
	}
	return out
}

func peekAnswers(f *fixture) {
	f.send("a", "b", "a", "c")
	f.ack(f.receive(2)[1]) // a is on lease, b acked
	f.send("d", "d")
	yes, no := true, false
	all := []string{"a delivered", "a withheld", "c available", "d available", "d withheld"}
	for _, tt := range []struct {
		q    store.PeekQuery
		want []string
	}{
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}}, all},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}, Visible: &yes}, []string{"c available", "d available"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}, Visible: &no}, []string{"a delivered", "a withheld", "d withheld"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 2, Desc: true}}, []string{"d withheld", "d available"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 2, Pattern: "c"}}, []string{"c available"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9, After: 1, Before: 5}}, []string{"a withheld", "c available"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9, After: 5}}, []string{"d withheld"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 9, Pattern: "d"}}, []string{"d available", "d withheld"}},
		{store.PeekQuery{ListQuery: store.ListQuery{Limit: 1, Before: 5, Desc: true}, Visible: &no}, []string{"a withheld"}},
	} {
		require.Equal(f.t, tt.want, f.peekWords(tt.q), "%+v", tt.q)
	}
	f.receive(10) // now everything has been looked at
	require.Equal(f.t, []string{"a delivered", "a withheld", "c delivered", "d delivered", "d withheld"},
		f.peekWords(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}}))
}

// peekFromTheMiddle: whether a message waits behind one of its key may rest on messages that the query leaves out.
func peekFromTheMiddle(f *fixture) {
	yes, no := true, false
	random := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		for range 12 {
			f.send(fmt.Sprint("k", random.IntN(8), "=", random.Int()))
		}
		got := f.receive(3)
		f.ack(got[:len(got)/2]...)
		f.settle(store.Nack, got[len(got)-1])
	}
	whole := f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 100}})
	require.NotEmpty(f.t, whole)
	for _, visible := range []*bool{nil, &yes, &no} {
		for after := int64(0); after < 50; after += 3 {
			rest := slices.DeleteFunc(slices.Clone(whole), func(v store.View) bool {
				return v.Message.Seq <= after || visible != nil && *visible != (v.State == store.Available)
			})
			for _, limit := range []int{1, 2, 100} {
				q := store.PeekQuery{ListQuery: store.ListQuery{Limit: limit, After: after}, Visible: visible}
				require.Equal(f.t, rest[:min(limit, len(rest))], append([]store.View{}, f.peek(q)...), "%+v", q)
			}
		}
	}
}

// longPeekFromTheMiddle: a store may look at a part of the messages at a time.
func longPeekFromTheMiddle(f *fixture) {
	const messages = 1200
	random := rand.New(rand.NewPCG(1, 2))
	var all []string
	for i := range messages {
		all = append(all, fmt.Sprint("k", random.IntN(messages), "=", i))
	}
	f.send(all...)
	f.ack(f.receive(5)...)
	q := store.PeekQuery{ListQuery: store.ListQuery{Limit: messages}}
	whole := f.peek(q)
	q.After = messages / 6
	from := slices.IndexFunc(whole, func(v store.View) bool { return v.Message.Seq > q.After })
	require.Equal(f.t, whole[from:], f.peek(q))
}

// peekOfReplaced: a version that replaced a delivered one is shown as delivered until that lease ends, with the ack id and
// the times of the lease that withholds it.
func peekOfReplaced(f *fixture) {
	f.send("a=1", "b=1")
	leased := f.receive(1)
	end := time.Now().Add(time.Minute).UnixMicro()
	time.Sleep(time.Second)
	f.send("a=2")
	views := f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})
	require.Len(f.t, views, 2)
	require.Equal(f.t, "b", views[0].Message.Key)
	require.Equal(f.t, []any{"2", store.Delivered, leased[0].ID, end}, []any{views[1].Message.Data, views[1].State, views[1].ID, views[1].NotVisibleUntil})
	f.ack(leased...)
	require.Equal(f.t, []string{"b available", "a available"}, f.peekWords(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}}))
}

func peekLeasesNothing(f *fixture) {
	f.send(numbered("k", 20)...)
	for range 3 {
		require.Len(f.t, f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 100}}), 20)
	}
	all := f.receive(100)
	require.Len(f.t, all, 20)
	require.Equal(f.t, 1, all[0].Count)
}

func statesFollow(f *fixture) {
	requireState := func(want store.State) {
		f.t.Helper()
		m, views, err := f.stream.States(f.t.Context(), "a")
		require.NoError(f.t, err)
		require.Len(f.t, views, 1)
		require.Equal(f.t, words[want], words[views[0].State])
		require.Equal(f.t, m, views[0].Message)
	}
	f.send("a")
	requireState(store.Available)
	first := f.receive(1)
	requireState(store.Delivered)
	f.send("a")
	requireState(store.Withheld)
	f.ack(first...)
	requireState(store.Available)
	second := f.receive(1)
	requireState(store.Delivered)
	f.nack(second...)
	requireState(store.Available)
	f.ack(f.receive(1)...)
	requireState(store.Acked)
}

func statesNameConsumers(f *fixture) {
	d := f.createConsumer(f.stream, "d", "a.>", store.ConsumerLimits{})
	f.createConsumer(f.stream, "e", "b.>", store.ConsumerLimits{})
	f.send("a.1=x")
	m, views, err := f.stream.States(f.t.Context(), "a.1")
	require.NoError(f.t, err)
	require.Equal(f.t, []any{"a.1", "x", int64(1)}, []any{m.Key, m.Data, m.Seq})
	require.Len(f.t, views, 2)
	require.Equal(f.t, []string{f.consumer.ID(), "c", ">"}, []string{views[0].ConsumerID, views[0].Name, views[0].Filter})
	require.Equal(f.t, []string{d.ID(), "d", "a.>"}, []string{views[1].ConsumerID, views[1].Name, views[1].Filter})
}

func viewShowsTheLease(f *fixture) {
	f.send("a")
	view := func() store.View { return f.peek(store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})[0] }
	require.Equal(f.t, store.View{Message: f.list(store.ListQuery{Limit: 1})[0]}, view())
	begin := time.Now()
	first := f.receive(1)
	require.Equal(f.t, store.View{
		Message: first[0].Message, ID: first[0].ID, Count: 1, State: store.Delivered,
		LastDeliveredAt: begin.UnixMicro(), NotVisibleUntil: begin.Add(time.Minute).UnixMicro(),
	}, view())
	time.Sleep(time.Minute)
	require.Equal(f.t, store.View{Message: first[0].Message, Count: 1, LastDeliveredAt: begin.UnixMicro()}, view())
}

func stateCounts(f *fixture) {
	f.send("a=1", "a=2", "b=1", "c=1", "d=1")
	f.update(func(l *store.ConsumerLimits) { l.MaxAckPending = 2 })
	all := f.receive(9)
	begin := time.Now()
	place, err := f.consumer.Queue(f.t.Context())
	require.NoError(f.t, err)
	defer place.Leave()
	s := f.state()
	require.Equal(f.t, 1, s.Waiting)
	require.Equal(f.t, 2, s.Available, "max_ack_pending does not count")
	require.Equal(f.t, f.info(), s.Info)
	require.Len(f.t, s.Outstanding, 2)
	for i, o := range s.Outstanding {
		require.Equal(f.t, all[i], o.Delivery)
		require.True(f.t, begin.Add(time.Minute).Equal(o.Until))
	}
	time.Sleep(time.Minute)
	s = f.state()
	require.Empty(f.t, s.Outstanding)
	require.Equal(f.t, 4, s.Available)
}
