package durable

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestWhatIsAnsweredSurvivesALossOfPower crashes at once after a send, a settle and a receive.
func TestWhatIsAnsweredSurvivesALossOfPower(t *testing.T) {
	for name, so := range map[string]store.StreamOptions{"appending": {}, "one message per key": {OneMessagePerKey: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, so, func(f *fixture) {
				require.NoError(f, f.send("a", "b", "c"))
				keys, ids := f.receive(2)
				require.Equal(f, []string{"a", "b"}, keys)
				require.NoError(f, f.consumer.Settle(f.Context(), ids[:1], store.Ack))
				f.reopen(true)
				require.Equal(f, []string{"a", "b", "c"}, f.list())
				keys, _ = f.receive(9)
				require.Equal(f, []string{"c"}, keys, "a is acked, and b on lease")
				require.NoError(f, f.consumer.Settle(f.Context(), ids[1:], store.Ack))
				f.reopen(true)
				time.Sleep(time.Hour)
				keys, _ = f.receive(9)
				require.Equal(f, []string{"c"}, keys)
				require.NoError(f, f.send("d"))
				f.reopen(true)
				require.Equal(f, []string{"a", "b", "c", "d"}, f.list())
			})
		})
	}
}

// TestALeaseEndsInTimeAfterACrash looks at the moment.
func TestALeaseEndsInTimeAfterACrash(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		f.receive(1)
		time.Sleep(20 * time.Second)
		f.reopen(true)
		p, err := f.consumer.Queue(f.Context())
		require.NoError(f, err)
		defer p.Leave()
		start := time.Now()
		<-p.Ready()
		require.Equal(f, 40*time.Second, time.Since(start))
		got, err := p.Receive(f.Context(), 1, nil)
		require.NoError(f, err)
		require.Equal(f, 2, got[0].Count)
	})
}

// TestARepeatedSendIsRecognizedAfterACrash for 10 minutes, as before it.
func TestARepeatedSendIsRecognizedAfterACrash(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		send := func(key string, partOf ...string) error {
			_, err := f.stream.Send(f.Context(), store.Once{Key: key, Body: []byte(key[:1]), PartOf: partOf}, []store.Message{{Key: "a", Data: "data of a"}})
			return err
		}
		require.NoError(f, send("k1"))
		require.NoError(f, send("part", "k1"))
		f.reopen(true)
		require.NoError(f, send("k1"))
		require.NoError(f, send("part"))
		require.Len(f, f.list(), 1)
		_, err := f.stream.Send(f.Context(), store.Once{Key: "k1", Body: []byte("other")}, nil)
		require.ErrorIs(f, err, store.ErrOtherBody)
		time.Sleep(5 * time.Minute)
		f.reopen(false)
		time.Sleep(5 * time.Minute)
		require.NoError(f, send("k1"))
		require.Len(f, f.list(), 1)
		time.Sleep(time.Nanosecond)
		require.NoError(f, send("k1"))
		require.Len(f, f.list(), 2)
	})
}

// TestNumbersAndTimesGoOnAfterACrash checks that nothing that was given out is given out again.
func TestNumbersAndTimesGoOnAfterACrash(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{RetainUpTo: 1}, func(f *fixture) {
		require.NoError(f, f.send("a", "b"))
		doomed, err := f.stream.CreateConsumer(f.Context(), store.ConsumerOptions{Name: "doomed", Filter: ">"})
		require.NoError(f, err)
		require.NoError(f, doomed.Delete(f.Context()))
		gone, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "gone"})
		require.NoError(f, err)
		require.NoError(f, gone.Delete(f.Context()))
		id, info := f.st.ID(), f.info()
		_, first := f.receive(1)
		f.reopen(true)
		require.Equal(f, id, f.st.ID())
		require.Equal(f, info, f.info())
		require.NoError(f, f.send("c"))
		m, err := f.stream.Get(f.Context(), "c")
		require.NoError(f, err)
		require.EqualValues(f, 3, m.Seq)
		_, again := f.receive(1)
		require.NotEqual(f, first, again)
		_, err = f.st.Stream(f.Context(), gone.ID())
		require.ErrorIs(f, err, store.ErrNoStream)
		_, err = f.stream.Consumer(f.Context(), "doomed")
		require.ErrorIs(f, err, store.ErrNoConsumer)
	})
}

func (f *fixture) info() store.StreamInfo {
	f.Helper()
	info, err := f.stream.Info(f.Context())
	require.NoError(f, err)
	return info
}

// TestTimesOfMessagesAscendWithTheirSeqs though the clock was set back between two openings.
func TestTimesOfMessagesAscendWithTheirSeqs(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		time.Sleep(time.Hour)
		require.NoError(f, f.send("a"))
		s := f.stream.(*streamHandle).stream()
		s.lastAt += time.Hour.Microseconds() // as if the clock had been an hour ahead
		require.NoError(f, f.send("b"))
		all, err := f.stream.List(f.Context(), store.ListQuery{Limit: 9})
		require.NoError(f, err)
		require.Equal(f, time.Hour.Microseconds(), all[1].UpdatedAt-all[0].UpdatedAt)
		f.reopen(true)
		require.NoError(f, f.send("c"))
		all, err = f.stream.List(f.Context(), store.ListQuery{Limit: 9})
		require.NoError(f, err)
		require.Equal(f, all[1].UpdatedAt, all[2].UpdatedAt)
	})
}

// TestTheIndexOfKeysIsBounded refuses keys beyond MaxKeyBytes, and takes new versions of those that exist.
func TestTheIndexOfKeysIsBounded(t *testing.T) {
	inBubble(t, Options{MaxKeyBytes: 10 * bytesPerKey}, store.StreamOptions{OneMessagePerKey: true}, func(f *fixture) {
		for i := range 10 {
			require.NoError(f, f.send(fmt.Sprint(i)))
		}
		require.ErrorIs(f, f.send("one more"), store.ErrFull)
		_, err := f.stream.Send(f.Context(), store.Once{}, []store.Message{{Key: "3", Data: "new"}})
		require.NoError(f, err)
		f.reopen(true)
		require.ErrorIs(f, f.send("one more"), store.ErrFull)
		require.EqualValues(f, 10, f.st.Info().Keys)
		require.NoError(f, f.stream.Delete(f.Context()))
		require.Zero(f, f.st.Info().Keys)
	})
}

// TestWhatAFilterLeavesOutIsNotReadAgain passes 25,000 messages by that no filter matches.
func TestWhatAFilterLeavesOutIsNotReadAgain(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 1 << 20}, store.StreamOptions{}, func(f *fixture) {
		limits := store.ConsumerLimits{AckWait: time.Minute, MaxAckPending: 9, MaxWaiting: 9}
		none, err := f.stream.CreateConsumer(f.Context(), store.ConsumerOptions{Name: "none", Filter: "none", ConsumerLimits: limits})
		require.NoError(f, err)
		batch := make([]store.Message, 1000)
		for i := range batch {
			batch[i] = store.Message{Key: fmt.Sprint("key-", i)}
		}
		for range 25 {
			_, err := f.stream.Send(f.Context(), store.Once{}, batch)
			require.NoError(f, err)
		}
		got, err := none.Receive(f.Context(), 1, nil)
		require.NoError(f, err)
		require.Empty(f, got)
		require.NoError(f, f.send("synced"))
		f.reopen(true)
		c := f.stream.(*streamHandle).stream().findConsumer("none")
		require.EqualValues(f, 25_001, c.backlog.Next())
	})
}
