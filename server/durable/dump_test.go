package durable

import (
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
)

// dump is the state of a stream and its consumers, part by part.
type dump map[string]any

func dumpOf(g *registry) dump {
	d := dump{"next": g.next()}
	for _, s := range g.all() {
		_ = s.locked(func() error { s.dumpTo(d); return nil })
	}
	return d
}

func (s *stream) dumpTo(d dump) {
	name := fmt.Sprintf("stream %d ", s.sid)
	d[name] = fmt.Sprint(s.id, s.at, s.options, s.nextCID, s.messages(), s.bytes())
	d[name+"seqs"] = fmt.Sprint(s.first, s.last, s.lastAt)
	d[name+"sent"] = append([]success{}, s.sent.list...)
	if s.keyed != nil {
		entries := []keyindex.Entry{}
		s.keyed.index.Ascend(0, func(e *keyindex.Entry) bool { entries = append(entries, *e); return true })
		d[name+"keys"], d[name+"live"] = entries, fmt.Sprint(s.keyed.live)
	} else {
		d[name+"log"] = s.appended.appendTo(nil)
	}
	for _, c := range s.consumers {
		r := consumerRecord{c.cid, c.info.ID, c.info.InsertedAt.UnixNano(), c.info.ConsumerOptions}
		d[fmt.Sprint(name, "consumer ", c.cid)] = binary.AppendInt(r.appendTo(nil), c.info.UpdatedAt.UnixNano())
		d[fmt.Sprint(name, "backlog ", c.cid)] = c.backlog.AppendTo(nil)
	}
}

// replayed returns what a replay of the log makes.
func replayed(t *testing.T, st *Store) dump {
	t.Helper()
	require.NoError(t, st.log.Sync(t.Context()))
	again := &Store{options: st.options, log: st.log, clock: st.clock, opening: st.opening, snapshotEnd: math.MaxUint64}
	g := newRegistry()
	from, err := st.log.ReadSnapshot(func(r io.Reader) error { return again.readSnapshot(r, g) })
	require.NoError(t, err)
	if again.rebuilds(g) {
		from = st.log.Segments()[0].First
	}
	require.NoError(t, st.log.Replay(from, func(rec seglog.Record) error { return g.apply(again, rec) }))
	for _, s := range g.all() {
		if s.keyed != nil {
			s.keyed.finish(s.first)
		}
	}
	require.Equal(t, st.keys.Load(), again.keys.Load())
	return dumpOf(g)
}

// requireReplay checks that a replay of the log makes the state that the store has.
func requireReplay(t *testing.T, st *Store, why any) {
	t.Helper()
	live := dumpOf(st.streams.Load())
	again := replayed(t, st)
	require.Len(t, again, len(live), why)
	for part, want := range live {
		if !assert.ObjectsAreEqual(want, again[part]) {
			require.Equal(t, want, again[part], "%s, %v", part, why)
		}
	}
}
