package postgres

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestAGroupEndsBeforeASendThatDependsOnIt holds which sends one transaction publishes.
func TestAGroupEndsBeforeASendThatDependsOnIt(t *testing.T) {
	send := func(key, parent string, messages ...string) *sending {
		x := &sending{}
		if key != "" {
			x.token = tokenOf(key)
		}
		if parent != "" {
			x.parents = append(x.parents, tokenOf(parent))
		}
		for _, k := range messages {
			x.messages = append(x.messages, store.Message{Key: k})
		}
		return x
	}
	appends, keyed, bounded := &publisher{}, &publisher{}, &publisher{}
	keyed.stream.OneMessagePerKey = true
	bounded.stream.MaxBytes = 1
	for _, tt := range []struct {
		name string
		p    *publisher
		all  []*sending
		want int
	}{
		{"sends without a key", appends, []*sending{send("", "", "a"), send("", "", "a")}, 2},
		{"a repeat of the first", appends, []*sending{send("k", "", "a"), send("k", "", "a")}, 1},
		{"a part of the first", appends, []*sending{send("k", "", "a"), send("l", "k", "a")}, 1},
		{"a part of another", appends, []*sending{send("k", "", "a"), send("l", "m", "a")}, 2},
		{"a version of a message of the first", keyed, []*sending{send("", "", "a", "b"), send("", "", "b")}, 1},
		{"other keys", keyed, []*sending{send("", "", "a", "a"), send("", "", "b")}, 2},
		{"a bounded stream", bounded, []*sending{send("", "", "a"), send("", "", "b")}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, tt.p.fits(tt.all)) })
	}
}

// TestASendGoesAheadOfOneThatWaitsForTheDisk holds the first transaction when it is up to the database.
func TestASendGoesAheadOfOneThatWaitsForTheDisk(t *testing.T) {
	o := realTime(newSchema(t))
	var sends atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	o.fault = func(at string) error {
		if at == "published" && sends.Add(1) == 1 {
			close(entered)
			<-release
		}
		return nil
	}
	st := openWith(t, o)
	s, _ := newConsumer(t, st, store.StreamOptions{})
	sent := make(chan error, 2)
	start := func(key string) {
		_, err := s.Send(t.Context(), store.Once{}, []store.Message{{Key: key}})
		sent <- err
	}
	go start("a")
	<-entered
	go start("b")
	select {
	case err := <-sent:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Error("the second send waits for the first")
	}
	close(release)
	require.NoError(t, <-sent)
	all, err := s.List(t.Context(), store.ListQuery{Limit: 9})
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, []string{"a", "b"}, []string{all[0].Key, all[1].Key})
}

// TestSmallSendsShareChunks has a large send, whose chunks are made before its turn, between small ones.
func TestSmallSendsShareChunks(t *testing.T) {
	of := func(key string, n, size int) *sending {
		x := &sending{}
		for range n {
			m := store.Message{Key: key, Data: strings.Repeat("x", size)}
			x.messages, x.bytes = append(x.messages, m), x.bytes+m.Size()
		}
		x.encode(1)
		return x
	}
	all := chunksOf(1, []*sending{of("a", 1, 9), of("b", 2, 9), of("c", largeMessages, 9), of("d", 1, 9), of("e", 1, largeBytes), of("f", 1, 9), of("g", 1, 9)})
	var keys []string
	for _, c := range all {
		text := ""
		for _, m := range c.chunk.messages {
			if !strings.HasSuffix(text, m.Key) {
				text += m.Key
			}
		}
		keys = append(keys, text)
		require.Equal(t, len(c.chunk.messages), c.chunk.n)
	}
	require.Equal(t, []string{"ab", "c", "d", "e", "fg"}, keys)
}
