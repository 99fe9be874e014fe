package storetest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

var onceTests = []test{
	{promise: "a repeat stores nothing and returns the same", check: repeatStoresNothing},
	{promise: "a repeat returns the same where messages are replaced", check: repeatReturnsTheSame, options: onePerKey},
	{promise: "another body under the same key is refused", check: otherBodyIsRefused},
	{promise: "a send is remembered for ten minutes from its success", check: sendIsForgotten, timed: true},
	{promise: "a refused send is not remembered", check: refusedIsNotRemembered, options: store.StreamOptions{MaxBytes: 2, RetainAtLeast: 9}},
	{promise: "a part of a stored send stores nothing and is remembered", check: partStoresNothing},
	{promise: "a part of an unknown send is stored", check: partOfAnUnknownSend},
	{promise: "a part never counts more than the whole", check: partCountsNoMore, options: onePerKey},
	{promise: "a key belongs to one stream", check: keyBelongsToOneStream},
	{promise: "a send without a key is never a repeat", check: sendWithoutAKey},
}

// sendOnce sends the pairs as the send of that key; the pairs are its body.
func (f *fixture) sendOnce(key string, partOf []string, pairs ...string) (int, error) {
	return f.stream.Send(f.t.Context(), store.Once{Key: key, Body: fmt.Append(nil, pairs), PartOf: partOf}, batch(pairs))
}

// requireSent holds that sendOnce returns this number.
func (f *fixture) requireSent(want int, key string, partOf []string, pairs ...string) {
	f.t.Helper()
	n, err := f.sendOnce(key, partOf, pairs...)
	require.NoError(f.t, err)
	require.Equal(f.t, want, n)
}

func repeatStoresNothing(f *fixture) {
	for range 3 {
		f.requireSent(2, "k", nil, "a=1", "b=2")
	}
	require.Equal(f.t, []string{"a=1", "b=2"}, f.stored())
	f.requireSent(2, "l", nil, "a=1", "b=2")
	require.Len(f.t, f.stored(), 4, "another send of the same messages")
}

func repeatReturnsTheSame(f *fixture) {
	f.requireSent(1, "k", nil, "a=1")
	f.requireSent(1, "l", nil, "a=2")
	f.requireSent(1, "k", nil, "a=1")
	require.Equal(f.t, []string{"a=2"}, f.stored())
	f.requireSent(0, "m", nil, "a=2")
	f.requireSent(1, "n", nil, "a=3")
	f.requireSent(0, "m", nil, "a=2")
	require.Equal(f.t, []string{"a=3"}, f.stored())
}

func otherBodyIsRefused(f *fixture) {
	f.requireSent(1, "k", nil, "a=1")
	_, err := f.sendOnce("k", nil, "a=2")
	require.ErrorIs(f.t, err, store.ErrOtherBody)
	f.requireSent(1, "k", nil, "a=1")
	require.Equal(f.t, []string{"a=1"}, f.stored())
}

func sendIsForgotten(f *fixture) {
	f.requireSent(1, "k", nil, "a=1")
	time.Sleep(10 * time.Minute)
	f.requireSent(1, "k", nil, "a=1")
	require.Equal(f.t, []string{"a=1"}, f.stored())
	time.Sleep(time.Second) // a repeat did not make it younger
	f.requireSent(1, "k", nil, "a=2")
	require.Equal(f.t, []string{"a=1", "a=2"}, f.stored())
}

func refusedIsNotRemembered(f *fixture) {
	f.requireSent(1, "j", nil, "a=1")
	_, err := f.sendOnce("k", nil, "b=2")
	require.ErrorIs(f.t, err, store.ErrFull)
	_, err = f.sendOnce("part", []string{"k"}, "b=2")
	require.ErrorIs(f.t, err, store.ErrFull)
	_, err = f.sendOnce("k", nil, "c=3")
	require.ErrorIs(f.t, err, store.ErrFull, "not ErrOtherBody")
}

func partStoresNothing(f *fixture) {
	f.requireSent(3, "whole", nil, "a=1", "b=2", "c=3")
	f.requireSent(2, "part", []string{"whole"}, "a=1", "b=2")
	f.requireSent(1, "of part", []string{"part", "lost"}, "b=2")
	f.requireSent(1, "", []string{"lost", "of part"}, "b=2")
	require.Equal(f.t, []string{"a=1", "b=2", "c=3"}, f.stored())
	_, err := f.sendOnce("part", []string{"whole"}, "c=3")
	require.ErrorIs(f.t, err, store.ErrOtherBody, "its key counts as a success")
}

func partOfAnUnknownSend(f *fixture) {
	f.requireSent(1, "part", []string{"lost"}, "a=1")
	f.requireSent(1, "part", []string{"lost"}, "a=1")
	require.Equal(f.t, []string{"a=1"}, f.stored())
}

func partCountsNoMore(f *fixture) {
	f.send("a=1", "b=1")
	f.requireSent(0, "none", nil, "a=1", "b=1")
	f.requireSent(0, "", []string{"none"}, "a=1")
	f.requireSent(1, "one", nil, "a=1", "b=1", "c=1")
	f.requireSent(1, "", []string{"one"}, "a=1", "b=1")
}

func keyBelongsToOneStream(f *fixture) {
	f.requireSent(1, "k", nil, "a=1")
	f.stream = f.createStream(store.StreamOptions{Name: "t"})
	f.requireSent(1, "k", nil, "b=2")
	require.Equal(f.t, []string{"b=2"}, f.stored())
}

func sendWithoutAKey(f *fixture) {
	for range 2 {
		f.requireSent(1, "", nil, "a=1")
	}
	f.requireSent(1, "", []string{""}, "a=1")
	require.Len(f.t, f.stored(), 3)
}
