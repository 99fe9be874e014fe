package outputs_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/outputs"
)

// delivery is a delivery of a test, whose lease ends at that time.
type delivery struct{ deadline int }

func newSet() *outputs.Set[string, delivery] {
	return outputs.New[string](func(a, b delivery) bool { return a.deadline > b.deadline })
}

func TestOutputsSettleTheDeliveryWithTheLatestDeadlineOnce(t *testing.T) {
	first, second := delivery{1}, delivery{2}
	var settled []delivery
	var result error
	settle := func(d delivery, err error) { settled, result = append(settled, d), err }

	s, why := newSet(), errors.New("refused")
	require.False(t, s.TakeOver("k 1", second), "nothing is in flight yet")
	o := s.Begin("k 1", first, 3, settle)
	require.NotNil(t, o)
	require.True(t, s.InFlight("k 1"))
	require.False(t, s.InFlight("k 2"), "another version of the key")
	require.True(t, s.TakeOver("k 1", second))
	require.Nil(t, s.Begin("k 1", first, 1, settle), "one is open, and keeps the later delivery")

	o.Complete(0, nil)
	o.Complete(1, why)
	require.Empty(t, settled, "one message is still in flight")
	o.End(1, errors.New("another error"))
	require.Equal(t, []delivery{second}, settled)
	require.Equal(t, why, result, "the first error")
	require.False(t, s.InFlight("k 1"))
	require.False(t, s.TakeOver("k 1", second), "they have ended")
}

func TestADeliveryIsSettledOnceWhateverEndsAtOnce(t *testing.T) {
	const messages = 100
	for range 50 {
		s := newSet()
		settled := make(chan delivery, messages)
		o := s.Begin("k", delivery{0}, messages, func(d delivery, _ error) { settled <- d })
		var wg sync.WaitGroup
		taken := make([]bool, messages)
		for i := range messages {
			wg.Go(func() { o.Complete(i, nil) })
			wg.Go(func() { taken[i] = s.TakeOver("k", delivery{i + 1}) })
		}
		wg.Wait()
		last := 0
		for i, ok := range taken {
			if ok {
				last = i + 1
			}
		}
		require.Len(t, settled, 1)
		require.Equal(t, delivery{last}, <-settled, "the latest of those that took over in time")
	}
}
