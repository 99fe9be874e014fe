package store

import (
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/headers"
)

// TestAStoredMessageDoesNotKeepItsRequestInMemory checks that the strings are copies. Where a message may outlive the
// others of its request, they must not share the request's text.
func TestAStoredMessageDoesNotKeepItsRequestInMemory(t *testing.T) {
	f := newFixture(t, StreamOptions{OneMessagePerKey: true}, ConsumerLimits{})
	text := strings.Repeat("x", 1000)
	_, err := f.Send(t.Context(), Once{}, []Message{{Key: text[:1], Data: text[1:2]}})
	require.NoError(t, err)
	stored, err := f.Get(t.Context(), "x")
	require.NoError(t, err)
	require.NotSame(t, stringData(text[:1]), stringData(stored.Key))
	require.NotSame(t, stringData(text[1:2]), stringData(stored.Data))
}

func TestTheStringsOfAStoredMessageTakeOneAllocation(t *testing.T) {
	long := strings.Repeat("x", 100) // longer than what the compiler keeps on the stack
	for _, m := range []Message{{Key: long}, {Key: long, Data: long}, {Key: long, Headers: headers.Packed("n\x00\x00")}, {Key: long, Data: long, Headers: headers.Packed("n\x001\x00")}} {
		var e entry
		require.EqualValues(t, 1, testing.AllocsPerRun(10, func() { e.copy(&m) }))
		require.True(t, e.holds(&m))
	}
}

func TestThe2024StoreStoresABatchLastMessageFirstAndRefusesADoubledKey(t *testing.T) {
	s, err := NewAug2024().CreateStream(t.Context(), StreamOptions{Name: "s"})
	require.NoError(t, err)
	_, err = s.Send(t.Context(), Once{}, []Message{{Key: "a"}, {Key: "b"}, {Key: "c"}})
	require.NoError(t, err)
	all := must(s.List(t.Context(), ListQuery{Limit: 9}))
	require.Equal(t, []string{"c", "b", "a"}, []string{all[0].Key, all[1].Key, all[2].Key})
	_, err = s.Send(t.Context(), Once{}, []Message{{Key: "a", Data: "new"}, {Key: "d"}, {Key: "d"}})
	require.Equal(t, ErrDoubledKey, err)
	require.Equal(t, all, must(s.List(t.Context(), ListQuery{Limit: 9})), "nothing of a refused batch is stored")
}

func TestTheStoreInMemoryKnowsInWhichDataNothingIsEscaped(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		f := newFixture(t, StreamOptions{OneMessagePerKey: keyed}, ConsumerLimits{})
		packed := headers.Packed("n\x001\x00")
		_, err := f.Send(t.Context(), Once{}, []Message{{Key: "a", Data: "1", Verbatim: true}, {Key: "b", Data: "2"},
			{Key: "c", Data: "3", Verbatim: true, Headers: packed}, {Key: "d", Data: "4", Headers: packed}})
		require.NoError(t, err)
		for i, m := range must(f.List(t.Context(), ListQuery{Limit: 9})) {
			require.Equal(t, i%2 == 0, m.Verbatim, m.Key)
			require.Equal(t, strconv.Itoa(i+1), m.Data)
			require.Equal(t, i >= 2, m.Headers == packed, m.Key)
		}
	}
}

// stringData returns the address of a string's bytes.
func stringData(s string) *byte { return unsafe.StringData(s) }
