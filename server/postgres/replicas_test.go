package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/storetest"
)

// TestFourReplicasConform runs the suite on four replicas of one database: each call goes to one of them that is chosen at
// random.
//
// A place waits at one replica, so that all places of a consumer are made at one replica here: which of them is called
// first, and how many there may be, is decided by each replica alone.
func TestFourReplicasConform(t *testing.T) {
	requirePostgres(t)
	storetest.Run(t, storetest.Config{
		Open: func(t testing.TB) store.Store { return openReplicas(t, newSchema(t)) },
		Reopen: func(t testing.TB, st store.Store) store.Store {
			require.NoError(t, st.Close())
			return openReplicas(t, st.(*replicas).schema)
		},
		Seeds: 1,
		// Each replica estimates from what it has read itself: see TestAReplicaThatHasReadNothingEstimatesFromASample.
		Except: []string{"a measure estimates what a filter leaves out"},
	})
}

// TestAReplicaThatHasReadNothingEstimatesFromASample has another replica read and settle all that matches so far.
func TestAReplicaThatHasReadNothingEstimatesFromASample(t *testing.T) {
	for name, keyed := range map[string]bool{"appending": false, "one per key": true} {
		t.Run(name, func(t *testing.T) {
			schema := newSchema(t)
			s, err := openWith(t, realTime(schema)).CreateStream(t.Context(), store.StreamOptions{Name: "s", OneMessagePerKey: keyed})
			require.NoError(t, err)
			_, err = s.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: "a.>", ConsumerLimits: store.ConsumerLimits{
				AckWait: time.Minute, MaxAckPending: 1000, MaxWaiting: 5,
			}})
			require.NoError(t, err)
			var all []store.Message
			for i := range 100 {
				all = append(all, mixed(4)[i%4])
				all[i].Key += fmt.Sprint(".", i)
			}
			send(t, s, all...)
			_, c := onReplica(t, openWith(t, realTime(schema)))
			m, err := c.(store.Measured).Measure(t.Context())
			require.NoError(t, err)
			require.True(t, m.Estimated)
			require.Equal(t, 50, m.Backlog)
		})
	}
}

// replicas is a store that has each call answered by one of several.
type replicas struct {
	schema string
	all    []*Store
}

func openReplicas(t testing.TB, schema string) *replicas {
	r := &replicas{schema: schema}
	for range 4 {
		o := virtual(schema)
		o.lookEvery = 5 * time.Second // places hear of other replicas by looking
		r.all = append(r.all, openWith(t, o))
	}
	return r
}

func (r *replicas) any() *Store { return r.all[rand.N(len(r.all))] }

func (r *replicas) ID() string { return r.any().ID() }

func (r *replicas) stream(s store.Stream, err error) (store.Stream, error) {
	if err != nil {
		return nil, err
	}
	return &replicaStream{r, s.(*stream).row}, nil
}

func (r *replicas) consumer(c store.Consumer, err error) (store.Consumer, error) {
	if err != nil {
		return nil, err
	}
	return &replicaConsumer{r, c.(*consumer).row}, nil
}

func (r *replicas) CreateStream(ctx context.Context, o store.StreamOptions) (store.Stream, error) {
	return r.stream(r.any().CreateStream(ctx, o))
}

func (r *replicas) Stream(ctx context.Context, ref string) (store.Stream, error) {
	return r.stream(r.any().Stream(ctx, ref))
}

func (r *replicas) Streams(ctx context.Context) (all []store.Stream, err error) {
	found, err := r.any().Streams(ctx)
	for _, s := range found {
		s, _ = r.stream(s, nil)
		all = append(all, s)
	}
	return all, err
}

// StreamInfos implements store.Surveyed.
func (r *replicas) StreamInfos(ctx context.Context) ([]store.StreamInfo, error) {
	return store.StreamInfos(ctx, r.any())
}

func (r *replicas) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	return r.consumer(r.any().Consumer(ctx, ref))
}

// Extended implements store.Extended.
func (r *replicas) Extended() {}

// KeepsHeaders implements store.KeepsHeaders.
func (r *replicas) KeepsHeaders() {}

func (r *replicas) Probe(ctx context.Context) error { return r.any().Probe(ctx) }

func (r *replicas) Close() (err error) {
	for _, st := range r.all {
		if closed := st.Close(); closed != nil {
			err = closed
		}
	}
	return err
}

type replicaStream struct {
	r   *replicas
	row streamRow
}

func (s *replicaStream) any() *stream { return &stream{s.r.any(), s.row} }

func (s *replicaStream) ID() string { return s.any().ID() }

func (s *replicaStream) Info(ctx context.Context) (store.StreamInfo, error) { return s.any().Info(ctx) }

func (s *replicaStream) Delete(ctx context.Context) error { return s.any().Delete(ctx) }

func (s *replicaStream) Send(ctx context.Context, o store.Once, m []store.Message) (int, error) {
	return s.any().Send(ctx, o, m)
}

func (s *replicaStream) Get(ctx context.Context, key string) (store.Message, error) {
	return s.any().Get(ctx, key)
}

func (s *replicaStream) List(ctx context.Context, q store.ListQuery) ([]store.Message, error) {
	return s.any().List(ctx, q)
}

func (s *replicaStream) States(ctx context.Context, key string) (store.Message, []store.ConsumerView, error) {
	return s.any().States(ctx, key)
}

func (s *replicaStream) Purge(ctx context.Context, q store.PurgeQuery) (int, error) {
	return s.any().Purge(ctx, q)
}

func (s *replicaStream) SeqAt(ctx context.Context, at time.Time) (int64, error) {
	return s.any().SeqAt(ctx, at)
}

func (s *replicaStream) CreateConsumer(ctx context.Context, o store.ConsumerOptions) (store.Consumer, error) {
	return s.r.consumer(s.any().CreateConsumer(ctx, o))
}

func (s *replicaStream) Consumer(ctx context.Context, ref string) (store.Consumer, error) {
	return s.r.consumer(s.any().Consumer(ctx, ref))
}

func (s *replicaStream) Consumers(ctx context.Context) (all []store.Consumer, err error) {
	found, err := s.any().Consumers(ctx)
	for _, c := range found {
		c, _ = s.r.consumer(c, nil)
		all = append(all, c)
	}
	return all, err
}

type replicaConsumer struct {
	r   *replicas
	row consumerRow
}

func (c *replicaConsumer) any() *consumer { return &consumer{c.r.any(), c.row} }

// waits returns the replica of the places.
func (c *replicaConsumer) waits() *consumer { return &consumer{c.r.all[0], c.row} }

func (c *replicaConsumer) ID() string       { return c.any().ID() }
func (c *replicaConsumer) StreamID() string { return c.any().StreamID() }

func (c *replicaConsumer) Info(ctx context.Context) (store.ConsumerInfo, error) {
	return c.any().Info(ctx)
}

func (c *replicaConsumer) Update(ctx context.Context, l store.ConsumerLimits) (store.ConsumerInfo, error) {
	return c.any().Update(ctx, l)
}

func (c *replicaConsumer) Delete(ctx context.Context) error { return c.any().Delete(ctx) }

func (c *replicaConsumer) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	return c.any().Receive(ctx, n, dst)
}

func (c *replicaConsumer) Queue(ctx context.Context) (store.Place, error) {
	return c.waits().Queue(ctx)
}

func (c *replicaConsumer) Settle(ctx context.Context, ids []store.ID, how store.Settlement) error {
	return c.any().Settle(ctx, ids, how)
}

func (c *replicaConsumer) Delay(ctx context.Context, ids []store.ID, how store.Settlement, d time.Duration) error {
	return c.any().Delay(ctx, ids, how, d)
}

func (c *replicaConsumer) Extend(ctx context.Context, ids []store.ID, d time.Duration) ([]store.ID, error) {
	return c.any().Extend(ctx, ids, d)
}

func (c *replicaConsumer) Peek(ctx context.Context, q store.PeekQuery) ([]store.View, error) {
	return c.any().Peek(ctx, q)
}

// Measure implements store.Measured. Each replica counts the receives that wait there.
func (c *replicaConsumer) Measure(ctx context.Context) (store.Measure, error) {
	return c.waits().Measure(ctx)
}

func (c *replicaConsumer) State(ctx context.Context) (store.ConsumerState, error) {
	s, err := c.any().State(ctx)
	s.Waiting = c.waits().engine().places.len()
	return s, err
}
