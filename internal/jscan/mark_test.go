package jscan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACallerMayConsumeWhatItKnows(t *testing.T) {
	var s Scanner
	s.ResetString(`[{"a":1}, {"a":2}]`)
	require.Equal(t, `[{"a":1}, {"a":2}]`, string(s.Rest()))
	s.Array()
	require.Nil(t, s.Rest(), "Elem comes first")
	require.True(t, s.Elem())
	s.Consume(len(`{"a":1}`))
	require.True(t, s.Elem())
	require.Equal(t, `{"a":2}]`, string(s.Rest()), "without white space")
	s.Consume(len(`{"a":2}`))
	require.False(t, s.Elem())
	require.NoError(t, s.Done())

	s.ResetString(`1`)
	s.Consume(1)
	require.NoError(t, s.Done())
	require.Equal(t, 3, PlainEnd([]byte(`abc"`), 1))
	require.Equal(t, 3, PlainEnd([]byte(`abc`), 1))
}

func TestACallerMayCloseAContainerWhoseRestItKnows(t *testing.T) {
	var s Scanner
	s.ResetString(`[{"a":1,"b":2}]`)
	require.False(t, s.Close(`[{"a":1,"b":2}]`), "no value was read")
	s.Array()
	s.Elem()
	s.Object()
	s.Key()
	require.False(t, s.Close(`1,"b":2}`), "a value is next")
	s.Skip()
	require.False(t, s.Close(`,"b":2}]  `))
	require.False(t, s.Close(`,"b":3}`))
	require.True(t, s.Close(`,"b":2}`))
	require.False(t, s.Elem())
	require.NoError(t, s.Done())

	s.ResetString(`{"a":1}`)
	s.Object()
	s.Key()
	s.Skip()
	require.True(t, s.Close(`}`))
	require.NoError(t, s.Done())
	require.False(t, s.Close(``))

	s.ResetString(`{"a":x}`)
	s.Object()
	s.Key()
	s.Skip()
	require.False(t, s.Close(`x}`))
	require.Error(t, s.Done())
}

func TestDigitsConsumesShortNumbersOnly(t *testing.T) {
	for text, want := range map[string]int64{`[0]`: 0, `[7]`: 7, `[123456789012345678]`: 123456789012345678} {
		var s Scanner
		s.ResetString(text)
		s.Array()
		s.Elem()
		value, ok := s.Digits()
		require.True(t, ok, text)
		require.Equal(t, want, value)
		require.False(t, s.Elem())
		require.NoError(t, s.Done())
	}
	for _, text := range []string{`[1234567890123456789]`, `[-1]`, `[01]`, `[1.5]`, `["1"]`, `[1 ]`, `[`} {
		var s Scanner
		s.ResetString(text)
		s.Array()
		s.Elem()
		_, ok := s.Digits()
		require.False(t, ok, text)
	}
}
