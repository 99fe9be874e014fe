package jscan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRepeatsConsumesTheSameTextOnly(t *testing.T) {
	var s Scanner
	s.ResetString(`[{"a":1},{"a":1},{"a":2}, {"a":1}]`)
	s.Array()
	require.False(t, s.Repeats(`{"a":1}`), "Elem comes first")
	require.True(t, s.Elem())
	value := string(s.Raw())
	require.True(t, s.Elem())
	require.False(t, s.Repeats(""))
	require.True(t, s.Repeats(value))
	require.True(t, s.Elem())
	require.False(t, s.Repeats(value))
	require.Equal(t, `{"a":2}`, string(s.Raw()))
	require.True(t, s.Elem())
	require.False(t, s.Repeats(value), "white space is left to Skip")
	s.Skip()
	require.False(t, s.Elem())
	require.NoError(t, s.Done())

	s.ResetString(`{"a":1}`)
	require.False(t, s.Repeats(`{"a":1},`), "longer than the text")
	require.True(t, s.Repeats(value))
	require.NoError(t, s.Done())
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
