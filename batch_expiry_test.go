package sequin

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/lease"
)

func TestWhatHasLapsedLeavesABatchThatIsToBeTriedAgain(t *testing.T) {
	client, err := NewClient(Config{})
	require.NoError(t, err)
	p, err := client.NewPublisher("target", PublisherConfig{})
	require.NoError(t, err)
	now := time.Now()
	cut, sever := context.WithCancel(t.Context())
	sever()
	over := &lease.Lease{Deadline: now, Parent: t.Context()}
	alive := &lease.Lease{Deadline: now.Add(1), Parent: t.Context()}
	stopped := &lease.Lease{Deadline: now.Add(time.Hour), Parent: cut}

	b := &batch.Batch[outgoing, sending]{Work: sending{tries: 3, crashes: 2}}
	for key, l := range map[string]*lease.Lease{"over": over, "alive": alive, "stopped": stopped, "nobody's": nil} {
		b.Items = append(b.Items, batch.Entry[outgoing]{Item: outgoing{Message: Message{Key: key}, lease: l}})
	}
	p.encode(b)
	v, dropped := p.dropLapsed(b, now)
	require.True(t, dropped)
	require.ErrorIs(t, v.Err, ErrLeaseExpired)
	require.ElementsMatch(t, []string{"over", "stopped"}, keysOf(v.Failed))
	require.Len(t, v.Again, 1)
	rest := v.Again[0]
	require.ElementsMatch(t, []string{"alive", "nobody's"}, keysOf(rest.Items))
	require.Nil(t, rest.Work.body, "other bytes, to be encoded anew")
	require.Equal(t, 3, rest.Work.tries)

	_, dropped = p.dropLapsed(rest, now)
	require.False(t, dropped)
	v, _ = p.dropLapsed(rest, now.Add(1))
	require.Equal(t, []string{"alive"}, keysOf(v.Failed))
	v, _ = p.dropLapsed(&batch.Batch[outgoing, sending]{Items: v.Failed}, now.Add(1))
	require.Empty(t, v.Again, "a batch is never empty")
}

func keysOf(items []batch.Entry[outgoing]) (keys []string) {
	for _, e := range items {
		keys = append(keys, e.Item.Key)
	}
	return keys
}
