package sequin

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
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
		r := p.afterFailure(b, &connError{kind: kindLost, cause: why}, false)
		require.ErrorIs(t, r.Err, why)
		require.Equal(t, []string{"old", "as old"}, keysOf(r.Failed))
		require.Len(t, r.Again, 1)
		require.Equal(t, []string{"young", "new"}, keysOf(r.Again[0].Items))
		require.Positive(t, r.Wait, "the others are retried after a backoff")
	})
}

func TestOnlyARefusalOfTheStreamSuspendsThePublisher(t *testing.T) {
	for _, reached := range []bool{false, true} {
		for _, row := range []struct {
			suspends []int
			others   []int
			foreign  bool
		}{
			{[]int{401, 403, 404, 405}, []int{400, 408, 409, 413, 422, 429, 500, 501, 503}, false},
			{[]int{302, 307, 400, 401, 403, 404, 405, 413, 421}, []int{408, 425, 429, 500, 502, 503, 504}, true},
		} {
			for _, status := range append(row.suspends, row.others...) {
				p := newTestPublisher(t, PublisherConfig{})
				p.reached.Store(reached)
				b := &messageBatch{Items: make([]messageEntry, 1), Work: batchState{attempts: 1}}
				p.encode(b, false)
				r := p.afterFailure(b, &APIError{Status: status, Foreign: row.foreign}, false)
				// After a successful send the URL is known to be right. A foreign answer then comes from a proxy.
				suspended := slices.Contains(row.suspends, status) && !(row.foreign && reached)
				require.Equal(t, suspended, p.Stats().Refusal != nil, "status %d, foreign: %t, reached: %t", status, row.foreign, reached)
				if row.foreign {
					require.Empty(t, r.Failed, "status %d: a foreign answer fails nobody", status)
				}
				require.NoError(t, p.Close(t.Context()))
			}
		}
	}
}

func TestAPartNamesTheSendsThatMayHaveStoredIt(t *testing.T) {
	p := newTestPublisher(t, PublisherConfig{})
	b := &messageBatch{Items: make([]messageEntry, 4)}
	p.encode(b, false)
	left, _ := p.halve(b)
	require.Empty(t, left.Work.partOf, "it was not stored")
	b.Work.mayBeStored = true
	left, right := p.halve(b)
	require.Equal(t, []string{b.Work.idempotencyKey}, left.Work.partOf)
	require.Equal(t, []string{b.Work.idempotencyKey}, right.Work.partOf)
	p.encode(left, false)
	left.Work.mayBeStored = true
	leftmost, _ := p.halve(left)
	require.Equal(t, []string{left.Work.idempotencyKey, b.Work.idempotencyKey}, leftmost.Work.partOf, "the nearest first")
	for range 50 {
		p.encode(left, false)
		left.Work.mayBeStored = true
		left = p.part(left, left.Items)
	}
	require.Len(t, left.Work.partOf, maxPartOf)
}

func TestTheRightHalfIsSurelyInvalidOnceTheLeftOneWasTaken(t *testing.T) {
	left, right := newHalves()
	require.False(t, left.surelyInvalid() || right.surelyInvalid())
	right.noteAccepted()
	require.False(t, left.surelyInvalid() || right.surelyInvalid(), "the right half says nothing about the left one")
	left.noteAccepted()
	require.True(t, right.surelyInvalid())
	require.False(t, left.surelyInvalid())
	var none half
	none.noteAccepted()
	require.False(t, none.surelyInvalid())
}

// One half may be a candidate, which is sent beside its lane. The race detector finds an access that is not synchronized.
func TestBothHalvesMayBeSentAtOnce(t *testing.T) {
	left, right := newHalves()
	var sends sync.WaitGroup
	sends.Go(left.noteAccepted)
	sends.Go(func() { _ = right.surelyInvalid() })
	sends.Wait()
	require.True(t, right.surelyInvalid())
}

func TestExpiredMessagesLeaveABatchThatIsRetried(t *testing.T) {
	p := newTestPublisher(t, PublisherConfig{})
	now := time.Now()
	ended, end := context.WithCancel(t.Context())
	end()
	over := &lease.Lease{Deadline: now, Parent: t.Context()}
	alive := &lease.Lease{Deadline: now.Add(1), Parent: t.Context()}
	stopped := &lease.Lease{Deadline: now.Add(time.Hour), Parent: ended}

	b := &messageBatch{Work: batchState{attempts: 3}}
	for key, l := range map[string]*lease.Lease{"over": over, "alive": alive, "stopped": stopped, "without": nil} {
		b.Items = append(b.Items, messageEntry{Item: outgoing{Message: Message{Key: key}, lease: l}})
	}
	p.encode(b, false)
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

// net/http would copy the body of a batch to a TCPConn in pieces, with a new buffer for each request.
func TestTheConnectionsOfAClientTakeABodyInOnePiece(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := newTransport(time.Minute).DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	_, copied := c.(*net.TCPConn)
	require.False(t, copied)
	require.Implements(t, (*io.ReaderFrom)(nil), c)
	require.NoError(t, c.Close())
}
