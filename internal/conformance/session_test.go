package conformance

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDifferenceShowsThePlaceInALongLine(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	require.Empty(t, difference(long, long))
	require.Equal(t, `at byte 200000 of 200001, wanted 200004 bytes: "xxxxxxxxxxxxxxxxxxxxa", wanted "xxxxxxxxxxxxxxxxxxxxbbbb"`, difference(long+"bbbb", long+"a"))
	require.Equal(t, `at byte 1 of 1, wanted 2 bytes: "a", wanted "ab"`, difference("ab", "a"))
}
