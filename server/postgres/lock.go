package postgres

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/store"
)

// opRow is a row of ops.
type opRow struct {
	n, tag int64
	body   []byte
}

// lock takes the lock and brings the state up to date. stored says that an attempt before has stored its decision.
func (t *transaction) lock() (stored bool, err error) {
	e := t.e
	head := lockConsumerSQL
	switch {
	case !t.locked:
		head = findHeadSQL
	case e.shared > 0 && e.state != nil:
		head = tryConsumerSQL
	}
	b := beginOnly()
	addAhead := t.queueAhead(b)
	l, err := t.askHead(b, head)
	if err != nil {
		return false, err
	}
	addAhead()
	if !l.found && head == tryConsumerSQL {
		// Another replica has the lock. What was decided until now is applied without it.
		if err = t.apply(t.follow(l.ops)); err != nil {
			return false, err
		}
		if err = e.st.options.fault("waits"); err != nil {
			return false, err
		}
		if l, err = t.askHead(&pgx.Batch{}, lockConsumerSQL); err != nil {
			return false, err
		}
	}
	if !l.found {
		return false, store.ErrNoConsumer
	}
	e.st.chunks.purged(e.row.stream.id, t.top.purges)
	e.end = t.top.next
	ops := t.follow(l.ops)
	if e.state == nil {
		if ops, err = t.load(); err != nil {
			return false, err
		}
	}
	if err = t.apply(ops); err != nil {
		if !t.locked {
			return false, errRefresh // without the lock some may have been replaced by a snapshot
		}
		return false, err
	}
	if t.unknown && e.state.n >= t.own.n {
		if stored, err = e.state.makers.stored(t.own); err != nil {
			return false, err
		}
	}
	t.now = max(l.now*1000, e.state.now)
	return stored, nil
}

// looked is what the database says of a consumer.
type looked struct {
	found bool
	now   int64
	ops   []opRow // from the last one on that the state has
}

// askHead ends a batch with the statements that read or lock the head of the consumer, and that read what has changed.
func (t *transaction) askHead(b *pgx.Batch, head string) (l looked, err error) {
	st, e := t.e.st, t.e
	b.Queue(st.q(head), e.row.id).Query(func(rows pgx.Rows) error {
		l.found = rows.Next()
		return rows.Err()
	})
	t.began = time.Now()
	if e.state != nil {
		b.Queue(st.q(opsFromSQL), e.row.id, e.state.n).Query(func(rows pgx.Rows) (err error) {
			l.ops, err = readOps(rows)
			return err
		})
	}
	t.top.queueLook(st, e.row.stream, b, &l.now)
	err = t.s.send(b)
	return l, err
}

// follow returns the decisions that follow the state. There is no state any more when the database has lost decisions, or others
// have replaced them by a snapshot.
func (t *transaction) follow(ops []opRow) []opRow {
	e := t.e
	if e.state == nil || len(ops) == 0 || ops[0].n != e.state.n || ops[0].tag != e.state.tag {
		e.state = nil
		return nil
	}
	e.served(ops[1:])
	return ops[1:]
}

// apply applies decisions.
func (t *transaction) apply(ops []opRow) error {
	for _, op := range ops {
		if err := t.e.state.apply(op.n, op.tag, op.body); err != nil {
			return err
		}
	}
	return nil
}

// load reads the state from its snapshot. It returns the decisions since.
func (t *transaction) load() ([]opRow, error) {
	e := t.e
	e.state, e.passed = newState(e.row.stream.OneMessagePerKey), 0
	snapshot, err := t.queryOps(findSnapshotSQL, e.row.id)
	if err != nil {
		return nil, err
	}
	for _, s := range snapshot {
		if e.state, err = readState(e.row.stream.OneMessagePerKey, s.n, s.tag, s.body); err != nil {
			return nil, err
		}
	}
	return t.queryOps(opsFromSQL, e.row.id, e.state.n+1)
}

func (t *transaction) queryOps(text string, args ...any) ([]opRow, error) {
	rows, err := t.s.conn.Query(t.s.ctx, t.e.st.q(text), args...)
	if err != nil {
		return nil, err
	}
	return readOps(rows)
}

func readOps(rows pgx.Rows) (ops []opRow, err error) {
	var op opRow
	_, err = pgx.ForEachRow(rows, []any{&op.n, &op.tag, &op.body}, func() error {
		ops = append(ops, opRow{op.n, op.tag, slices.Clone(op.body)})
		return nil
	})
	return ops, err
}
