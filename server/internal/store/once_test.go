package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// sendOnce sends one message for each key, as the send once of which text is the body.
func (f *fixture) sendOnce(once, text string, keys ...string) (int, error) {
	return f.Send(f.t.Context(), Once{Key: once, Body: []byte(text)}, messagesOf(keys))
}

func (f *fixture) sendPart(once string, of []string, keys ...string) (int, error) {
	return f.Send(f.t.Context(), Once{Key: once, Body: fmt.Append(nil, keys), PartOf: of}, messagesOf(keys))
}

func messagesOf(keys []string) (messages []Message) {
	for _, key := range keys {
		messages = append(messages, Message{Key: key, Data: "x"})
	}
	return messages
}

func (f *fixture) stored() (keys []string) {
	for _, m := range must(f.List(f.t.Context(), ListQuery{Limit: 100})) {
		keys = append(keys, m.Key)
	}
	return keys
}

func TestASendIsRememberedForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, StreamOptions{}, ConsumerLimits{})
		sendBoth := func() {
			t.Helper()
			_, err := f.sendOnce("whole", "x", "a", "b")
			require.NoError(t, err)
			_, err = f.sendPart("", []string{"whole"}, "b")
			require.NoError(t, err)
		}
		sendBoth()
		time.Sleep(10 * time.Minute)
		sendBoth()
		require.Equal(t, []string{"a", "b"}, f.stored())
		time.Sleep(time.Nanosecond)
		_, err := f.sendPart("", []string{"whole"}, "b")
		require.NoError(t, err)
		_, err = f.sendOnce("whole", "x", "a", "b")
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b", "b", "a", "b"}, f.stored(), "a repeat does not make it younger")
	})
}

func TestTheLatestMillionSendsAreRemembered(t *testing.T) {
	require.Equal(t, 1_000_000, newSuccesses().max)
	f := newFixture(t, StreamOptions{}, ConsumerLimits{})
	f.Stream.(*stream).sent.max = 2
	for _, key := range []string{"1", "2", "3", "1", "3"} {
		_, err := f.sendOnce(key, "x", key)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"1", "2", "3", "1"}, f.stored(), "the oldest is forgotten")
}

func TestNothingIsKeptOfSendsThatAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, StreamOptions{}, ConsumerLimits{})
		sent := &f.Stream.(*stream).sent
		for i := range 100 {
			_, err := f.sendOnce(fmt.Sprint(i), "x", "a")
			require.NoError(t, err)
		}
		time.Sleep(11 * time.Minute)
		_, err := f.sendOnce("", "x", "a")
		require.NoError(t, err)
		require.Empty(t, sent.byKey)
		require.Nil(t, sent.oldest)
		require.Nil(t, sent.newest)
		_, err = f.sendOnce("again", "x", "a")
		require.NoError(t, err)
		require.Len(t, sent.byKey, 1)
		require.Same(t, sent.oldest, sent.newest)
	})
}

func TestARefusedSendIsNotRemembered(t *testing.T) {
	f := newFixture(t, StreamOptions{MaxBytes: 4, RetainAtLeast: 3}, ConsumerLimits{})
	f.send("a", "b")
	_, err := f.sendOnce("k", "x", "c")
	require.Equal(t, ErrFull, err)
	_, err = f.sendPart("part", []string{"k"}, "c")
	require.Equal(t, ErrFull, err)
	_, err = f.sendOnce("k", "another", "c")
	require.Equal(t, ErrFull, err)
	require.Empty(t, f.Stream.(*stream).sent.byKey)
}
