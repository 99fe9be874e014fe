package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

var _ store.Measured = (*consumer)(nil)

// countAtMost is how many messages of a stream with one message per key are counted, which takes some milliseconds. Of more it is
// estimated how many there are.
const countAtMost = 10_000

// Measure implements store.Measured. It takes a transaction that only looks.
func (h *consumer) Measure(ctx context.Context) (m store.Measure, err error) {
	e := h.engine()
	var found store.Measure
	err = e.ask(ctx, &request{look: true, always: true, do: func(t *transaction) (err error) {
		found, err = t.measure()
		return err
	}})
	if err != nil {
		return m, err
	}
	found.Waiting = e.places.len()
	return found, nil
}

func (t *transaction) measure() (store.Measure, error) {
	s := t.e.state
	read, err := t.measureRead()
	if err != nil {
		return store.Measure{}, err
	}
	m := store.Measure{Backlog: read.Unsettled, Estimated: read.Partial, Outstanding: read.Outstanding, Delayed: read.Delayed}
	from := max(s.Next(), t.top.trim, t.e.passed)
	unread, exact, err := t.unread(from)
	if err != nil {
		return m, err
	}
	m.Estimated = m.Estimated || !exact
	if unread > 0 && !t.e.filter.MatchesAll() {
		if !t.e.share.Known() {
			if err := t.sample(from); err != nil {
				return m, err
			}
		}
		unread, m.Estimated = t.e.share.Of(unread), true
	}
	m.Backlog += unread
	first := read.Oldest
	if first == 0 {
		first = from
	}
	if m.Backlog > 0 {
		m.OldestAt, err = t.storedAt(first)
	}
	return m, err
}

// checkAtMost is how many messages of a stream with one per key are looked for, to know which of them were replaced. It takes some
// milliseconds.
const checkAtMost = 1_000

// measureRead measures what was read. The state does not know which messages with one per key were replaced since.
func (t *transaction) measureRead() (backlog.Measure, error) {
	s := t.e.state
	m := s.Measure()
	if !s.keyed {
		return m, nil
	}
	if m.Unsettled > checkAtMost {
		m.Partial = true
		return m, nil
	}
	all := make([]int64, 0, m.Unsettled)
	for _, v := range s.Views() {
		all = append(all, v.Seq)
	}
	gone, err := t.missing(all)
	if err != nil {
		return m, err
	}
	s.dead = make(map[int64]bool, len(gone))
	for _, seq := range gone {
		s.dead[seq] = true
	}
	living := s.Views()
	s.dead = nil
	m.Unsettled, m.Oldest = len(living), 0
	if len(living) > 0 {
		m.Oldest = living[0].Seq
	}
	return m, nil
}

// unread returns how many messages the stream has from a seq on, and whether that is exact.
func (t *transaction) unread(from int64) (n int, exact bool, err error) {
	st, row := t.e.st, t.e.row.stream
	if from >= t.top.next {
		return 0, true, nil
	}
	if !row.OneMessagePerKey {
		messages, _, err := st.living(t.s, row.id, from, t.top)
		return int(messages), true, err
	}
	if err := t.s.conn.QueryRow(t.s.ctx, st.q(countLatestSQL), row.id, from, countAtMost).Scan(&n); err != nil || n < countAtMost {
		return n, true, err
	}
	return int(min(t.top.messages, t.top.next-from)), false, nil
}

// sampleAtMost is how many messages with one per key are looked at where a replica has read nothing for a consumer. In a stream that
// appends it is a chunk.
const sampleAtMost = 1_000

// sample looks at the first messages that are unread, to know how many match the filter. Other replicas may have read all before.
func (t *transaction) sample(from int64) error {
	st, row := t.e.st, t.e.row.stream
	if row.OneMessagePerKey {
		rows, err := t.s.conn.Query(t.s.ctx, st.q(latestKeysSQL), row.id, from, sampleAtMost)
		if err != nil {
			return err
		}
		var seq, size int64
		var key string
		_, err = pgx.ForEachRow(rows, []any{&seq, &key, &size}, func() error { t.sampled(key); return nil })
		return err
	}
	rows, err := st.queryKeys(t.s, row.id, from, 1)
	if err != nil || len(rows) == 0 {
		return err
	}
	all, err := rows[0].appendTo(nil, row.id, from)
	for i := range all {
		t.sampled(all[i].Key)
	}
	return err
}

func (t *transaction) sampled(key string) {
	matched := 0
	if t.e.filter.Match(key) {
		matched = 1
	}
	t.e.share.Add(1, matched)
}

// storedAt returns when the first message was stored that has the seq or a higher one. In a stream that appends it is when the chunk
// was that has the seq.
func (t *transaction) storedAt(seq int64) (at int64, err error) {
	text := chunkTimeSQL
	if t.e.row.stream.OneMessagePerKey {
		text = latestTimeSQL
	}
	err = t.s.conn.QueryRow(t.s.ctx, t.e.st.q(text), t.e.row.stream.id, seq).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // it was dropped a moment ago
	}
	return at, err
}
