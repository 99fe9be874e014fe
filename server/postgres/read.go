package postgres

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

const (
	// readChunks is how many chunks one statement reads: about 8 MB of a full stream.
	readChunks = 8
	// readRows is how many messages with one per key one statement reads.
	readRows = 1000
	// rowsOfChunk is how many messages a chunk counts for in the limit of a statement.
	rowsOfChunk = 100
)

// readRun reads messages from seq on, of which it returns those that one statement reads. From next on the stream may have more; it is 0 at
// the end of the stream.
func (st *Store) readRun(s *session, row streamRow, seq int64, limit int) (messages []store.Message, next int64, err error) {
	return st.readRunWith(s, row, "", seq, limit)
}

// readRunWith is readRun, and may leave out messages whose key does not contain a text.
func (st *Store) readRunWith(s *session, row streamRow, text string, seq int64, limit int) (messages []store.Message, next int64, err error) {
	if row.OneMessagePerKey {
		limit = min(max(limit, 1), readRows)
		messages, err = st.queryLatest(s, latestFromSQL, row.id, seq, limit, text)
		if len(messages) == limit {
			next = messages[limit-1].Seq + 1
		}
		return messages, next, err
	}
	if c := st.chunks.find(row.id, seq); c != nil {
		return c.from(seq), c.next(), nil
	}
	n := min(max(limit/rowsOfChunk, 1), readChunks)
	chunks, err := st.queryChunks(s, chunksFromSQL, row.id, seq, n, []byte(text))
	for _, c := range chunks {
		messages = append(messages, c.from(seq)...)
	}
	if len(chunks) == n && chunks[n-1].next() > seq {
		next = chunks[n-1].next()
	}
	return messages, next, err
}

// queryChunks reads chunks and keeps them in the cache.
func (st *Store) queryChunks(s *session, text string, stream int64, args ...any) (chunks []*chunk, err error) {
	moment := st.chunks.moment(s, stream)
	rows, err := s.conn.Query(s.ctx, st.q(text), append([]any{stream}, args...)...)
	if err != nil {
		return nil, err
	}
	return st.collectChunks(moment, stream, rows)
}

// collectChunks reads the rows of queryChunks.
func (st *Store) collectChunks(read moment, stream int64, rows pgx.Rows) (chunks []*chunk, err error) {
	var first, at int64
	var n int
	var keys, data []byte
	_, err = pgx.ForEachRow(rows, []any{&first, &n, &at, &keys, &data}, func() error {
		c, err := decodeChunk(stream, first, n, at, keys, data)
		if err == nil {
			chunks = append(chunks, c)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	st.chunks.add(read, st.epoch.Load, chunks...)
	return chunks, nil
}

func (st *Store) queryLatest(s *session, text string, stream int64, args ...any) (messages []store.Message, err error) {
	rows, err := s.conn.Query(s.ctx, st.q(text), append([]any{stream}, args...)...)
	if err != nil {
		return nil, err
	}
	var m store.Message
	var packed, data []byte
	_, err = pgx.ForEachRow(rows, []any{&m.Seq, &m.InsertedAt, &m.UpdatedAt, &m.Key, &packed, &data}, func() error {
		m.Headers, m.Data = headers.Packed(packed), string(data)
		messages = append(messages, m)
		return nil
	})
	return messages, err
}

// fetch reads the messages with these seqs. Those that are gone are missing.
func (st *Store) fetch(s *session, row streamRow, seqs []int64) (map[int64]store.Message, error) {
	found := make(map[int64]store.Message, len(seqs))
	if len(seqs) == 0 {
		return found, nil
	}
	if row.OneMessagePerKey {
		messages, err := st.queryLatest(s, latestOfSQL, row.id, seqs)
		for _, m := range messages {
			found[m.Seq] = m
		}
		return found, err
	}
	chunks, err := st.queryChunks(s, chunksOfSQL, row.id, seqs)
	if err != nil {
		return nil, err
	}
	for _, seq := range seqs {
		for _, c := range chunks {
			if m := c.message(seq); m != nil {
				found[seq] = *m
			}
		}
	}
	return found, nil
}

// readBefore reads messages below seq, newest first. Below next the stream may have more; it is 0 when it has not. It may leave out
// messages whose key does not contain a text.
func (st *Store) readBefore(s *session, row streamRow, text string, seq int64, limit int) (messages []store.Message, next int64, err error) {
	if row.OneMessagePerKey {
		limit = min(max(limit, 1), readRows)
		messages, err = st.queryLatest(s, latestBeforeSQL, row.id, seq, limit, text)
		if len(messages) == limit {
			next = messages[limit-1].Seq
		}
		return messages, next, err
	}
	n := min(max(limit/rowsOfChunk, 1), readChunks)
	chunks, err := st.queryChunks(s, chunksBeforeSQL, row.id, seq, n, []byte(text))
	for _, c := range chunks {
		for i := len(c.messages) - 1; i >= 0; i-- {
			if c.messages[i].Seq < seq {
				messages = append(messages, c.messages[i])
			}
		}
	}
	if len(chunks) == n {
		next = chunks[n-1].first
	}
	return messages, next, err
}

// page gathers what a list answers.
type page struct {
	q        store.ListQuery
	filter   store.Filter
	trim     int64
	messages []store.Message
	bytes    int64
}

// add adds a message if the query asks for it. It reports whether the page takes more.
func (p *page) add(m store.Message) bool {
	if m.Seq < p.trim || p.q.Pattern != "" && !p.filter.Match(m.Key) {
		return true
	}
	if m.Seq <= p.q.After || p.q.Before > 0 && m.Seq >= p.q.Before {
		return p.q.Desc == (m.Seq > p.q.After)
	}
	p.messages = append(p.messages, m)
	p.bytes += m.Size()
	return len(p.messages) < p.q.Limit && p.bytes < store.MaxAnswerBytes
}

func (h *stream) List(ctx context.Context, q store.ListQuery) (messages []store.Message, err error) {
	if q.Limit <= 0 {
		return nil, nil
	}
	err = h.st.query(ctx, func(s *session) error {
		top, err := h.st.readTop(s, h.row)
		if err != nil {
			return err
		}
		p := &page{q: q, filter: store.NewFilter(q.Pattern), trim: top.trim}
		if err := h.list(s, p); err != nil {
			return err
		}
		messages = p.messages
		return nil
	})
	return messages, err
}

func (h *stream) list(s *session, p *page) error {
	seq, read := max(p.q.After+1, p.trim), h.st.readRunWith
	if p.q.Desc {
		seq, read = int64(math.MaxInt64), h.st.readBefore
		if p.q.Before > 0 {
			seq = p.q.Before
		}
	}
	for seq > 0 {
		messages, next, err := read(s, h.row, p.filter.Literal(), seq, p.q.Limit-len(p.messages))
		if err != nil {
			return err
		}
		for _, m := range messages {
			if p.q.Desc && m.Seq < p.trim || !p.add(m) {
				return nil
			}
		}
		seq = next
	}
	return nil
}

func (h *stream) Get(ctx context.Context, key string) (m store.Message, err error) {
	err = h.st.query(ctx, func(s *session) error {
		m, err = h.st.get(s, h.row, key)
		return err
	})
	return m, err
}

// get returns the newest message of a key. In a stream that appends it reads from the end.
func (st *Store) get(s *session, row streamRow, key string) (m store.Message, err error) {
	if row.OneMessagePerKey {
		found, err := st.queryLatest(s, latestByKeySQL, row.id, key)
		if err != nil || len(found) == 0 {
			return m, orNoMessage(err)
		}
		return found[0], nil
	}
	top, err := st.readTop(s, row)
	if err != nil {
		return m, err
	}
	for seq := int64(math.MaxInt64); seq > top.trim; {
		messages, next, err := st.readBefore(s, row, key, seq, math.MaxInt)
		if err != nil {
			return m, err
		}
		i := slices.IndexFunc(messages, func(m store.Message) bool { return m.Key == key })
		if i >= 0 && messages[i].Seq >= top.trim {
			return messages[i], nil
		}
		seq = next
	}
	return m, store.ErrNoMessage
}

func orNoMessage(err error) error {
	if err == nil {
		return store.ErrNoMessage
	}
	return err
}
