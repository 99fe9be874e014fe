package sequin

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A batch that was cut anew may hold messages of different ages: each has its own time.
func TestGivingUpConcernsThoseWhoseTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := NewClient(Config{})
		require.NoError(t, err)
		p, err := client.NewPublisher("orders", PublisherConfig{RetryFor: 10 * time.Second})
		require.NoError(t, err)
		b := &batch[outgoing, sending]{work: sending{tries: 1}}
		for i, key := range []string{"old", "young", "as old", "new"} {
			b.items = append(b.items, entry[outgoing]{item: outgoing{Message: Message{Key: key}}})
			if i < 3 {
				b.items[i].item.tried = []time.Duration{1, 6 * time.Second, 1}[i]
			}
		}
		time.Sleep(11 * time.Second)
		p.noteFirstAttempt(b.items)
		why := errors.New("away")
		v := p.judge(b, &connError{cause: why})
		require.ErrorIs(t, v.err, why)
		require.Equal(t, []string{"old", "as old"}, outgoingKeys(v.failed))
		require.Equal(t, []string{"young", "new"}, outgoingKeys(v.requeue))
		require.Positive(t, v.wait, "the others are tried again at backoff pace")
	})
}

func outgoingKeys(items []entry[outgoing]) (keys []string) {
	for i := range items {
		keys = append(keys, items[i].item.Key)
	}
	return keys
}

// A witness that crashes the server is halved at once: a smaller one says as much.
func TestAWitnessThatCrashesTheServerIsHalvedAtOnce(t *testing.T) {
	client, err := NewClient(Config{})
	require.NoError(t, err)
	p, err := client.NewPublisher("orders", PublisherConfig{})
	require.NoError(t, err)
	crash := &APIError{Status: 500}
	b := &batch[outgoing, sending]{items: make([]entry[outgoing], 4), work: sending{tries: 1}}
	require.Equal(t, []*batch[outgoing, sending]{b}, p.judge(b, crash).again, "others are tried again as they are")
	b.witness = true
	halves := p.judge(b, crash).again
	require.Len(t, halves, 2)
	require.Len(t, halves[0].items, 2)
	require.Len(t, halves[1].items, 2)
}
