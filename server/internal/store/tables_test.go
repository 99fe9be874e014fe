package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThe2024StoreRefusesNamesOfTablesThatExist creates streams and consumers in turn. A name without a consumer is a
// stream's.
func TestThe2024StoreRefusesNamesOfTablesThatExist(t *testing.T) {
	m := NewAug2024()
	x54, x255 := strings.Repeat("x", 54), strings.Repeat("x", 255)
	for _, tt := range []struct {
		name             string
		stream, consumer string
		want             error
	}{
		{"a stream", "a_b", "", nil},
		{"its name again", "a_b", "", ErrNameTaken},
		{"its name in another case", "A_b", "", ErrTable},
		{"a consumer", "a_b", "c", nil},
		{"its name again", "a_b", "c", ErrNameTaken},
		{"its name in another case", "a_b", "C", ErrTable},
		{"a stream whose name is the beginning of another", "a", "", nil},
		{"a consumer whose table has the name of another's", "a", "b_c", ErrTable},
		{"another one of that stream", "a", "b_d", nil},
		{"a long stream", x255, "", nil},
		{"a stream that differs beyond what the database reads", x54 + "y", "", ErrTable},
		{"a stream that differs just before", x54[1:] + "y", "", nil},
		{"a consumer of a long stream", x255, "c", nil},
		{"a second one, as the name of the stream fills the name of the table", x255, "d", ErrTable},
		{"a long consumer of a short stream", "a", x255, nil},
		{"the sequence of the database", "seq", "", ErrTable},
		{"a line feed at the end", "n\n", "", nil},
		{"a line feed within the name of a table", "n\n", "c", ErrTable},
	} {
		require.Equal(t, tt.want, create(t, m, tt.stream, tt.consumer), tt.name)
	}
}

func create(t *testing.T, m *Memory, stream, consumer string) error {
	t.Helper()
	if consumer == "" {
		_, err := m.CreateStream(t.Context(), StreamOptions{Name: stream, RetainUpTo: 1})
		return err
	}
	s, err := m.Stream(t.Context(), stream)
	require.NoError(t, err)
	_, err = s.CreateConsumer(t.Context(), ConsumerOptions{Name: consumer, Filter: ">"})
	return err
}

func TestThe2024StoreFreesTheNamesOfDeletedTables(t *testing.T) {
	m := NewAug2024()
	for range 2 {
		require.NoError(t, create(t, m, "s", ""))
		require.NoError(t, create(t, m, "s", "x_c"))
		require.NoError(t, create(t, m, "s", "d"))
		s, err := m.Stream(t.Context(), "s")
		require.NoError(t, err)
		d, err := s.Consumer(t.Context(), "d")
		require.NoError(t, err)
		require.NoError(t, d.Delete(t.Context()))
		require.NoError(t, create(t, m, "s", "D"))
		require.NoError(t, s.Delete(t.Context()))
		require.NoError(t, create(t, m, "S_x", ""))
		require.NoError(t, create(t, m, "S_x", "c"))
		other, err := m.Stream(t.Context(), "S_x")
		require.NoError(t, err)
		require.NoError(t, other.Delete(t.Context()))
	}
}
