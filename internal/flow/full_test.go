package flow

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFullTellsEachTimeThatAllRoomIsTaken(t *testing.T) {
	f := NewFull()
	require.False(t, f.Is())
	f.Set(false)
	require.Empty(t, f.Told())
	f.Set(true)
	f.Set(true) // the first one has not been told yet
	require.True(t, f.Is())
	require.Len(t, f.Told(), 1)
	<-f.Told()
	f.Set(false)
	require.False(t, f.Is())
	require.Empty(t, f.Told())
	f.Set(true)
	require.Len(t, f.Told(), 1)
}
