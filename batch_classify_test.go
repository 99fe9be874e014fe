package sequin

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/batch"
)

// A batch that was cut anew may hold messages of different ages: each has its own time.
func TestGivingUpConcernsThoseWhoseTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, err := NewClient(Config{})
		require.NoError(t, err)
		p, err := client.NewPublisher("orders", PublisherConfig{RetryFor: 10 * time.Second})
		require.NoError(t, err)
		b := &batch.Batch[outgoing, sending]{Work: sending{tries: 1}}
		for i, key := range []string{"old", "young", "as old", "new"} {
			b.Items = append(b.Items, batch.Entry[outgoing]{Item: outgoing{Message: Message{Key: key}}})
			if i < 3 {
				b.Items[i].Item.tried = []time.Duration{1, 6 * time.Second, 1}[i]
			}
		}
		time.Sleep(11 * time.Second)
		p.noteFirstAttempt(b.Items)
		why := errors.New("away")
		v := p.judge(b, &connError{kind: kindLost, cause: why})
		require.ErrorIs(t, v.Err, why)
		require.Equal(t, []string{"old", "as old"}, outgoingKeys(v.Failed))
		require.Equal(t, []string{"young", "new"}, outgoingKeys(v.Requeue))
		require.Positive(t, v.Wait, "the others are tried again at backoff pace")
	})
}

func outgoingKeys(items []batch.Entry[outgoing]) (keys []string) {
	for i := range items {
		keys = append(keys, items[i].Item.Key)
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
	b := &batch.Batch[outgoing, sending]{Items: make([]batch.Entry[outgoing], 4), Work: sending{tries: 1}}
	require.Equal(t, []*batch.Batch[outgoing, sending]{b}, p.judge(b, crash).Again, "others are tried again as they are")
	b.Control = true
	halves := p.judge(b, crash).Again
	require.Len(t, halves, 2)
	require.Len(t, halves[0].Items, 2)
	require.Len(t, halves[1].Items, 2)
}
