package console

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// A search covers each seq once, until it has seen all of them.
func TestASearchCoversEverySeqOnce(t *testing.T) {
	for _, sort := range []string{sequin.SortAscending, sequin.SortDescending} {
		for _, ends := range [][2]int64{{1, 1}, {7, 7}, {1, searched}, {1, searched + 1}, {5, searched + 4}, {5, searched + 5}, {12_345, 12_344 + 3*searched}, {12_345, 12_346 + 3*searched}} {
			first := func(sort string) (int64, error) {
				if sort == sequin.SortAscending {
					return ends[0], nil
				}
				return ends[1], nil
			}
			var next, covered int64
			for range 10 {
				q := sequin.ListOptions{Sort: sort}
				if sort == sequin.SortAscending {
					q.AfterSeq = next
				} else {
					q.BeforeSeq = next
				}
				s, err := limitSearch(&q, first)
				require.NoError(t, err)
				require.LessOrEqual(t, q.BeforeSeq-q.AfterSeq-1, int64(searched))
				require.Equal(t, max(ends[0], q.AfterSeq+1), s.From)
				require.Equal(t, min(ends[1], q.BeforeSeq-1), s.To)
				covered += s.To - s.From + 1
				if next = s.next; next == 0 {
					break
				}
			}
			require.Zero(t, next, ends)
			require.Equal(t, ends[1]-ends[0]+1, covered, ends)
		}
	}
	s, err := limitSearch(&sequin.ListOptions{}, func(string) (int64, error) { return 0, nil })
	require.NoError(t, err)
	require.Zero(t, s, "nothing is stored")
}
