package postgres

import (
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
)

// transaction decides about some requests of a consumer.
type transaction struct {
	e     *engine
	group []*request

	own     made // the decision of the last attempt that made one
	unknown bool // it may have been stored
	wrote   bool
	locked  bool

	s      *session
	d      decision
	began  time.Time // before the transaction began
	now    int64     // nanoseconds
	top    streamTop
	window []planned // messages that the consumer has not read
	next   int64     // where the stream goes on behind the window; 0 at its end
	begun  bool      // the window is read
	data   chunkSet  // of what was leased
}

// attempt makes the transaction. A look makes it without the lock first.
func (t *transaction) attempt() error {
	t.locked = slices.ContainsFunc(t.group, func(r *request) bool { return !r.look })
	err := t.try()
	if errors.Is(err, errRefresh) {
		t.locked = true
		err = t.try()
	}
	return err
}

func (t *transaction) try() error {
	e := t.e
	s, err := e.st.acquire(e.st.ctx)
	if err != nil {
		return err
	}
	defer s.release()
	t.s = s
	if e.epoch != s.epoch {
		e.state, e.epoch = nil, s.epoch
	}
	err = t.decide()
	if err != nil {
		e.state = nil // it may have decisions that are not stored
	}
	return err
}

func (t *transaction) decide() error {
	stored, err := t.lock()
	if err != nil {
		return err
	}
	if stored {
		t.wrote = true
		return t.s.flush()
	}
	if t.d = newDecision(t.now); t.locked {
		t.e.unseen = 0
	}
	t.window, t.begun = nil, false
	if err := t.catchUp(); err != nil {
		return err
	}
	changes := false
	for _, r := range t.group {
		r.again, r.deliveries, r.unread, r.chunks, r.refused = false, nil, nil, nil, nil
		if !r.always {
			if r.refused = t.top.mark().Err(); r.refused != nil {
				continue
			}
		}
		if err := r.do(t); err != nil {
			return err
		}
		changes = changes || r.changes
	}
	return t.finish(changes)
}

// finish stores what was decided.
func (t *transaction) finish(changes bool) error {
	s := t.e.state
	if t.d.empty && !(t.locked && s.wantsSnapshot()) {
		b := &pgx.Batch{}
		b.Queue("commit")
		if changes { // an answer that nothing is left to do rests on the decisions of others
			b.Queue(flushStatement)
		}
		return t.s.send(b)
	}
	if !t.locked {
		return errRefresh
	}
	b := &pgx.Batch{}
	t.own = made{s.n + 1, t.e.tags.next()}
	b.Queue(t.e.st.q(insertOpSQL), t.e.row.id, t.own.n, t.own.tag, t.d.body)
	s.now = t.now
	s.decided(t.own.n, t.own.tag, len(t.d.body))
	if s.wantsSnapshot() {
		body := s.appendTo(nil)
		b.Queue(t.e.st.q(deleteOpsSQL), t.e.row.id)
		b.Queue(t.e.st.q(saveSnapshotSQL), t.e.row.id, t.own.n, t.own.tag, body)
		s.ops, s.opBytes, s.snapshot = 0, 0, len(body)
	}
	b.Queue("commit")
	t.queueData(b)
	b.Queue(flushStatement)
	t.unknown = true
	if err := t.s.send(b); err != nil {
		return err
	}
	if err := t.e.st.options.fault("decided"); err != nil {
		return err
	}
	t.wrote = true
	for _, r := range t.group {
		r.fill(t.data)
	}
	return nil
}

// leases reports whether a request may lease messages.
func (t *transaction) leases() bool {
	return slices.ContainsFunc(t.group, func(r *request) bool { return r.leases })
}

// catchUp decides what follows from the time and from the stream: leases have ended, messages are gone.
func (t *transaction) catchUp() error {
	s := t.e.state
	if at, out := s.NextExpiry(); out && at <= t.now {
		t.d.addExpire()
		s.Expire(t.now)
	}
	if s.keyed {
		return t.sweep(false)
	}
	if t.top.trim > s.trim {
		below := false
		s.Heads(func(seq int64, _ backlog.State) { below = below || seq < t.top.trim })
		if below {
			t.d.addTrim(t.top.trim)
			s.trim = t.top.trim
			s.Trimmed(s.trim)
		}
	}
	return t.sweepPurged()
}

// sweepPurged drops the heads that purges have taken from a stream that appends, once after each. A purge takes the messages of
// a key from the first on, so that no later one is gone when the head of its key is not.
func (t *transaction) sweepPurged() error {
	s := t.e.state
	if s.purges == t.top.purges {
		return nil
	}
	for {
		var heads []int64
		s.Heads(func(seq int64, _ backlog.State) { heads = append(heads, seq) })
		gone, err := t.purgedOf(heads)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			return t.swept()
		}
		t.gone(gone)
	}
}

// swept notes that the state has no messages any more that were purged. Without the lock another replica may lease one that was
// purged a moment ago.
func (t *transaction) swept() error {
	if !t.locked {
		return errRefresh
	}
	t.e.state.purges = t.top.purges
	return nil
}

// sweep drops the heads whose messages are gone from a stream with one message per key: delayed ones that were replaced,
// and those on lease that retention or a purge has dropped. With all it drops ready ones too.
func (t *transaction) sweep(all bool) error {
	for {
		var waiting, leased []int64
		t.e.state.Heads(func(seq int64, s backlog.State) {
			switch {
			case s == backlog.Delivered:
				leased = append(leased, seq)
			case all || s == backlog.Delayed:
				waiting = append(waiting, seq)
			}
		})
		gone, err := t.missing(waiting)
		if err != nil {
			return err
		}
		o, purged := t.e.row.stream.StreamOptions, t.e.state.purges != t.top.purges
		if len(leased) > 0 && (o.MaxBytes > 0 || o.RetainUpTo > 0 || purged) {
			dropped, err := t.querySeqs(droppedLatestSQL, leased)
			if err != nil {
				return err
			}
			gone = append(gone, dropped...)
		}
		switch {
		case len(gone) > 0:
			t.gone(gone)
		case purged:
			return t.swept()
		default:
			return nil
		}
	}
}

// gone decides that messages are gone.
func (t *transaction) gone(seqs []int64) {
	slices.Sort(seqs)
	t.d.addGone(seqs)
	for _, seq := range seqs {
		t.e.state.Dropped(seq)
	}
}

// missing returns those of the seqs that a stream with one message per key does not have.
func (t *transaction) missing(seqs []int64) ([]int64, error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	alive, err := t.querySeqs(aliveLatestSQL, seqs)
	if err != nil {
		return nil, err
	}
	slices.Sort(alive)
	return slices.DeleteFunc(seqs, func(seq int64) bool {
		_, found := slices.BinarySearch(alive, seq)
		return found
	}), nil
}

func (t *transaction) querySeqs(text string, seqs []int64) ([]int64, error) {
	rows, err := t.s.conn.Query(t.s.ctx, t.e.st.q(text), t.e.row.stream.id, seqs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
