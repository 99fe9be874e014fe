package sequin

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheAttemptsOfTheLatestMessagesAreKnown(t *testing.T) {
	var a sinkAttempts
	attempt := func(id string) int {
		ds := []Delivery{{AckID: id}}
		a.count(ds)
		return ds[0].Attempt
	}
	known := map[string]int{}
	for range 50_000 {
		id := strconv.Itoa(rand.N(10_000))
		known[id]++
		require.Equal(t, known[id], attempt(id))
	}
	others := make([]Delivery, 0, knownAttempts)
	for i := range knownAttempts - 1 {
		others = append(others, Delivery{AckID: fmt.Sprint("other ", i)})
	}
	for i := 0; i < len(others); i += 999 {
		a.count(others[i:min(i+999, len(others))])
	}
	for id, n := range known {
		require.Equal(t, n+1, attempt(id), "it is one of the last %d", knownAttempts+len(known))
		break
	}
	require.Equal(t, 1, attempt("first"))
	for range 3 {
		for i := range others {
			others[i].AckID += "'"
		}
		a.count(others)
	}
	require.LessOrEqual(t, len(a.latest.counted)+len(a.older.counted), 8*knownAttempts)
	require.Equal(t, 1, attempt("first"), "it is forgotten")
}

func TestATallyCountsEachID(t *testing.T) {
	var seen tally
	require.Zero(t, seen.count(1))
	for id := uint64(1); id <= 1000; id++ { // all collide, as they would with an unlucky hash
		*seen.of(id << 40) += int(id)
	}
	for id := uint64(1); id <= 1000; id++ {
		require.Equal(t, int(id), seen.count(id<<40))
	}
	require.Zero(t, seen.count(1))
	require.Equal(t, 1000, seen.used)
}
