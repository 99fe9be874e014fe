package durable

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// TestTheProgramLearnsOfAFailureThatIsFinal holds that it is told of a failed sync, and neither of a failed write nor of Close.
func TestTheProgramLearnsOfAFailureThatIsFinal(t *testing.T) {
	isFailed := func(f *fixture) bool {
		select {
		case <-f.st.Failed():
			return true
		default:
			return false
		}
	}
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		f.failing(crashfs.Write, errors.New("no"))
		require.ErrorIs(f, f.send("a"), store.ErrFailed)
		time.Sleep(time.Hour)
		require.False(f, isFailed(f))
		require.NoError(f, f.st.Err())
		f.failing(crashfs.Sync, errors.New("bad sector"))
		require.ErrorIs(f, f.send("b"), store.ErrFailed)
		time.Sleep(time.Hour)
		require.True(f, isFailed(f))
		require.ErrorIs(f, f.st.Err(), store.ErrFailed)
		require.ErrorContains(f, f.st.Err(), "bad sector")
	})
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.st.Close())
		time.Sleep(time.Hour)
		require.False(f, isFailed(f))
	})
}
