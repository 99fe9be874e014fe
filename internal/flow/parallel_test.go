package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFewerReceivesRunAtOnceWhileTheirAnswersAreTooSlow(t *testing.T) {
	p := NewParallel(5)
	require.Equal(t, 5, p.Size())
	p.TooSlow(0)
	require.Equal(t, 5, p.Size(), "it ran alone")
	for _, want := range []int{2, 1, 1} {
		p.TooSlow(4)
		require.Equal(t, want, p.Size())
	}
	p.Arrived(10*time.Second, 40*time.Second)
	require.Equal(t, 1, p.Size(), "two might take half of the lease")
	for _, want := range []int{2, 3, 4, 5, 5} {
		p.Arrived(time.Second, 40*time.Second)
		require.Equal(t, want, p.Size())
	}
}
