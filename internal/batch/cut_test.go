package batch

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCut(t *testing.T) {
	sized := func(sizes ...int) []Entry[parcel] {
		made := parcels(make([]uint64, len(sizes))...)
		for i := range made {
			made[i].Size = sizes[i]
		}
		return made
	}
	three := Limits{Count: 3, Bytes: 1000}
	threeOnce := Limits{Count: 3, Bytes: 1000, Distinct: true}
	for _, row := range []struct {
		name    string
		pending []Entry[parcel]
		lim     Limits
		avoid   *IDSet
		batch   []int
		rest    []int
		skipped int
	}{
		{"nothing pending", nil, three, nil, []int{}, []int{}, 0},
		{"one less than a batch", parcels(1, 2), three, nil, []int{0, 1}, []int{}, 0},
		{"exactly a batch", parcels(1, 2, 3), three, nil, []int{0, 1, 2}, []int{}, 0},
		{"one more than a batch", parcels(1, 2, 3, 4), three, nil, []int{0, 1, 2}, []int{3}, 0},
		{"bytes reached exactly", sized(40, 50, 10), Limits{Count: 9, Bytes: 100}, nil, []int{0, 1, 2}, []int{}, 0},
		{"bytes exceeded by one", sized(40, 50, 11), Limits{Count: 9, Bytes: 100}, nil, []int{0, 1}, []int{2}, 0},
		{"overhead counts", sized(40, 50, 10), Limits{Count: 9, Bytes: 100, Overhead: 1}, nil, []int{0, 1}, []int{2}, 0},
		{"a small item does not pass a large one", sized(60, 50, 10), Limits{Count: 9, Bytes: 100}, nil, []int{0}, []int{1, 2}, 0},
		{"an oversize item travels alone", sized(500, 10), Limits{Count: 9, Bytes: 100}, nil, []int{0}, []int{1}, 0},
		{"an oversize item waits for its own batch", sized(10, 500, 10), Limits{Count: 9, Bytes: 100}, nil, []int{0}, []int{1, 2}, 0},
		{"a limit below the overhead", sized(10, 10), Limits{Count: 9, Bytes: 1, Overhead: 5}, nil, []int{0}, []int{1}, 0},
		{"repeats go together where they may", parcels(1, 1, 1, 2), three, nil, []int{0, 1, 2}, []int{3}, 0},
		{"a repeat is passed over", parcels(1, 1, 2, 3), threeOnce, nil, []int{0, 2, 3}, []int{1}, 1},
		{"what is passed over stays in front, in order", parcels(1, 1, 2, 1, 3, 4, 1), threeOnce, nil, []int{0, 2, 4}, []int{1, 3, 5, 6}, 2},
		{"a repeat at the end is left", parcels(1, 2, 1), threeOnce, nil, []int{0, 1}, []int{2}, 1},
		{"a hot ID goes one by one", parcels(1, 1, 1, 1), threeOnce, nil, []int{0}, []int{1, 2, 3}, 3},
		{"items without an ID never repeat", parcels(0, 0, 0, 0), threeOnce, nil, []int{0, 1, 2}, []int{3}, 0},
		{"a cut examines four batches' worth of items", parcels(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3), threeOnce, nil, []int{0, 11}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12}, 10},
		{"an ID to avoid is passed over", parcels(7, 1, 7, 2), three, idSet(7), []int{1, 3}, []int{0, 2}, 2},
		{"several IDs to avoid", parcels(7, 8, 7, 2), three, idSet(7, 8), []int{3}, []int{0, 1, 2}, 3},
		{"others may repeat beside an ID to avoid", parcels(7, 1, 1, 7, 1, 2), three, idSet(7), []int{1, 2, 4}, []int{0, 3, 5}, 2},
		{"repeats and an ID to avoid", parcels(7, 1, 1, 7, 2), threeOnce, idSet(7), []int{1, 4}, []int{0, 2, 3}, 3},
		{"nothing but IDs to avoid", parcels(7, 7), three, idSet(7), []int{}, []int{0, 1}, 2},
	} {
		for blocks, lim := range map[string]Limits{"blocks of a batch": row.lim, "one block": oneBlock, "blocks of one": {Count: 1, Distinct: true}} {
			t.Run(row.name+"/"+blocks, func(t *testing.T) {
				q := queueOf(lim, row.pending...)
				batch, skipped := q.take(new(cutter), row.lim, row.avoid, nil)
				require.Equal(t, row.batch, numbers(batch))
				require.Equal(t, row.rest, numbers(q.appendTo(nil)))
				require.Equal(t, row.skipped, skipped)
				requireSound(t, q)
			})
		}
	}
}

func TestCutAppendsToTheListItIsGiven(t *testing.T) {
	room := make([]Entry[parcel], 1, 8)
	batch, _ := queueOf(oneBlock, parcels(1, 2)...).take(new(cutter), Limits{Count: 3, Bytes: 1000}, nil, room)
	require.Len(t, batch, 3)
	require.Same(t, &room[0], &batch[0], "memory that is large enough is used")
}

func TestTheItemsOfABatchCountWhenMoreIsCutForIt(t *testing.T) {
	held := parcels(1, 2) // 20 bytes
	for _, row := range []struct {
		name    string
		pending []Entry[parcel]
		lim     Limits
		batch   int
	}{
		{"everything fits", parcels(3, 4), Limits{Count: 9, Bytes: 1000}, 4},
		{"count", parcels(3, 4), Limits{Count: 3, Bytes: 1000}, 3},
		{"count reached before", parcels(3, 4), Limits{Count: 2, Bytes: 1000}, 2},
		{"bytes reached exactly", parcels(3, 4), Limits{Count: 9, Bytes: 30}, 3},
		{"bytes reached before", parcels(3, 4), Limits{Count: 9, Bytes: 29}, 2},
		{"IDs", parcels(1, 2), Limits{Count: 9, Bytes: 1000, Distinct: true}, 2},
		{"IDs that may repeat", parcels(1, 2), Limits{Count: 9, Bytes: 1000}, 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := queueOf(row.lim, row.pending...)
			batch, _ := q.take(new(cutter), row.lim, nil, slices.Clone(held))
			require.Len(t, batch, row.batch)
			require.Equal(t, held, batch[:2])
			require.Equal(t, len(held)+len(row.pending)-row.batch, q.n)
			requireSound(t, q)
		})
	}
}

func TestACutterKeepsNoStateBetweenCuts(t *testing.T) {
	c, lim := new(cutter), Limits{Count: 100, Bytes: 1 << 20, Distinct: true}
	for range 3 {
		q := queueOf(lim, parcels(1, 2, 1, 3)...)
		batch, skipped := q.take(c, lim, nil, nil)
		require.Equal(t, []int{0, 1, 3}, numbers(batch))
		require.Equal(t, []int{2}, numbers(q.appendTo(nil)))
		require.Equal(t, 1, skipped)
	}
}

// FuzzCut cuts a queue to its end and checks every batch. Each byte of script is an item: its low bits are the ID, its
// high bits the size. The blocks of the queue keep to limits with another count and as many bytes, and every third item is pushed after
// the first cut.
func FuzzCut(f *testing.F) {
	f.Add([]byte{}, uint8(3), uint8(3), uint16(100), true, uint8(0))
	f.Add([]byte{1, 1, 1, 2, 3, 1, 0, 0}, uint8(2), uint8(3), uint16(40), true, uint8(1))
	f.Add([]byte("any text will do as a queue of items"), uint8(5), uint8(5), uint16(200), false, uint8(0))
	f.Add([]byte("any text will do as a queue of items"), uint8(5), uint8(4), uint16(2000), true, uint8(3))
	f.Add([]byte{0xf1, 0x01, 0xf1, 0x02, 0xff, 0x10}, uint8(4), uint8(1), uint16(9), true, uint8(2))
	f.Fuzz(func(t *testing.T, script []byte, count, blocks uint8, bytes uint16, distinct bool, avoid uint8) {
		script = script[:min(len(script), 200)] // the checks take quadratic time
		pending := make([]Entry[parcel], len(script))
		for i, b := range script {
			pending[i] = *parcel{n: i, key: uint64(b & 7), size: 1 + int(b>>3)*int(b>>3)}.entry()
		}
		lim := Limits{Count: max(1, int(count)), Bytes: int(bytes), Overhead: 3, Distinct: distinct}
		made := Limits{Count: max(1, int(blocks)), Bytes: int(bytes), Overhead: 3, Distinct: distinct || blocks%2 == 0}
		c, early := new(cutter), len(pending)-len(pending)/3
		q := queueOf(made, pending[:early]...)
		take := func(avoid *IDSet) []Entry[parcel] {
			before := q.appendTo(nil)
			batch, skipped := q.take(c, lim, avoid, nil)
			require.True(t, lim.Distinct || avoid != nil || skipped == 0)
			checkCut(t, before, lim, batch, q.appendTo(nil))
			return batch
		}
		if id := uint64(avoid & 7); id != 0 {
			require.False(t, slices.ContainsFunc(take(idSet(id)), func(e Entry[parcel]) bool { return e.ID == id }))
		}
		for i := range pending[early:] {
			q.push(&pending[early+i], made)
		}
		requireSound(t, q)
		for taken := 0; q.n > 0; taken++ {
			batch := take(nil)
			require.NotEmpty(t, batch)
			clear(batch)
			if q.keepSpare(batch); taken%8 == 0 { // it is slow
				requireSound(t, q)
			}
		}
	})
}

// checkCut checks the invariants of one cut.
func checkCut(t *testing.T, before []Entry[parcel], lim Limits, batch, rest []Entry[parcel]) {
	t.Helper()
	require.LessOrEqual(t, len(batch), lim.Count)
	size, ids := lim.Overhead, map[uint64]bool{}
	for _, p := range batch {
		size += p.Size
		require.False(t, lim.Distinct && p.ID != 0 && ids[p.ID], "ID %d twice", p.ID)
		ids[p.ID] = true
		if lim.Distinct {
			require.Less(t, slices.Index(before, p), lookahead*lim.Count, "beyond the lookahead")
		}
	}
	require.True(t, size <= lim.Bytes || len(batch) <= 1, "%d bytes in %d items", size, len(batch))

	// No item is lost or doubled, and both parts keep their order.
	all := slices.Concat(batch, rest)
	slices.SortFunc(all, func(a, b Entry[parcel]) int { return a.Item.n - b.Item.n })
	require.True(t, slices.Equal(before, all), "%v became %v", before, all)
	byN := func(a, b Entry[parcel]) int { return a.Item.n - b.Item.n }
	require.True(t, slices.IsSortedFunc(batch, byN))
	require.True(t, slices.IsSortedFunc(rest, byN))
	// Of one ID, the items that left come before those that stay.
	for _, p := range batch {
		for _, q := range rest {
			require.False(t, p.ID != 0 && p.ID == q.ID && q.Item.n < p.Item.n, "%d overtook %d", p.Item.n, q.Item.n)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	for _, keys := range []uint64{1, 1000, 1 << 62} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			var c cutter
			q := new(queue[parcel])
			lim := Limits{Count: maxCount, Bytes: 1 << 20, Distinct: true}
			taken := 0
			for i := 0; b.Loop(); {
				for ; q.n < lookahead*maxCount; i++ {
					q.push(parcel{n: i, key: 1 + uint64(i)*0x9e3779b97f4a7c15%keys, size: 100}.entry(), lim)
				}
				batch, _ := q.take(&c, lim, nil, nil)
				taken += len(batch)
				clear(batch)
				q.keepSpare(batch)
			}
			b.ReportMetric(float64(taken)/float64(b.N), "items/op")
		})
	}
}
