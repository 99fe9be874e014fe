package sequin

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatHasLapsedLeavesABatchThatIsToBeTriedAgain(t *testing.T) {
	client, err := NewClient(Config{})
	require.NoError(t, err)
	p, err := client.NewPublisher("target", PublisherConfig{})
	require.NoError(t, err)
	now := time.Now()
	cut, sever := context.WithCancel(t.Context())
	sever()
	over := &lease{deadline: now, cut: t.Context()}
	alive := &lease{deadline: now.Add(1), cut: t.Context()}
	stopped := &lease{deadline: now.Add(time.Hour), cut: cut}

	b := &batch[outgoing, sending]{work: sending{tries: 3, crashes: 2}}
	for key, l := range map[string]*lease{"over": over, "alive": alive, "stopped": stopped, "nobody's": nil} {
		b.items = append(b.items, entry[outgoing]{item: outgoing{Message: Message{Key: key}, lease: l}})
	}
	p.encode(b)
	v, dropped := p.dropLapsed(b, now)
	require.True(t, dropped)
	require.ErrorIs(t, v.err, ErrLeaseExpired)
	require.ElementsMatch(t, []string{"over", "stopped"}, keysOf(v.failed))
	require.Len(t, v.again, 1)
	rest := v.again[0]
	require.ElementsMatch(t, []string{"alive", "nobody's"}, keysOf(rest.items))
	require.Nil(t, rest.work.body, "other bytes, to be encoded anew")
	require.Equal(t, 3, rest.work.tries)

	_, dropped = p.dropLapsed(rest, now)
	require.False(t, dropped)
	v, _ = p.dropLapsed(rest, now.Add(1))
	require.Equal(t, []string{"alive"}, keysOf(v.failed))
	v, _ = p.dropLapsed(&batch[outgoing, sending]{items: v.failed}, now.Add(1))
	require.Empty(t, v.again, "a batch is never empty")
}

func keysOf(items []entry[outgoing]) (keys []string) {
	for _, e := range items {
		keys = append(keys, e.item.Key)
	}
	return keys
}
