package store

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The hashes of these texts are those of other implementations of MurmurHash3_x64_128. A store on disk keeps hashes, so that
// they must never change.
func TestTheHashOfABodyNeverChanges(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "00000000000000000000000000000000",
		"hello":                     "cbd8a7b341bd9b025b1e906a48ae1d19",
		"hello, world":              "342fac623a5ebc8e4cdcbc079642414d",
		"19 Jan 2038 at 3:14:07 AM": "b89e5988b737affc664fc2950231b2cb",
		"The quick brown fox jumps over the lazy dog.": "cd99481f9ee902c9695da1a38987b6e7",
	} {
		sum := HashBody([]byte(text))
		got := fmt.Sprintf("%016x%016x", binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:]))
		require.Equal(t, want, got, "%q", text)
	}
}

func TestABodyThatDiffersAnywhereHasAnotherHash(t *testing.T) {
	seen := map[BodyHash]string{}
	for n := range 50 {
		body := make([]byte, n)
		require.NotContains(t, seen, HashBody(body), "%d zeros", n)
		seen[HashBody(body)] = fmt.Sprintf("%d zeros", n)
		for i := range body {
			body[i] = 1
			require.NotContains(t, seen, HashBody(body), "%d zeros, but a 1 at %d", n, i)
			seen[HashBody(body)] = fmt.Sprintf("a 1 at %d of %d", i, n)
			body[i] = 0
		}
	}
}
