package batch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPartitionKeepsTheOrderOfBothParts(t *testing.T) {
	for _, row := range []struct {
		name          string
		keys          []uint64 // those with key 1 are removed
		kept, removed []int
	}{
		{"nothing", nil, []int{}, []int{}},
		{"none", []uint64{2, 3}, []int{0, 1}, []int{}},
		{"all", []uint64{1, 1}, []int{}, []int{0, 1}},
		{"the first", []uint64{1, 2, 3}, []int{1, 2}, []int{0}},
		{"the last", []uint64{2, 3, 1}, []int{0, 1}, []int{2}},
		{"some", []uint64{2, 1, 3, 1, 2, 1}, []int{0, 2, 4}, []int{1, 3, 5}},
	} {
		t.Run(row.name, func(t *testing.T) {
			items := parcels(row.keys...)
			var asked []int
			kept, removed := Partition(items, func(e *Entry[parcel]) bool {
				asked = append(asked, e.Item.n)
				return e.ID == 1
			})
			require.Equal(t, row.kept, numbers(kept))
			require.Equal(t, row.removed, numbers(removed))
			require.Len(t, asked, len(items), "each item is asked about once")
			require.IsIncreasing(t, append([]int{-2, -1}, asked...))
			require.Equal(t, parcels(row.keys...), items, "the list itself stays as it was")
		})
	}
}

func TestPartitionOfNothingToRemoveReturnsTheListItself(t *testing.T) {
	items := parcels(2, 3)
	kept, removed := Partition(items, func(*Entry[parcel]) bool { return false })
	require.Same(t, &items[0], &kept[0])
	require.Nil(t, removed)
}

func TestHalvesOfABatchShareNothingThatAppendsCouldOverwrite(t *testing.T) {
	b := &parcelBatch{Items: parcels(1, 2, 3, 4, 5), Work: 7, Skipped: true, Candidate: true}
	left, right := b.Halve()
	require.Equal(t, []int{0, 1}, numbers(left.Items))
	require.Equal(t, []int{2, 3, 4}, numbers(right.Items))
	_ = append(left.Items, parcels(9)...)
	require.Equal(t, []int{2, 3, 4}, numbers(right.Items))
	require.Zero(t, left.Work+right.Work)
	require.False(t, left.Skipped || right.Skipped || left.Candidate || right.Candidate)
}
