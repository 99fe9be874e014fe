package durable

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/crashfs"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// watchedWriter calls at before the n-th write, which a snapshot makes without a lock.
type watchedWriter struct {
	io.Writer
	n  int
	at func()
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	if w.n--; w.n == 0 {
		w.at()
	}
	return w.Writer.Write(b)
}

// snapshotDuring writes a snapshot and calls f before its n-th write. It reports whether there was one.
func snapshotDuring(t *testing.T, st *Store, n int, f func()) bool {
	t.Helper()
	watched := watchedWriter{n: n, at: f}
	err := st.log.WriteSnapshot(t.Context(), st.log.End(), func(w io.Writer) error {
		watched.Writer = w
		return st.writeSnapshot(t.Context(), &watched)
	})
	require.NoError(t, err)
	return watched.n <= 0
}

// changesDuringASnapshot are changes of the stream x and its consumer y, and what holds after them.
var changesDuringASnapshot = map[string]struct {
	change func(f *fixture, s store.Stream, c store.Consumer) error
	holds  func(f *fixture)
}{
	"delete a consumer": {
		func(f *fixture, _ store.Stream, c store.Consumer) error { return c.Delete(f.Context()) },
		func(f *fixture) {
			_, err := f.st.Consumer(f.Context(), "y")
			require.ErrorIs(f, err, store.ErrNoConsumer)
		},
	},
	"delete a stream": {
		func(f *fixture, s store.Stream, _ store.Consumer) error { return s.Delete(f.Context()) },
		func(f *fixture) {
			_, err := f.st.Stream(f.Context(), "x")
			require.ErrorIs(f, err, store.ErrNoStream)
		},
	},
	"take a consumer's place": {
		func(f *fixture, s store.Stream, c store.Consumer) error {
			if err := c.Delete(f.Context()); err != nil {
				return err
			}
			_, err := s.CreateConsumer(f.Context(), store.ConsumerOptions{Name: "y", Filter: "new"})
			return err
		},
		func(f *fixture) {
			c, err := f.st.Consumer(f.Context(), "y")
			require.NoError(f, err)
			info, err := c.Info(f.Context())
			require.NoError(f, err)
			require.Equal(f, "new", info.Filter)
			s, err := f.st.Stream(f.Context(), "x")
			require.NoError(f, err)
			all, err := s.Consumers(f.Context())
			require.NoError(f, err)
			require.Len(f, all, 1)
		},
	},
	"take a stream's place": {
		func(f *fixture, s store.Stream, _ store.Consumer) error {
			if err := s.Delete(f.Context()); err != nil {
				return err
			}
			_, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "x", RetainUpTo: 7})
			return err
		},
		func(f *fixture) {
			s, err := f.st.Stream(f.Context(), "x")
			require.NoError(f, err)
			info, err := s.Info(f.Context())
			require.NoError(f, err)
			require.Equal(f, 7, info.RetainUpTo)
			require.Zero(f, info.Messages+info.Consumers)
			all, err := f.st.Streams(f.Context())
			require.NoError(f, err)
			require.Len(f, all, 2)
		},
	},
}

// TestAChangeDuringASnapshotSurvivesALossOfPower makes a change before each write of a snapshot.
func TestAChangeDuringASnapshotSurvivesALossOfPower(t *testing.T) {
	for name, tt := range changesDuringASnapshot {
		for _, keyed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", one message per key ", keyed), func(t *testing.T) {
				for n, again := 1, true; again; n++ {
					inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
						s, err := f.st.CreateStream(f.Context(), store.StreamOptions{Name: "x", OneMessagePerKey: keyed})
						require.NoError(f, err)
						c, err := s.CreateConsumer(f.Context(), store.ConsumerOptions{Name: "y", Filter: ">"})
						require.NoError(f, err)
						_, err = s.Send(f.Context(), store.Once{Key: "k"}, []store.Message{{Key: "a", Data: "data"}})
						require.NoError(f, err)
						again = snapshotDuring(f.T, f.st, n, func() { require.NoError(f, tt.change(f, s, c)) })
						if again {
							f.reopen(true)
							tt.holds(f)
						}
					})
				}
			})
		}
	}
}

// TestASnapshotOfVersion1HasNoHoles reads the index of a stream as it was written before messages could be missing.
func TestASnapshotOfVersion1HasNoHoles(t *testing.T) {
	written := appendedLog{bytes: 30, entries: []indexEntry{{1, 100}}, spans: []span{{9, 40, 1}}}
	body := written.appendTo(nil)
	for name, b := range map[string][]byte{"version 1": body[:len(body)-2], "version 2": body[:len(body)-1], "version 3": body} {
		var read appendedLog
		in := binary.NewReader(b)
		read.readFrom(in)
		require.NoError(t, in.Err(), name)
		require.Equal(t, written, read, name)
	}
}

// TestARecordOfANewerProgramIsRefused has a record of a kind that this program does not know: it cannot leave it out.
func TestARecordOfANewerProgramIsRefused(t *testing.T) {
	inBubble(t, Options{}, store.StreamOptions{}, func(f *fixture) {
		f.st.append(kindsEnd, f.stream.(*streamHandle).stream().sid, nil)
		kill(f, f.st)
		_, err := Open("dir", f.o)
		require.ErrorIs(f, err, store.ErrVersion)
		require.ErrorContains(f, err, fmt.Sprintf("does not know kind %d, of the record in segment 1 at offset ", kindsEnd))
	})
}

// TestADeleteIsOneStepForASnapshot lets a snapshot wait for the lock of a stream, and a delete of it behind the snapshot. If
// the record of the delete were in the log before the stream has ended, the snapshot would hold the stream, and say that
// it has the record.
func TestADeleteIsOneStepForASnapshot(t *testing.T) {
	for range 20 {
		fs := crashfs.New()
		o := Options{FS: fs, MinFree: -1, SegmentBytes: 64 << 10}
		st := open(t, "dir", o)
		_, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "before"})
		require.NoError(t, err)
		h, err := st.CreateStream(t.Context(), store.StreamOptions{Name: "doomed"})
		require.NoError(t, err)
		s := h.(*streamHandle).stream()
		let := func(until func() bool) { // others run
			for i := 0; i < 1_000 && !until(); i++ {
				runtime.Gosched()
			}
		}
		held, release := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			const lastOfTheFirstStream = 6 // two writes for each of the parts store, stream and successes
			snapshotDuring(t, st, lastOfTheFirstStream, func() {
				all.Go(func() { _ = s.locked(func() error { close(held); <-release; return nil }) })
				<-held
			})
		})
		<-held
		let(func() bool { return false }) // the snapshot waits for the lock
		all.Go(func() { _ = h.Delete(context.Background()) })
		let(func() bool { return s.registry.number(s.sid) == nil })
		close(release)
		all.Wait()
		o.FS = fs.Crash(0, rand.New(rand.NewPCG(1, 1)))
		require.NoError(t, st.Close())
		st = open(t, "dir", o)
		_, err = st.Stream(t.Context(), "doomed")
		require.ErrorIs(t, err, store.ErrNoStream)
		require.NoError(t, st.Close())
	}
}

// TestACloseNeedsNoRoomOnTheDisk closes a store on a disk that has no room for a snapshot. What was answered is in the log.
func TestACloseNeedsNoRoomOnTheDisk(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a", "b"))
		f.fs.SetHook(func(op crashfs.Op) error {
			if strings.Contains(op.Name, "snap-") {
				return syscall.ENOSPC
			}
			return nil
		})
		require.NoError(f, f.st.Close())
		require.Contains(f, log.String(), "cannot write a snapshot")
		f.fs.SetHook(nil)
		f.reopen(false)
		require.Equal(f, []string{"a", "b"}, f.list())
	})
}

// TestACloseTellsThatTheLastWritesFailed closes a store whose log cannot be synced.
func TestACloseTellsThatTheLastWritesFailed(t *testing.T) {
	inBubble(t, Options{Sync: SyncEvery(time.Hour)}, store.StreamOptions{}, func(f *fixture) {
		require.NoError(f, f.send("a"))
		f.fs.SetHook(func(op crashfs.Op) error {
			if op.Kind == crashfs.Sync {
				return syscall.EIO
			}
			return nil
		})
		require.ErrorIs(f, f.st.Close(), store.ErrFailed)
		f.fs.SetHook(nil)
	})
}
