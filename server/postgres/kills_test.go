package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sequin-go/sequin/server/internal/store"
)

// killed is what four replicas do whose connections are ended again and again.
type killed struct {
	t testing.TB

	mu    sync.Mutex
	live  map[int64]bool // messages on lease
	next  map[string]int // what is to come of each key
	acked int
}

// delivered checks deliveries. It returns what is to be done with them.
func (k *killed) delivered(got []store.Delivery) (settles map[store.Settlement][]store.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	settles = map[store.Settlement][]store.ID{}
	for _, d := range got {
		assert.False(k.t, k.live[d.Seq], "message %d is on lease twice", d.Seq)
		assert.Equal(k.t, fmt.Sprint(k.next[d.Key]), d.Data, "messages of a key come in order, and no more when they are acked")
		how := store.Ack
		if n := rand.N(100); n < 20 {
			how = []store.Settlement{store.Nack, store.Return}[n%2]
		}
		settles[how] = append(settles[how], d.ID)
		k.live[d.Seq] = true
	}
	return settles
}

// settled notes what is settled now. It is called before.
func (k *killed) settled(got []store.Delivery, ids []store.ID, how store.Settlement) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range got {
		for _, id := range ids {
			if d.ID != id {
				continue
			}
			delete(k.live, d.Seq)
			if how == store.Ack {
				k.next[d.Key]++
				k.acked++
			}
		}
	}
}

func (k *killed) left(of int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return of - k.acked
}

// TestFourReplicasShareAConsumerUnderKills has each of four replicas receive and settle at the same time.
func TestFourReplicasShareAConsumerUnderKills(t *testing.T) {
	const keys, each = 50, 20
	schema := newSchema(t)
	s, _ := newConsumer(t, openWith(t, realTime(schema)), store.StreamOptions{})
	for n := range each {
		var all []store.Message
		for key := range keys {
			all = append(all, store.Message{Key: fmt.Sprint(key), Data: fmt.Sprint(n)})
		}
		send(t, s, all...)
	}
	k := &killed{t: t, live: map[int64]bool{}, next: map[string]int{}}
	var group sync.WaitGroup
	for range 4 {
		o := realTime(schema)
		o.MaxConns = 3
		_, c := onReplica(t, openWith(t, o))
		group.Go(func() {
			for k.left(keys*each) > 0 && !t.Failed() {
				got, err := c.Receive(context.Background(), 1+rand.N(30), nil)
				assert.NoError(t, err)
				for how, ids := range k.delivered(got) {
					k.settled(got, ids, how)
					assert.NoError(t, c.Settle(context.Background(), ids, how))
				}
			}
		})
	}
	for left := keys * each; left > 0 && !t.Failed(); {
		if now := k.left(keys * each); now <= left-keys {
			left = now
			execute(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin' and pid <> pg_backend_pid()")
		} else if runtime.Gosched(); now == 0 {
			break
		}
	}
	group.Wait()
}
