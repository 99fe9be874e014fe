package postgres

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

func TestTheLastDecisionOfEachMakerIsKnown(t *testing.T) {
	var m makers
	one, two := newTags(), newTags()
	lost := made{1, one.next()}
	m.add(lost)
	for n := int64(2); n < 10_000; n++ {
		m.add(made{n, two.next()})
	}
	require.Len(t, m.last, 2)
	known := func(d made, want bool) {
		t.Helper()
		stored, err := m.stored(d)
		require.NoError(t, err)
		require.Equal(t, want, stored)
	}
	known(lost, true)
	known(made{2, one.next()}, false)
	known(made{1, lost.tag + 1}, false)
	third := newTags()
	known(made{2, third.next()}, false)
	_, err := m.stored(made{2, m.last[1].tag - 1})
	require.ErrorIs(t, err, store.ErrUnknown, "its maker has made one since")
}

func TestTooManyMakersAreForgotten(t *testing.T) {
	var m makers
	var all []made
	for n := range int64(maxMakers + 2) {
		g := newTags()
		all = append(all, made{n + 1, g.next()})
		m.add(all[n])
	}
	require.Equal(t, all[2:], m.last)
	for i, d := range all {
		stored, err := m.stored(d)
		require.Equal(t, i >= 2, stored)
		if i < 2 {
			require.ErrorIs(t, err, store.ErrUnknown)
			continue
		}
		require.NoError(t, err)
	}
}

func TestTagsHaveAMaker(t *testing.T) {
	for _, first := range []int64{0, 7<<32 | 0xfffffffe, -1<<63 | 0xffffffff} {
		g := tags{first}
		seen := map[int64]bool{}
		for range 4 {
			d := made{tag: g.next()}
			require.Equal(t, first>>32, d.maker())
			require.False(t, seen[d.tag])
			seen[d.tag] = true
		}
	}
}

func TestASnapshotHasTheMakers(t *testing.T) {
	s := newState(false)
	one, two := newTags(), newTags()
	for n, g := range []*tags{&one, &two, &two, &one, &two} {
		require.NoError(t, s.apply(int64(n+1), g.next(), newDecision(1).body))
	}
	s.makers.from = 3
	body := s.appendTo(nil)
	got, err := readState(false, s.n, s.tag, body)
	require.NoError(t, err)
	require.Equal(t, s.makers, got.makers)
	require.Equal(t, []int64{4, 5}, []int64{got.makers.last[0].n, got.makers.last[1].n})

	size := len(s.makers.appendTo(nil))
	for cut := 1; cut < size; cut++ {
		_, err := readState(false, s.n, s.tag, body[:len(body)-cut])
		require.ErrorIs(t, err, store.ErrDamaged)
	}
	older, err := readState(false, s.n, s.tag, body[:len(body)-size])
	require.NoError(t, err)
	_, err = older.makers.stored(s.makers.last[1])
	require.ErrorIs(t, err, store.ErrUnknown, "a snapshot of an older program does not tell who has made it")
	g := newTags()
	stored, err := older.makers.stored(made{s.n + 1, g.next()})
	require.NoError(t, err)
	require.False(t, stored)
}

func FuzzMakers(f *testing.F) {
	m := makers{[]made{{3, -1}, {9, 1 << 40}}, 2}
	f.Add(m.appendTo(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := binary.NewReader(body)
		m := readMakers(1, in)
		if in.Err() != nil || len(body) == 0 {
			return
		}
		again := readMakers(1, binary.NewReader(m.appendTo(nil)))
		require.Equal(t, m.from, again.from)
		require.True(t, slices.Equal(m.last, again.last))
	})
}
