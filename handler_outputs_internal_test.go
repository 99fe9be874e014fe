package sequin

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutputsSettleTheDeliveryWithTheLatestDeadlineOnce(t *testing.T) {
	zero := time.Unix(0, 0)
	first := Delivery{Key: "k", Seq: 1, Deadline: zero}
	second := Delivery{Key: "k", Seq: 1, Deadline: zero.Add(time.Minute)}
	var settled []Delivery
	var result error
	settle := func(d Delivery, err error) { settled, result = append(settled, d), err }

	o, why := newOutputs(), errors.New("refused")
	require.False(t, o.takeOver(second), "nothing is in flight yet")
	out := o.begin(first, 3, settle)
	require.NotNil(t, out)
	require.True(t, o.inFlight(second))
	require.False(t, o.inFlight(Delivery{Key: "k", Seq: 2}), "another version of the key")
	require.True(t, o.takeOver(second))
	require.Nil(t, o.begin(first, 1, settle), "one is open, and keeps the later delivery")

	out.complete(0, nil)
	out.complete(1, why)
	require.Empty(t, settled, "one message is still in flight")
	out.end(1, errors.New("another error"))
	require.Equal(t, []Delivery{second}, settled)
	require.Equal(t, why, result, "the first error")
	require.False(t, o.inFlight(first))
	require.False(t, o.takeOver(second), "they have ended")
}
