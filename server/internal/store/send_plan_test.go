package store

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
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

// stringData returns the address of a string's bytes.
func stringData(s string) *byte { return unsafe.StringData(s) }
