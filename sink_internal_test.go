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
	require.LessOrEqual(t, len(a.latest)+len(a.older), 2*(knownAttempts+len(others)))
	require.Equal(t, 1, attempt("first"), "it is forgotten")
}
