package backlog

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	wire "github.com/sequin-go/sequin/server/internal/binary"
)

// fakeStream is a stream of messages of one of a few keys.
type fakeStream struct {
	keys  []Hash // of seq 1 and on
	first int64
	dead  map[int64]bool
}

func (s *fakeStream) Alive(seq int64) bool { return seq >= s.first && !s.dead[seq] }

func (s *fakeStream) key(seq int64) Hash { return s.keys[seq-1] }

func (s *fakeStream) last() int64 { return int64(len(s.keys)) }

func keyOf(n int) (h Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(n+1))
	return h
}

// world is a stream and a backlog that is live, and one that applies the same records.
type world struct {
	t            *testing.T
	random       *rand.Rand
	stream       *fakeStream
	live, replay *Backlog
	now          int64
	opening      uint64
	maxMet       int
	replacing    bool

	leases  []Delivery     // of all receives
	settled map[int64]bool // acked
}

func newWorld(t *testing.T, seed uint64, maxMet int, replacing bool) *world {
	s := &fakeStream{dead: map[int64]bool{}}
	l := Limits{AckWait: 30, MaxAckPending: 6}
	return &world{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), stream: s, live: New(s, l), replay: New(s, l), opening: 1,
		maxMet: maxMet, replacing: replacing, settled: map[int64]bool{},
	}
}

// both applies a change to both backlogs.
func (w *world) both(change func(*Backlog)) { change(w.live); change(w.replay) }

func (w *world) send() {
	key := keyOf(w.random.IntN(5))
	if w.replacing {
		for seq := w.stream.last(); seq > 0; seq-- {
			if w.stream.key(seq) == key && w.stream.Alive(seq) {
				w.stream.dead[seq] = true
				w.both(func(b *Backlog) { b.Replaced(seq) })
			}
		}
	}
	w.stream.keys = append(w.stream.keys, key)
}

func (w *world) trim() {
	w.stream.first = min(w.stream.last()+1, w.stream.first+int64(w.random.IntN(4)))
	w.both(func(b *Backlog) { b.Trimmed(w.stream.first) })
}

func (w *world) receive(n int) []Leased {
	w.both(func(b *Backlog) { b.Expire(w.now) })
	w.seek()
	p := w.live.Plan(n, w.now, w.opening, w.maxMet)
	top := w.live.TopReady(n, nil)
	require.Len(w.t, top, min(n, w.live.Ready()))
	require.IsIncreasing(w.t, append([]int64{0}, append(top, w.live.Next()+1)...))
	for range top {
		if !p.Full() {
			p.TakeReady()
		}
	}
	for seq := w.live.Next(); seq <= w.stream.last() && !p.Full(); seq++ {
		if w.stream.Alive(seq) {
			p.Read(Message{seq, w.stream.key(seq)})
		}
	}
	got := w.apply(p.Receive())
	for i, l := range got[:p.Receive().Ready] {
		require.Equal(w.t, top[i], l.Seq)
	}
	for _, l := range got {
		require.False(w.t, w.settled[l.Seq], "%d is acked", l.Seq)
		w.leases = append(w.leases, Delivery{l.Seq, p.Receive().Lease})
	}
	return got
}

// seek reads the stream for the keys that seek.
func (w *world) seek() {
	var found []Sought
	w.live.Seeking(func(key Hash, more int64) {
		s := Sought{Key: key}
		for seq := more; seq < w.live.Next(); seq++ {
			if w.stream.Alive(seq) && w.stream.key(seq) == key {
				s.Seqs = append(s.Seqs, seq)
			}
		}
		found = append(found, s)
	})
	if len(found) > 0 {
		w.apply(w.live.PlanSeek(w.now, w.maxMet, found))
		require.Zero(w.t, w.live.Seeks())
	}
}

// apply applies a receive to the live backlog, and what its record says to the other.
func (w *world) apply(r *Receive) []Leased {
	in := wire.NewReader(r.AppendTo(nil))
	again := ReadReceive(in)
	require.NoError(w.t, in.Err())
	require.Empty(w.t, in.Rest())
	got := w.live.Receive(r, nil)
	require.Equal(w.t, got, w.replay.Receive(&again, nil))
	return got
}

func (w *world) settle(how How, picks ...Delivery) {
	var matter []Delivery
	seen := map[int64]bool{}
	for _, d := range picks {
		if !seen[d.Seq] && w.live.Matters(d, how, w.now, w.opening) {
			seen[d.Seq] = true
			matter = append(matter, d)
			w.settled[d.Seq] = w.settled[d.Seq] || how == Ack
		}
	}
	w.both(func(b *Backlog) { b.Settle(matter, how, w.now, 0) })
}

func (w *world) reopen() {
	w.opening++
	w.both(func(b *Backlog) { b.Opened(w.stream.last(), w.now) })
}

func (w *world) step() {
	switch w.random.IntN(12) {
	case 0, 1, 2, 3:
		w.send()
	case 4, 5, 6:
		w.receive(1 + w.random.IntN(4))
	case 7, 8:
		for range w.random.IntN(4) {
			if n := len(w.leases); n > 0 {
				w.settle(How(w.random.IntN(3)), w.leases[max(0, n-8)+w.random.IntN(min(n, 8))])
			}
		}
	case 9:
		w.now += int64(w.random.IntN(20))
	case 10:
		w.trim()
	case 11:
		if w.random.IntN(4) == 0 {
			w.reopen()
		}
	}
}

// check compares both backlogs, and a copy that was written and read.
func (w *world) check() {
	w.both(func(b *Backlog) { b.Expire(w.now) })
	live := w.live.AppendTo(nil)
	require.Equal(w.t, live, w.replay.AppendTo(nil))
	in := wire.NewReader(live)
	again := Read(w.stream, in)
	require.NoError(w.t, in.Err())
	require.Empty(w.t, in.Rest())
	require.Equal(w.t, live, again.AppendTo(nil))
	w.replay = again
	require.LessOrEqual(w.t, w.live.Met(), w.maxMet+len(w.live.heads))
}

// TestAReplayMakesTheSameBacklog applies random operations, and their records to a second backlog.
func TestAReplayMakesTheSameBacklog(t *testing.T) {
	for _, replacing := range []bool{false, true} {
		for seed := range uint64(150) {
			t.Run(fmt.Sprint(replacing, seed), func(t *testing.T) {
				w := newWorld(t, seed, 1+int(seed%5), replacing)
				for range 200 {
					w.step()
					w.check()
				}
				w.drain()
			})
		}
	}
}

// drain acks until nothing is left. Every living message that was not acked must come, those of a key in order.
func (w *world) drain() {
	w.now += 1000
	last := map[Hash]int64{}
	for range 2 * len(w.stream.keys) {
		for _, l := range w.receive(100) {
			require.Less(w.t, last[w.stream.key(l.Seq)], l.Seq)
			last[w.stream.key(l.Seq)] = l.Seq
			w.settle(Ack, w.leases[len(w.leases)-1], Delivery{l.Seq, w.live.lease})
		}
	}
	for seq := int64(1); seq <= w.stream.last(); seq++ {
		require.True(w.t, w.settled[seq] || !w.stream.Alive(seq), "%d is lost", seq)
	}
	require.Zero(w.t, w.live.Unsettled())
	require.Zero(w.t, w.live.Met())
}
