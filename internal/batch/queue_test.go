package batch

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// oneBlock are limits that nothing exceeds.
var oneBlock = Limits{Count: 1 << 20, Bytes: 1 << 30, Distinct: true}

// queueOf returns a queue whose blocks keep to lim.
func queueOf(lim Limits, items ...Entry[parcel]) *queue[parcel] {
	q := new(queue[parcel])
	for i := range items {
		q.push(&items[i], lim)
	}
	return q
}

// requireSound checks what a queue knows of its items, and that it keeps alive nothing that has left.
func requireSound(t *testing.T, q *queue[parcel]) {
	t.Helper()
	all := q.appendTo(nil)
	require.Equal(t, len(all), q.n)
	require.Equal(t, sizeOf(all), q.bytes)
	for i := range q.blocks {
		b := &q.blocks[i]
		require.NotEmpty(t, b.pending())
		require.Equal(t, sizeOf(b.pending()), b.bytes)
		require.Equal(t, make([]Entry[parcel], b.from), b.items[:b.from])
		if b.distinct {
			ids := map[uint64]bool{0: false}
			for _, e := range b.pending() {
				require.False(t, ids[e.ID])
				ids[e.ID] = e.ID != 0
			}
		}
	}
	require.LessOrEqual(t, len(q.spares), maxSpares)
	for _, spare := range q.spares {
		require.Equal(t, make([]Entry[parcel], cap(spare)), spare[:cap(spare)])
	}
}

// idSet returns a set of these IDs.
func idSet(ids ...uint64) *IDSet {
	s := new(IDSet)
	s.Reset(len(ids))
	for _, id := range ids {
		s.Add(id)
	}
	return s
}

func TestABatchThatIsABlockLeavesWithIt(t *testing.T) {
	lim := Limits{Count: 3, Bytes: 1000, Distinct: true}
	q := queueOf(lim, parcels(1, 2, 3, 4)...)
	first := &q.blocks[0].items[0]
	batch, _ := q.take(new(cutter), lim, nil, nil)
	require.Same(t, first, &batch[0])
	require.Equal(t, []int{0, 1, 2}, numbers(batch))
	requireSound(t, q)
}

func TestABlockThatIsNearlyABatchLeavesAlone(t *testing.T) {
	for _, row := range []struct {
		name   string
		blocks Limits
		batch  []int
	}{
		{"three of four", Limits{Count: 3, Bytes: 1000}, []int{0, 1, 2}},
		{"two of four", Limits{Count: 2, Bytes: 1000}, []int{0, 1, 2, 3}},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := queueOf(row.blocks, parcels(1, 2, 3, 4, 5, 6)...)
			batch, _ := q.take(new(cutter), Limits{Count: 4, Bytes: 1000}, nil, nil)
			require.Equal(t, row.batch, numbers(batch))
			requireSound(t, q)
		})
	}
}

// After a cut from parts of blocks the next blocks are batches again.
func TestBlocksBecomeBatchesAgain(t *testing.T) {
	lim := Limits{Count: 8, Bytes: 1 << 20, Distinct: true}
	c, q := new(cutter), queueOf(lim, parcels(1, 1)...)
	key, copies := uint64(1), 0
	for range 20 {
		for range 8 {
			key++
			q.push(&parcels(key)[0], lim)
		}
		first := &q.blocks[0].pending()[0]
		if batch, _ := q.take(c, lim, nil, nil); &batch[0] != first {
			copies++
		}
		requireSound(t, q)
	}
	require.LessOrEqual(t, copies, 3)
}

func TestTheMemoryOfBlocksIsUsedAgain(t *testing.T) {
	lim := Limits{Count: 100, Bytes: 1 << 20, Distinct: true}
	q, c := new(queue[parcel]), new(cutter)
	items := parcels(make([]uint64, 100)...)
	for i := range items {
		items[i].ID = uint64(i + 1)
	}
	allocs := testing.AllocsPerRun(100, func() {
		for i := range items {
			q.push(&items[i], lim)
		}
		batch, _ := q.take(c, lim, nil, nil)
		clear(batch)
		q.keepSpare(batch)
	})
	require.Zero(t, allocs)
}

func TestAQueueIsSorted(t *testing.T) {
	var keys []uint64
	for i := range uint64(60) {
		keys = append(keys, 7*i%20)
	}
	items := parcels(keys...)
	for i := range items {
		items[i].Size = 10 + i
	}
	byKey := func(a, b parcel) int { return int(a.key) - int(b.key) }
	q := queueOf(Limits{Count: 7, Bytes: 1000, Distinct: true}, items...)
	q.sort(byKey)
	slices.SortStableFunc(items, func(a, b Entry[parcel]) int { return byKey(a.Item, b.Item) })
	require.Equal(t, numbers(items), numbers(q.appendTo(nil)))
	requireSound(t, q)
	require.Equal(t, make([]Entry[parcel], len(q.sorted)), q.sorted, "it keeps nothing alive")
}

func TestABlockIsNoLargerThanABatch(t *testing.T) {
	for _, row := range []struct {
		name   string
		lim    Limits
		blocks int
	}{
		{"one batch", Limits{Count: 3, Bytes: 40, Overhead: 10}, 1},
		{"count", Limits{Count: 2, Bytes: 1000}, 2},
		{"bytes", Limits{Count: 9, Bytes: 29}, 2},
		{"overhead", Limits{Count: 9, Bytes: 39, Overhead: 10}, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := queueOf(row.lim, parcels(1, 2, 3)...) // of 10 bytes each
			require.Len(t, q.blocks, row.blocks)
		})
	}
}

func TestTheFirstItemsOfALaneShareABlock(t *testing.T) {
	s := newState(&Config[parcel, int]{Lanes: 1, Slots: 1, MaxBytes: 1 << 20, Limits: func(int) Limits { return Limits{Count: 3, Bytes: 1000} }})
	for i, e := range parcels(1, 2, 3) {
		s.enqueue(&e, 0, i > 0)
	}
	require.Len(t, s.lanes[0].queue.blocks, 1)
}

func TestUrgentItemsAreCountedWithThoseThatLeave(t *testing.T) {
	l := &lane[parcel, int]{limits: Limits{Count: 3, Bytes: 1000}}
	for _, e := range parcels(1, 2, 3) {
		l.queue.push(&e, l.limits)
	}
	l.makeUrgent()
	l.remove(func(p *parcel) bool { return p.n > 0 }, nil)
	require.Equal(t, 1, l.queued())
	require.Equal(t, 1, l.urgent)
}

func TestAQueueThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	lim := Limits{Count: 8, Bytes: 1 << 20, Distinct: true}
	c, q := new(cutter), queueOf(lim, parcels(1, 1, 1)...)
	for range 1000 {
		q.push(&parcels(1)[0], lim)
		batch, _ := q.take(c, lim, nil, nil)
		require.Len(t, batch, 1)
	}
	room := 0
	for _, b := range q.blocks {
		room += cap(b.items)
	}
	require.Less(t, room, 8*lim.Count)
	requireSound(t, q)
}
