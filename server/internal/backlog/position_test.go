package backlog

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// position ends all leases and returns the position of a backlog, with the keys of its heads.
func (w *world) position() (Position, []Hash) {
	w.both(func(b *Backlog) { b.Expire(w.now) })
	out := w.live.OnLeaseNow()
	w.both(func(b *Backlog) { b.Settle(out, Nack, w.now, 0) })
	for w.live.Seeks() > 0 {
		w.seek()
	}
	p := w.live.Position()
	keys := make([]Hash, len(p.Heads))
	for i, h := range p.Heads {
		keys[i] = w.stream.key(h.Seq)
	}
	return p, keys
}

// TestABacklogAtAPositionGoesOnAsTheOther takes random backlogs to another store. There they deliver the same.
func TestABacklogAtAPositionGoesOnAsTheOther(t *testing.T) {
	ahead, more, delayed := 0, 0, 0
	for _, replacing := range []bool{false, true} {
		for seed := range uint64(60) {
			t.Run(fmt.Sprint(replacing, seed), func(t *testing.T) {
				w := newWorld(t, seed, 3, replacing)
				for range 120 {
					w.step()
				}
				if all := w.live.OnLeaseNow(); len(all) > 0 && seed%2 == 0 {
					w.both(func(b *Backlog) { b.Settle(all[:1], Nack, w.now, 5) })
				}
				if seed%3 == 0 && w.live.Next() < w.stream.last() { // the ack of a delivery whose record was lost
					w.both(func(b *Backlog) { b.Settle([]Delivery{{Seq: w.stream.last()}}, Ack, w.now, 0) })
				}
				p, keys := w.position()
				w.replay = AtPosition(w.stream, w.live.Limits(), p, keys)
				require.Equal(t, p, w.replay.Position())
				ahead += len(p.Ahead)
				for _, h := range p.Heads {
					more += min(1, int(h.More))
					delayed += min(1, int(h.Until))
				}
				for range 60 {
					w.step()
				}
				w.both(func(b *Backlog) { b.Expire(w.now + 1_000) })
				now, _ := w.position()
				require.Equal(t, now, w.replay.Position())
			})
		}
	}
	require.Positive(t, ahead)
	require.Positive(t, more)
	require.Positive(t, delayed)
}
