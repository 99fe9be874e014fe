package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAShrunkWindowRegrowsToTheSizeThatItHad(t *testing.T) {
	var s Shrunk
	at := func(second, size int) (Change, time.Duration) { return s.Look(time.Unix(int64(second), 0), size) }
	for _, row := range []struct {
		second, size int
		change       Change
		lasted       time.Duration
	}{
		{0, 32, Same, 0}, {1, 64, Same, 0}, {2, 16, Shrank, 0}, {3, 8, Same, 0}, {4, 32, Same, 0}, {5, 64, Regrew, 3 * time.Second},
		{6, 64, Same, 0}, {7, 63, Shrank, 0}, {8, 128, Regrew, time.Second}, {9, 256, Same, 0},
	} {
		change, lasted := at(row.second, row.size)
		require.Equal(t, row.change, change, "second %d", row.second)
		require.Equal(t, row.lasted, lasted, "second %d", row.second)
		_, unended := s.Unended()
		require.Equal(t, row.second >= 2 && row.second < 5 || row.second == 7, unended, "second %d", row.second)
	}
}
