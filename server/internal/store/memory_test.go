package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThe2024StoreRefusesNamesThatDifferInCaseOnly(t *testing.T) {
	m := NewAug2024()
	_, err := m.CreateStream(t.Context(), StreamOptions{Name: "s", RetainUpTo: 1})
	require.NoError(t, err)
	_, err = m.CreateStream(t.Context(), StreamOptions{Name: "s"})
	require.Equal(t, ErrNameTaken, err)
	_, err = m.CreateStream(t.Context(), StreamOptions{Name: "S"})
	require.Equal(t, ErrNameCase, err)
}
