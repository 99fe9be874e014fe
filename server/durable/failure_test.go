package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// fixture is a store in memory files, with a stream and a consumer.
type fixture struct {
	*testing.T
	fs       *crashfs.FS
	o        Options
	st       *Store
	stream   store.Stream
	consumer store.Consumer
}

// inBubble runs f with a fixture in virtual time.
func inBubble(t *testing.T, o Options, so store.StreamOptions, f func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		o.FS = fs
		if o.MinFree == 0 {
			o.MinFree = -1
		}
		if o.SegmentBytes == 0 {
			o.SegmentBytes = 64 << 10
		}
		fx := &fixture{T: t, fs: fs, o: o, st: open(t, "dir", o)}
		t.Cleanup(func() { _ = fx.st.Close() })
		so.Name = "s"
		var err error
		fx.stream, err = fx.st.CreateStream(t.Context(), so)
		require.NoError(t, err)
		limits := store.ConsumerLimits{AckWait: time.Minute, MaxAckPending: 100_000, MaxWaiting: 9}
		fx.consumer, err = fx.stream.CreateConsumer(t.Context(), store.ConsumerOptions{Name: "c", Filter: ">", ConsumerLimits: limits})
		require.NoError(t, err)
		f(fx)
	})
}

func (f *fixture) send(keys ...string) error {
	var batch []store.Message
	for _, key := range keys {
		batch = append(batch, store.Message{Key: key, Data: "data of " + key})
	}
	_, err := f.stream.Send(f.Context(), store.Once{}, batch)
	return err
}

// list returns the keys of all messages.
func (f *fixture) list() (keys []string) {
	f.Helper()
	all, err := f.stream.List(f.Context(), store.ListQuery{Limit: 10_000})
	require.NoError(f, err)
	for _, m := range all {
		require.Equal(f, "data of "+m.Key, m.Data)
		keys = append(keys, m.Key)
	}
	return keys
}

func (f *fixture) receive(n int) (keys []string, ids []store.ID) {
	f.Helper()
	got, err := f.consumer.Receive(f.Context(), n, nil)
	require.NoError(f, err)
	for _, d := range got {
		keys, ids = append(keys, d.Key), append(ids, d.ID)
	}
	return keys, ids
}

// reopen closes the store and opens it again, as an operator does, or after a loss of power that keeps nothing unsynced.
func (f *fixture) reopen(crash bool) {
	f.Helper()
	if crash {
		f.o.FS = f.fs.Crash(0, rand.New(rand.NewPCG(1, 1)))
		_ = f.st.Close()
	} else {
		require.NoError(f, f.st.Close())
	}
	f.st = open(f, "dir", f.o)
	f.fs = f.o.FS.(*crashfs.FS)
	f.find()
}

// find finds the stream and the consumer in another store.
func (f *fixture) find() {
	f.Helper()
	var err error
	f.stream, err = f.st.Stream(f.Context(), "s")
	require.NoError(f, err)
	f.consumer, err = f.stream.Consumer(f.Context(), "c")
	require.NoError(f, err)
}

// failing lets the next change of a kind fail, of a segment.
func (f *fixture) failing(kind crashfs.Kind, err error) {
	left := 1
	f.fs.SetHook(func(op crashfs.Op) error {
		if op.Kind == kind && left > 0 && strings.Contains(op.Name, ".seg") {
			left--
			return err
		}
		return nil
	})
}

// TestAStoreGoesOnAfterAFailedWrite fails one write. What was answered before is there, what was not is not, and handles
// and waiting receives are told and can be used again.
func TestAStoreGoesOnAfterAFailedWrite(t *testing.T) {
	for name, so := range map[string]store.StreamOptions{"appending": {}, "one message per key": {OneMessagePerKey: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, so, func(f *fixture) {
				require.NoError(f, f.send("a", "b"))
				_, ids := f.receive(1)
				other, err := f.stream.CreateConsumer(f.Context(), store.ConsumerOptions{
					Name: "other", Filter: "none", ConsumerLimits: store.ConsumerLimits{AckWait: time.Minute, MaxAckPending: 1, MaxWaiting: 1},
				})
				require.NoError(f, err)
				waiting, err := other.Queue(f.Context())
				require.NoError(f, err)
				f.failing(crashfs.Write, errors.New("the cable is out"))
				err = f.send("a", "lost")
				require.ErrorIs(f, err, store.ErrFailed)
				require.ErrorContains(f, err, "the cable is out")
				<-waiting.Ready()
				_, err = waiting.Receive(f.Context(), 1, nil)
				require.ErrorIs(f, err, store.ErrFailed)
				waiting.Leave()

				synctest.Wait() // until the state is read again
				require.NoError(f, f.st.Probe(f.Context()))
				require.Equal(f, []string{"a", "b"}, f.list())
				require.NoError(f, f.consumer.Settle(f.Context(), ids, store.Ack))
				require.NoError(f, f.send("c"))
				keys, _ := f.receive(9)
				require.Equal(f, []string{"b", "c"}, keys)
				_, err = other.Queue(f.Context())
				require.NoError(f, err)
				f.reopen(false)
				require.Equal(f, []string{"a", "b", "c"}, f.list())
			})
		})
	}
}

func TestAFailedSyncIsFinal(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		f.failing(crashfs.Sync, errors.New("bad sector"))
		err := f.send("b")
		require.ErrorIs(f, err, store.ErrFailed)
		require.ErrorIs(f, err, store.ErrUnknown)
		time.Sleep(time.Hour)
		require.ErrorIs(f, f.send("c"), store.ErrFailed)
		require.ErrorIs(f, f.st.Probe(f.Context()), store.ErrFailed)
		_, err = f.st.Stream(f.Context(), "s")
		require.ErrorIs(f, err, store.ErrFailed, "it is not told that there is no such stream")
		_, err = f.st.Streams(f.Context())
		require.ErrorIs(f, err, store.ErrFailed)
		_, err = f.st.Consumer(f.Context(), "c")
		require.ErrorIs(f, err, store.ErrFailed)
		_, err = f.stream.List(f.Context(), store.ListQuery{Limit: 1})
		require.ErrorIs(f, err, store.ErrFailed)
		_, err = f.consumer.Info(f.Context())
		require.ErrorIs(f, err, store.ErrFailed)
		_, err = f.st.CreateStream(f.Context(), store.StreamOptions{Name: "t"})
		require.ErrorIs(f, err, store.ErrFailed)
		f.reopen(true)
		require.Equal(f, []string{"a"}, f.list())
	})
}

// TestAFullDiskRefusesSendsOnly fills the disk up to MinFree. Receives and acks go on, and sends too once there is room.
func TestAFullDiskRefusesSendsOnly(t *testing.T) {
	const capacity = 1 << 20
	inBubble(t, Options{MinFree: 256 << 10}, store.StreamOptions{}, func(f *fixture) {
		f.fs.SetCapacity(capacity)
		var err error
		sent := 0
		for sent < 100_000 && err == nil {
			if err = f.send(fmt.Sprint(sent), strings.Repeat("k", 1000)); err == nil {
				sent++
			}
			time.Sleep(time.Second) // the system is asked once a second
		}
		require.ErrorIs(f, err, store.ErrDiskFull)
		require.Greater(f, sent, 100)
		for range 3 {
			_, ids := f.receive(50)
			require.Len(f, ids, 50)
			require.NoError(f, f.consumer.Settle(f.Context(), ids, store.Ack))
		}
		require.NoError(f, f.st.Probe(f.Context()), "all but sends work")
		s, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "small"})
		require.NoError(f, err)
		c, err := f.stream.CreateConsumer(f.Context(), store.ConsumerOptions{Name: "drain", Filter: ">", ConsumerLimits: store.ConsumerLimits{AckWait: time.Minute, MaxAckPending: 9}})
		require.NoError(f, err)
		got, err := c.Receive(f.Context(), 9, nil)
		require.NoError(f, err)
		require.Len(f, got, 9, "a new consumer may drain what fills the disk")
		_, err = c.Update(f.Context(), store.ConsumerLimits{AckWait: time.Hour})
		require.NoError(f, err)
		require.NoError(f, c.Delete(f.Context()))
		require.NoError(f, s.Delete(f.Context()))
		f.fs.SetCapacity(2 * capacity)
		time.Sleep(2 * time.Second)
		require.NoError(f, f.send("again"))
	})
}

// TestNothingIsShownBeforeItIsCommitted blocks the sync of a send. No read shows the message until then.
func TestNothingIsShownBeforeItIsCommitted(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		synced := make(chan struct{})
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				<-synced
			}
			return nil
		})
		ctx := f.Context()
		looks := map[string]func() error{
			"send":   func() error { return f.send("b") },
			"get":    func() error { _, err := f.stream.Get(ctx, "b"); return err },
			"list":   func() error { _, err := f.stream.List(ctx, store.ListQuery{Limit: 9}); return err },
			"info":   func() error { _, err := f.stream.Info(ctx); return err },
			"states": func() error { _, _, err := f.stream.States(ctx, "b"); return err },
			"peek": func() error {
				_, err := f.consumer.Peek(ctx, store.PeekQuery{ListQuery: store.ListQuery{Limit: 9}})
				return err
			},
			"receive": func() error { _, err := f.consumer.Receive(ctx, 9, nil); return err },
		}
		ended := make(chan string, len(looks))
		start := func(name string) {
			go func() {
				assert.NoError(f, looks[name]())
				ended <- name
			}()
			synctest.Wait()
		}
		start("send")
		for name := range looks {
			if name != "send" {
				start(name)
			}
		}
		require.Empty(f, ended)
		close(synced)
		synctest.Wait()
		require.Len(f, ended, len(looks))
	})
}

// TestAReceiveWaitsUntilItsMessagesAreCommitted has a send and a receive in one write, of which the sync is blocked.
func TestAReceiveWaitsUntilItsMessagesAreCommitted(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		syncs := make(chan struct{})
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				<-syncs
			}
			return nil
		})
		ended := make(chan string, 3)
		start := func(name string, do func() error) {
			go func() {
				assert.NoError(f, do())
				ended <- name
			}()
			synctest.Wait()
		}
		start("first", func() error { return f.send("first") })
		start("second", func() error { return f.send("second") })
		start("receive", func() error { _, err := f.consumer.Receive(f.Context(), 9, nil); return err })
		syncs <- struct{}{} // of the first send; the others are written then
		synctest.Wait()
		require.Len(f, ended, 1)
		require.Equal(f, "first", <-ended)
		close(syncs)
		synctest.Wait()
		require.Len(f, ended, 2)
	})
}

// TestSendsAtTheSameTimeShareASync holds a sync while 64 senders arrive.
func TestSendsAtTheSameTimeShareASync(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		synced := make(chan struct{})
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				<-synced
			}
			return nil
		})
		before := f.st.Info().Syncs
		ended := make(chan error, 64)
		for range cap(ended) {
			go func() { ended <- f.send("b") }()
		}
		synctest.Wait()
		require.Empty(f, ended)
		close(synced)
		for range cap(ended) {
			require.NoError(f, <-ended)
		}
		require.LessOrEqual(f, f.st.Info().Syncs-before, int64(2))
		require.Greater(f, f.st.Info().Syncs, before)
	})
}

// TestTheEndOfACtxEndsTheWaitAndNotTheWrite is what an unknown outcome is.
func TestTheEndOfACtxEndsTheWaitAndNotTheWrite(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		synced := make(chan struct{})
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				<-synced
			}
			return nil
		})
		ctx, cancel := context.WithCancel(f.Context())
		ended := make(chan error, 1)
		messages := []store.Message{{Key: "a", Data: "data of a"}}
		go func() {
			_, err := f.stream.Send(ctx, store.Once{Key: "k"}, messages)
			ended <- err
		}()
		synctest.Wait()
		require.Empty(f, ended)
		cancel()
		err := <-ended
		require.ErrorIs(f, err, store.ErrUnknown)
		require.ErrorIs(f, err, context.Canceled)
		close(synced)
		n, err := f.stream.Send(f.Context(), store.Once{Key: "k"}, messages)
		require.NoError(f, err)
		require.Equal(f, 1, n)
		require.Equal(f, []string{"a"}, f.list())
	})
}

// TestADamagedMessageIsToldAndOthersAreRead changes a byte of a message that is on disk.
func TestADamagedMessageIsToldAndOthersAreRead(t *testing.T) {
	inBubble(t, Options{SegmentBytes: 4 << 10}, store.StreamOptions{}, func(f *fixture) {
		other, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "other"})
		require.NoError(f, err)
		_, err = other.Send(f.Context(), store.Once{}, []store.Message{{Key: "fine", Data: "x"}})
		require.NoError(f, err)
		for i := range 100 {
			require.NoError(f, f.send(fmt.Sprint("key-", i)))
		}
		f.fs.Edit("dir/00000001.seg", func(b []byte) []byte {
			at := strings.Index(string(b), "data of key-7")
			b[at]++
			return b
		})
		keys, _ := f.receive(3)
		require.Len(f, keys, 3)
		for range 2 {
			_, err = f.stream.Get(f.Context(), "key-7")
			var damage *store.DamagedError
			require.ErrorAs(f, err, &damage)
			require.Equal(f, "00000001.seg", damage.File)
			require.Positive(f, damage.Offset)
			_, err = f.stream.List(f.Context(), store.ListQuery{Limit: 50})
			require.ErrorIs(f, err, store.ErrDamaged)
		}
		m, err := f.stream.Get(f.Context(), "key-99")
		require.NoError(f, err)
		require.Equal(f, "data of key-99", m.Data)
		m, err = other.Get(f.Context(), "fine")
		require.NoError(f, err)
		require.Equal(f, "x", m.Data)
	})
}
