package postgres

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// publishing is one transaction.
type publishing struct {
	p       *publisher
	group   []*sending
	mark    uuid.UUID // a row in sends that tells that the transaction took place
	decided func()
	unknown bool // an attempt may have taken place
	stored  bool

	s    *session
	now  int64
	gone bool // there is no stream
	top  streamTop
	sent map[uuid.UUID]sentRow
}

type sentRow struct {
	body      uuid.UUID
	published int
}

func (t *publishing) attempt() error {
	s, err := t.p.st.acquire(t.p.st.ctx)
	if err != nil {
		return err
	}
	defer s.release()
	t.s = s
	if err := t.lock(); err != nil {
		return err
	}
	if t.gone {
		return store.ErrNoStream
	}
	if _, t.stored = t.sent[t.mark]; t.stored { // by an attempt before
		return s.flush()
	}
	if x := t.group[0]; x.restore != nil { // it is alone
		return t.restore(x.restore)
	}
	if err := t.top.mark().Err(); err != nil && !(t.group[0].forCopy && t.top.mark().State == store.CopySource) {
		return err
	}
	if x := t.group[0]; x.staged { // it is alone
		if err := t.takeStaged(x); err != nil {
			return err
		}
		if len(x.messages) == 0 {
			return s.flush() // another replica may have sent them a moment ago
		}
	}
	var todo []*sending
	for _, x := range t.group {
		if x.err = t.find(x); x.err == nil && !x.repeated {
			todo = append(todo, x)
		}
	}
	if x := t.group[0]; x.purge != nil && !x.repeated { // it is alone
		return t.purge(x)
	}
	return t.write(todo)
}

// lock locks the head of the stream, and reads what decides about the sends.
func (t *publishing) lock() error {
	st, id := t.p.st, t.p.stream.id
	tokens := []uuid.UUID{t.mark}
	for _, x := range t.group {
		if x.token != uuid.Nil {
			tokens = append(tokens, x.token)
		}
		tokens = append(tokens, x.parents...)
	}
	b := begin()
	var trim, purges int64
	var copying int16
	b.Queue(st.q(lockStreamSQL), id).Query(func(rows pgx.Rows) error {
		t.gone = !rows.Next()
		if t.gone {
			return rows.Err()
		}
		return rows.Scan(&trim, &purges, &copying)
	})
	st.queueNow(b, &t.now)
	t.top = streamTop{}
	t.top.queue(st, t.p.stream, b)
	t.sent = map[uuid.UUID]sentRow{}
	var token uuid.UUID
	var row sentRow
	// The clock that counts is read in the same batch. A database whose clock is in use forgets a moment late.
	b.Queue(st.q(findSendsSQL), id, tokens, st.forgotten()).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&token, &row.body, &row.published}, func() error {
			t.sent[token] = row
			return nil
		})
		return err
	})
	if err := t.s.send(b); err != nil {
		return err
	}
	t.top.trim, t.top.purges, t.top.copying = max(t.top.trim, trim), purges, copying
	st.chunks.purged(id, purges)
	return nil
}

// forgotten is the time before which sends are forgotten. A replica's clock may differ from the database's by minutes: the
// clock of the host is good enough for when to forget.
func (st *Store) forgotten() int64 {
	now := time.Now().UnixMicro()
	if st.options.now != nil {
		now = st.options.now()
	}
	return now - rememberFor.Microseconds()
}

// find looks for an earlier send that is the result of this one.
func (t *publishing) find(x *sending) error {
	x.repeated, x.published = false, 0
	if row, ok := t.sent[x.token]; ok && x.token != uuid.Nil {
		if row.body != x.body {
			return store.ErrOtherBody
		}
		x.repeated, x.published = true, row.published
		return nil
	}
	for _, parent := range x.parents {
		if row, ok := t.sent[parent]; ok {
			// A part never counts more than the whole.
			x.repeated, x.published = true, min(len(x.messages), row.published)
			return nil
		}
	}
	return nil
}

// write stores the sends, and what is remembered of all.
func (t *publishing) write(todo []*sending) error {
	b := &pgx.Batch{}
	var chunks []*chunk
	var err error
	if t.p.stream.OneMessagePerKey {
		err = t.upsert(b, todo)
	} else {
		chunks, err = t.append(b, todo)
	}
	if err != nil {
		return err
	}
	if err := t.store(b, len(todo) > 0); err != nil {
		return err
	}
	if len(chunks) > 0 {
		t.p.st.chunks.add(moment{t.s.epoch, t.top.purges}, t.p.st.epoch.Load, chunks...)
	}
	return nil
}

// store ends the transaction with some statements. changes says that they change what the stream has.
func (t *publishing) store(b *pgx.Batch, changes bool) error {
	t.remember(b)
	commit(b)
	t.unknown = true
	t.decided()
	if err := t.s.send(b); err != nil {
		return err
	}
	if err := t.p.st.options.fault("published"); err != nil {
		return err
	}
	t.stored = changes
	return nil
}

// remember stores the tokens of the sends that succeed, and the mark of the transaction.
func (t *publishing) remember(b *pgx.Batch) {
	tokens, bodies, published := []uuid.UUID{t.mark}, []uuid.UUID{uuid.Nil}, []int32{0}
	for _, x := range t.group {
		if _, known := t.sent[x.token]; !known && x.token != uuid.Nil && x.err == nil {
			tokens, bodies, published = append(tokens, x.token), append(bodies, x.body), append(published, int32(x.published))
		}
	}
	b.Queue(t.p.st.q(insertSendsSQL), t.p.stream.id, tokens, bodies, published, t.now)
}
