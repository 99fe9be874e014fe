package store

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestFilter(t *testing.T) {
	tests := []struct {
		pattern string
		match   []string
		not     []string
	}{
		{">", []string{"a", "a.b", "a.b.c"}, nil},
		{"a", []string{"a"}, []string{"b", "aa", "a.b"}},
		{"a.>", []string{"a.b", "a.b.c"}, []string{"a", "b.a", "ab.c"}},
		{"*", []string{"a", "b"}, []string{"a.b"}},
		{"a.*", []string{"a.b"}, []string{"a", "a.b.c", "b.b"}},
		{"*.b", []string{"a.b", "b.b"}, []string{"a", "a.c", "a.b.c"}},
		{"a.*.c", []string{"a.b.c"}, []string{"a.c", "a.b.b", "a.b.c.d"}},
		{"*.*.>", []string{"a.b.c", "a.b.c.d"}, []string{"a.b"}},
		{"a..b", nil, []string{"a.b", "a"}},
	}
	for _, tt := range tests {
		f := newFilter(tt.pattern)
		for _, key := range tt.match {
			require.Truef(t, f.match(key), "%s and %s", tt.pattern, key)
		}
		for _, key := range tt.not {
			require.Falsef(t, f.match(key), "%s and %s", tt.pattern, key)
		}
	}
}

func TestParseID(t *testing.T) {
	const good = "7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"
	for _, text := range []string{good, strings.ToUpper(good)} {
		id, ok := ParseID([]byte(text))
		require.True(t, ok)
		require.Equal(t, good, id.String())
	}
	for name, text := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "0", "no dashes": strings.ReplaceAll(good, "-", ""),
		"dash moved": "7b1e4c9-e3a0f-4f0e-9d3a-0f6f2f1d2c3b", "no digit": "g" + good[1:],
		"version 1": "7b1e4c9e-3a0f-1f0e-9d3a-0f6f2f1d2c3b", "other variant": "7b1e4c9e-3a0f-4f0e-cd3a-0f6f2f1d2c3b",
	} {
		_, ok := ParseID([]byte(text))
		require.Falsef(t, ok, "%s: %s", name, text)
	}
}

func TestMadeIDsParseAndNameTheirSlot(t *testing.T) {
	source := newIDSource()
	seen := map[ID]bool{}
	for slot := range uint32(1000) {
		id := source.forSlot(slot)
		parsed, ok := ParseID([]byte(id.String()))
		require.True(t, ok)
		require.Equal(t, id, parsed)
		require.Equal(t, slot, parsed.slot())
		require.False(t, seen[id])
		seen[id] = true
	}
	require.NotEqual(t, source.forSlot(1), source.forSlot(1))
}

// TestTheLogStaysSmall replaces one of two keys a thousand times.
func TestTheLogStaysSmall(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true}, ConsumerLimits{})
	f.send("cold")
	for range 1_000 {
		f.send("hot")
	}
	l := &f.Stream.(*stream).log
	require.Less(t, len(l.entries), 3*minGarbage)
	require.Equal(t, 2, l.live)
	got := f.receive(10)
	require.Equal(t, []string{"cold", "hot"}, []string{got[0].Key, got[1].Key})
}

// TestAReplacedKeyOnLeaseHoldsOneVersionBack sends a thousand versions while the first is on lease.
func TestAReplacedKeyOnLeaseHoldsOneVersionBack(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true, ProcessUnmodified: true}, ConsumerLimits{})
	f.send("hot")
	first := f.receive(1)
	for range 1_000 {
		f.send("hot")
		require.Empty(t, f.receive(1))
	}
	require.Len(t, f.consumer.(*leaseConsumer).heads["hot"].behind, 1)
	require.NoError(t, f.consumer.Settle([]ID{first[0].ID}, Ack))
	require.Len(t, f.receive(10), 1)
}

func TestList(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a.1", "b.1", "a.2", "b.2", "a.3")
	keys := func(q ListQuery) (out []string) {
		for _, m := range f.List(q) {
			out = append(out, m.Key)
		}
		return out
	}
	require.Equal(t, []string{"a.1", "b.1"}, keys(ListQuery{Limit: 2}))
	require.Equal(t, []string{"a.3", "b.2"}, keys(ListQuery{Limit: 2, Desc: true}))
	require.Equal(t, []string{"a.1", "a.2", "a.3"}, keys(ListQuery{Limit: 5, Pattern: "a.*"}))
	require.Equal(t, []string{"b.2", "b.1"}, keys(ListQuery{Limit: 5, Pattern: "b.>", Desc: true}))
}

func TestPeek(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.send("a", "b", "a", "c")
	require.NoError(t, f.consumer.Settle([]ID{f.receive(2)[1].ID}, Ack)) // a is on lease, b acked
	f.send("d", "d")
	yes, no := true, false
	peek := func(q PeekQuery) (out []string) {
		for _, v := range f.consumer.Peek(q) {
			out = append(out, v.Message.Key+[]string{" available", " delivered", " withheld", " acked"}[v.State])
		}
		return out
	}
	all := []string{"a delivered", "a withheld", "c available", "d available", "d withheld"}
	require.Equal(t, all, peek(PeekQuery{ListQuery: ListQuery{Limit: 9}}))
	require.Equal(t, []string{"c available", "d available"}, peek(PeekQuery{ListQuery{Limit: 9}, &yes}))
	require.Equal(t, []string{"a delivered", "a withheld", "d withheld"}, peek(PeekQuery{ListQuery{Limit: 9}, &no}))
	require.Equal(t, []string{"d withheld", "d available"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 2, Desc: true}}))
	require.Equal(t, []string{"c available"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 2, Pattern: "c"}}))
	f.receive(10) // moves the consumer past everything: the same, but for what is on lease now
	require.Equal(t, []string{"a delivered", "a withheld", "c delivered", "d delivered", "d withheld"}, peek(PeekQuery{ListQuery: ListQuery{Limit: 9}}))
}

func TestStatesFollowTheNewestVersion(t *testing.T) {
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	state := func() State {
		t.Helper()
		_, views, err := f.States("a")
		require.NoError(t, err)
		require.Len(t, views, 1)
		return views[0].State
	}
	f.send("a")
	require.Equal(t, Available, state())
	got := f.receive(1)
	require.Equal(t, Delivered, state())
	f.send("a")
	require.Equal(t, Withheld, state())
	require.NoError(t, f.consumer.Settle([]ID{got[0].ID}, Ack))
	require.Equal(t, Available, state())
	require.NoError(t, f.consumer.Settle([]ID{f.receive(1)[0].ID}, Ack))
	require.Equal(t, Acked, state())
	_, _, err := f.States("b")
	require.Equal(t, ErrNoMessage, err)
}

// TestOneMessageDoesNotKeepItsRequestInMemory looks at the strings: those of a stream that keeps some messages long must
// not be cut from the text of the whole request.
func TestOneMessageDoesNotKeepItsRequestInMemory(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true}, ConsumerLimits{})
	text := strings.Repeat("x", 1000)
	_, err := f.Send([]Message{{Key: text[:1], Data: text[1:2]}})
	require.NoError(t, err)
	stored, err := f.Get("x")
	require.NoError(t, err)
	require.NotSame(t, stringData(text[:1]), stringData(stored.Key))
	require.NotSame(t, stringData(text[1:2]), stringData(stored.Data))
}

func TestNamesOfThe2024StoreFoldCase(t *testing.T) {
	m := NewAug2024()
	_, err := m.CreateStream(StreamOptions{Name: "s", RetainUpTo: 1})
	require.NoError(t, err)
	_, err = m.CreateStream(StreamOptions{Name: "s"})
	require.Equal(t, ErrNameTaken, err)
	_, err = m.CreateStream(StreamOptions{Name: "S"})
	require.Equal(t, ErrNameCase, err)
}

func TestABatchOfThe2024StoreIsStoredLastMessageFirst(t *testing.T) {
	s, err := NewAug2024().CreateStream(StreamOptions{Name: "s"})
	require.NoError(t, err)
	_, err = s.Send([]Message{{Key: "a"}, {Key: "b"}, {Key: "c"}})
	require.NoError(t, err)
	all := s.List(ListQuery{Limit: 9})
	require.Equal(t, []string{"c", "b", "a"}, []string{all[0].Key, all[1].Key, all[2].Key})
	_, err = s.Send([]Message{{Key: "a", Data: "new"}, {Key: "d"}, {Key: "d"}})
	require.Equal(t, ErrDoubledKey, err)
	require.Equal(t, all, s.List(ListQuery{Limit: 9}), "nothing of a refused batch is left")
}

// stringData tells where a string's bytes are.
func stringData(s string) *byte { return unsafe.StringData(s) }
