package sequin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

func newTestPublisher(t *testing.T, cfg PublisherConfig) *Publisher {
	t.Helper()
	client, err := NewClient(Config{})
	require.NoError(t, err)
	p, err := client.NewPublisher("orders", cfg)
	require.NoError(t, err)
	return p
}

func keysOf(items []messageEntry) (keys []string) {
	for i := range items {
		keys = append(keys, items[i].Item.Key)
	}
	return keys
}

// The messages of a batch may have been tried for different times: each has its own RetryFor.
func TestOnlyTheMessagesTriedForRetryForFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPublisher(t, PublisherConfig{RetryFor: 10 * time.Second})
		b := &messageBatch{Work: batchState{attempts: 1}}
		for i, key := range []string{"old", "young", "as old", "new"} {
			b.Items = append(b.Items, messageEntry{Item: outgoing{Message: Message{Key: key}}})
			if i < 3 {
				b.Items[i].Item.tried = []time.Duration{1, 6 * time.Second, 1}[i]
			}
		}
		time.Sleep(11 * time.Second)
		p.noteFirstAttempt(b.Items)
		why := errors.New("reset")
		r := p.afterFailure(b, &connError{kind: kindLost, cause: why})
		require.ErrorIs(t, r.Err, why)
		require.Equal(t, []string{"old", "as old"}, keysOf(r.Failed))
		require.Equal(t, []string{"young", "new"}, keysOf(r.Requeue))
		require.Positive(t, r.Wait, "the others are retried after a backoff")
	})
}

func TestOnlyARefusalOfTheStreamSuspendsThePublisher(t *testing.T) {
	for status, suspended := range map[int]bool{401: true, 403: true, 404: true, 405: true, 302: true,
		400: false, 408: false, 409: false, 413: false, 422: false, 429: false, 500: false, 501: false, 503: false} {
		p := newTestPublisher(t, PublisherConfig{})
		p.afterFailure(&messageBatch{Items: make([]messageEntry, 1), Work: batchState{attempts: 1}}, &APIError{Status: status})
		require.Equal(t, suspended, p.Stats().Refusal != nil, "status %d", status)
		require.NoError(t, p.Close(t.Context()))
	}
}

// A smaller control batch serves as well as a larger one.
func TestAControlBatchWithAnUnexplained500IsHalvedAtOnce(t *testing.T) {
	p := newTestPublisher(t, PublisherConfig{})
	fault := &APIError{Status: 500}
	b := &messageBatch{Items: make([]messageEntry, 4), Work: batchState{attempts: 1}}
	require.Equal(t, []*messageBatch{b}, p.afterFailure(b, fault).Again, "another batch is retried as it is")
	b.Control = true
	halves := p.afterFailure(b, fault).Again
	require.Len(t, halves, 2)
	require.Len(t, halves[0].Items, 2)
	require.Len(t, halves[1].Items, 2)
}

func TestTheRightHalfIsSurelyInvalidOnceTheLeftOneWasTaken(t *testing.T) {
	left, right := newHalves()
	require.False(t, left.surelyInvalid() || right.surelyInvalid())
	right.noteTaken()
	require.False(t, left.surelyInvalid() || right.surelyInvalid(), "what the right half is, says nothing of the left one")
	left.noteTaken()
	require.True(t, right.surelyInvalid())
	require.False(t, left.surelyInvalid())
	var none half
	none.noteTaken()
	require.False(t, none.surelyInvalid())
}

func TestExpiredMessagesLeaveABatchThatIsRetried(t *testing.T) {
	p := newTestPublisher(t, PublisherConfig{})
	now := time.Now()
	ended, end := context.WithCancel(t.Context())
	end()
	over := &lease.Lease{Deadline: now, Parent: t.Context()}
	alive := &lease.Lease{Deadline: now.Add(1), Parent: t.Context()}
	stopped := &lease.Lease{Deadline: now.Add(time.Hour), Parent: ended}

	b := &messageBatch{Work: batchState{attempts: 3, unexplained: 2}}
	for key, l := range map[string]*lease.Lease{"over": over, "alive": alive, "stopped": stopped, "without": nil} {
		b.Items = append(b.Items, messageEntry{Item: outgoing{Message: Message{Key: key}, lease: l}})
	}
	p.encode(b)
	r, dropped := p.dropExpired(b, now)
	require.True(t, dropped)
	require.ErrorIs(t, r.Err, ErrLeaseExpired)
	require.ElementsMatch(t, []string{"over", "stopped"}, keysOf(r.Failed))
	require.Len(t, r.Again, 1)
	rest := r.Again[0]
	require.ElementsMatch(t, []string{"alive", "without"}, keysOf(rest.Items))
	require.Nil(t, rest.Work.body, "it is another request, which is encoded anew")
	require.Equal(t, 3, rest.Work.attempts)

	_, dropped = p.dropExpired(rest, now)
	require.False(t, dropped)
	r, _ = p.dropExpired(rest, now.Add(1))
	require.Equal(t, []string{"alive"}, keysOf(r.Failed))
	r, _ = p.dropExpired(&messageBatch{Items: r.Failed}, now.Add(1))
	require.Empty(t, r.Again, "a batch is never empty")
}
