package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Handles are found anew by each goroutine, as requests do.
var concurrencyTests = []test{
	{promise: "every message is delivered and acked once, in the order of its key", check: everyMessageOnce},
	{promise: "the newest version of every key is delivered last", check: newestVersionLast, options: onePerKeyAll},
	{promise: "waiting receives get every message", check: waitingReceivesGetAll},
	{promise: "attempts at one send store it once", check: attemptsStoreOnce},
	{promise: "a name is given to one of many", check: nameGoesToOne},
	{promise: "a deletion in the midst of all leaves nothing behind", check: deletionAmidAll},
	{promise: "what is read is what was stored", check: readsAmidAll},
}

// together runs f on n goroutines.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

const (
	senders   = 4
	receivers = 4
	perSender = 100 // batches
	perBatch  = 10
)

// everyMessageOnce has each sender use keys of its own, whose data count up.
func everyMessageOnce(f *fixture) {
	ctx := f.t.Context()
	other := f.createConsumer(f.stream, "d", ">", store.ConsumerLimits{})
	ledgers := []*ledger{newLedger(), newLedger()}
	consumers := []store.Consumer{f.consumer, other}
	together(senders+2*receivers, func(i int) {
		if i < senders {
			for b := range perSender {
				messages := make([]store.Message, perBatch)
				for j := range messages {
					messages[j] = store.Message{Key: fmt.Sprintf("k.%d.%d", i, j%3), Data: strconv.Itoa(b*perBatch + j)}
				}
				n, err := f.findStream("s").Send(ctx, store.Once{}, messages)
				assert.NoError(f.t, err)
				assert.Equal(f.t, perBatch, n)
			}
			return
		}
		which := i % 2
		ledgers[which].receiveAll(f, consumers[which], i)
	})
	for i, l := range ledgers {
		require.Empty(f.t, l.faults)
		require.Equal(f.t, int64(senders*perSender*perBatch), l.acked.Load())
		require.Empty(f.t, need(f, consumers[i].State).Outstanding)
	}
	require.Equal(f.t, senders*perSender*perBatch, f.streamInfo().Messages)
}

// ledger checks the deliveries of one consumer.
type ledger struct {
	acked atomic.Int64

	mu     sync.Mutex // guards what follows
	leased map[string]bool
	last   map[string]int // data of the last message of a key that was acked
	faults []string
}

func newLedger() *ledger { return &ledger{leased: map[string]bool{}, last: map[string]int{}} }

func (l *ledger) begin(d store.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := strconv.Atoi(d.Data)
	last, known := l.last[d.Key]
	if err != nil || l.leased[d.Key] || known && n <= last {
		l.faults = append(l.faults, fmt.Sprintf("%s=%s while leased is %v, after %d", d.Key, d.Data, l.leased[d.Key], last))
	}
	l.leased[d.Key] = true
}

func (l *ledger) end(d store.Delivery, how store.Settlement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leased[d.Key] = false
	if how == store.Ack {
		l.last[d.Key], _ = strconv.Atoi(d.Data)
		l.acked.Add(1)
	}
}

// receiveAll receives until every message is acked. It nacks and returns some on the way.
func (l *ledger) receiveAll(f *fixture, c store.Consumer, turn int) {
	const all = senders * perSender * perBatch
	var dst []store.Delivery
	for l.acked.Load() < all {
		var err error
		if dst, err = c.Receive(f.t.Context(), 7, dst[:0]); !assert.NoError(f.t, err) {
			return
		}
		for _, d := range dst {
			l.begin(d)
			how := store.Ack
			if turn++; turn%5 == 0 {
				how = store.Settlement(turn % 3)
			}
			l.end(d, how) // before the settle, after which another may have it
			if !assert.NoError(f.t, c.Settle(f.t.Context(), []store.ID{d.ID}, how)) {
				return
			}
		}
	}
}

func newestVersionLast(f *fixture) {
	ctx := f.t.Context()
	const keys, versions = 5, 200
	var mu sync.Mutex
	last := map[string]int{}
	var done atomic.Int64
	together(keys+receivers, func(i int) {
		if i < keys {
			for v := range versions {
				_, err := f.stream.Send(ctx, store.Once{}, []store.Message{{Key: fmt.Sprint("k", i), Data: strconv.Itoa(v)}})
				assert.NoError(f.t, err)
			}
			return
		}
		for done.Load() < keys {
			all, err := f.consumer.Receive(ctx, 3, nil)
			if !assert.NoError(f.t, err) {
				return
			}
			for _, d := range all {
				v, _ := strconv.Atoi(d.Data)
				mu.Lock()
				if before, known := last[d.Key]; known {
					assert.Less(f.t, before, v, "%s came after a newer version", d.Key)
				}
				last[d.Key] = v
				mu.Unlock()
				assert.NoError(f.t, f.consumer.Settle(ctx, []store.ID{d.ID}, store.Ack))
				if v == versions-1 {
					done.Add(1)
				}
			}
		}
	})
	require.Len(f.t, f.stored(), keys)
	require.Empty(f.t, f.receive(9))
}

// waitingReceivesGetAll has more receives wait than there are messages at a time.
func waitingReceivesGetAll(f *fixture) {
	ctx := f.t.Context()
	const n = 300
	var received atomic.Int64
	all := make(chan struct{})
	together(receivers+1, func(i int) {
		if i == receivers {
			for _, key := range numbered("k", n) {
				_, err := f.stream.Send(ctx, store.Once{}, batch([]string{key}))
				assert.NoError(f.t, err)
			}
			return
		}
		for {
			place, err := f.consumer.Queue(ctx)
			if !assert.NoError(f.t, err) {
				return
			}
			select {
			case <-place.Ready():
			case <-all:
				place.Leave()
				return
			}
			got, err := place.Receive(ctx, 2, nil)
			assert.NoError(f.t, err)
			place.Leave()
			if received.Add(int64(len(got))) == n && len(got) > 0 {
				close(all)
			}
		}
	})
	require.Len(f.t, f.state().Outstanding, n)
	require.Zero(f.t, f.state().Waiting)
}

func attemptsStoreOnce(f *fixture) {
	for round := range 20 {
		key := fmt.Sprint("send ", round)
		together(8, func(i int) {
			n, err := f.sendOnce(key, nil, fmt.Sprintf("k%d=1", round), fmt.Sprintf("k%d=2", round))
			assert.NoError(f.t, err)
			assert.Equal(f.t, 2, n)
			n, err = f.sendOnce(fmt.Sprint(key, " part ", i%2), []string{key}, fmt.Sprintf("k%d=2", round))
			assert.NoError(f.t, err)
			assert.Equal(f.t, 1, n)
		})
	}
	require.Len(f.t, f.stored(), 40)
}

func nameGoesToOne(f *fixture) {
	var streams, consumers atomic.Int64
	together(8, func(int) {
		s, err := f.store.CreateStream(f.t.Context(), store.StreamOptions{Name: "new"})
		if err == nil {
			streams.Add(1)
			assert.NotEmpty(f.t, s.ID())
		} else {
			assert.ErrorIs(f.t, err, store.ErrNameTaken)
		}
		_, err = f.stream.CreateConsumer(f.t.Context(), store.ConsumerOptions{Name: "new", Filter: ">", ConsumerLimits: orDefaults(store.ConsumerLimits{})})
		if err == nil {
			consumers.Add(1)
		} else {
			assert.ErrorIs(f.t, err, store.ErrNameTaken)
		}
	})
	require.Equal(f.t, []int64{1, 1}, []int64{streams.Load(), consumers.Load()})
}

// deletionAmidAll creates and deletes a stream while others use it.
func deletionAmidAll(f *fixture) {
	ctx := f.t.Context()
	const rounds = 30
	var over atomic.Bool
	allowed := func(err error) bool {
		return err == nil || errors.Is(err, store.ErrNoStream) || errors.Is(err, store.ErrNoConsumer)
	}
	together(5, func(i int) {
		if i == 0 {
			defer over.Store(true)
			for range rounds {
				s, err := f.store.CreateStream(ctx, store.StreamOptions{Name: "t"})
				assert.NoError(f.t, err)
				_, err = s.CreateConsumer(ctx, store.ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: orDefaults(store.ConsumerLimits{})})
				assert.NoError(f.t, err)
				_, err = s.Send(ctx, store.Once{}, batch([]string{"a", "b"}))
				assert.NoError(f.t, err)
				assert.NoError(f.t, s.Delete(ctx))
			}
			return
		}
		for !over.Load() {
			s, err := f.store.Stream(ctx, "t")
			if err != nil {
				assert.True(f.t, allowed(err), err)
				continue
			}
			_, err = s.Send(ctx, store.Once{Key: fmt.Sprint(i)}, batch([]string{"a", "c"}))
			assert.True(f.t, allowed(err), err)
			c, err := s.Consumer(ctx, "c")
			if err != nil {
				assert.True(f.t, allowed(err), err)
				continue
			}
			got, err := c.Receive(ctx, 3, nil)
			assert.True(f.t, allowed(err), err)
			for _, d := range got {
				assert.True(f.t, allowed(c.Settle(ctx, []store.ID{d.ID}, store.Ack)))
			}
		}
	})
	require.Equal(f.t, []string{"s"}, f.streamNames())
}

// readsAmidAll holds that a list never has half a batch.
func readsAmidAll(f *fixture) {
	ctx := f.t.Context()
	var over atomic.Bool
	together(4, func(i int) {
		if i < 2 {
			defer over.Store(true)
			for n := range 200 {
				data := fmt.Sprint(i, " ", n)
				_, err := f.stream.Send(ctx, store.Once{}, batch([]string{"a=" + data, "b=" + data, "c=" + data}))
				assert.NoError(f.t, err)
			}
			return
		}
		for !over.Load() {
			all, err := f.stream.List(ctx, store.ListQuery{Limit: 9, Desc: true})
			assert.NoError(f.t, err)
			assert.Zero(f.t, len(all)%3)
			slices.Reverse(all)
			for j, m := range all {
				assert.Equal(f.t, []string{"a", "b", "c"}[j%3], m.Key)
				assert.Equal(f.t, all[j-j%3].Data, m.Data)
			}
			_, _, err = f.stream.States(ctx, "a")
			assert.True(f.t, err == nil || errors.Is(err, store.ErrNoMessage), err)
		}
	})
}
