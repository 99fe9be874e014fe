package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fixture is a stream with a consumer of all messages.
type fixture struct {
	t *testing.T
	Stream
	store    *Memory
	consumer Consumer
}

func newFixture(t *testing.T, o StreamOptions, limits ConsumerLimits) *fixture {
	t.Helper()
	o.Name = "s"
	m := NewMemory()
	s, err := m.CreateStream(t.Context(), o)
	require.NoError(t, err)
	limits.MaxWaiting = 3
	if limits.AckWait == 0 {
		limits.AckWait = time.Minute
	}
	if limits.MaxAckPending == 0 {
		limits.MaxAckPending = 1000
	}
	c, err := s.CreateConsumer(t.Context(), ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: limits})
	require.NoError(t, err)
	return &fixture{t, s, m, c}
}

func (f *fixture) send(keys ...string) {
	f.t.Helper()
	var batch []Message
	for _, key := range keys {
		batch = append(batch, Message{Key: key, Data: "x"})
	}
	_, err := f.Send(f.t.Context(), Once{}, batch)
	require.NoError(f.t, err)
}

func (f *fixture) receive(n int) []Delivery {
	f.t.Helper()
	got, err := f.consumer.Receive(f.t.Context(), n, nil)
	require.NoError(f.t, err)
	return got
}

// must returns v, and panics on an error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
