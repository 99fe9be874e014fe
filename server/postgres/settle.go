package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// settle is what a request settles.
type settle struct {
	deliveries []backlog.Delivery
	how        backlog.How
	delay      int64
}

// settling is the request of a settle.
func (e *engine) settling(ids []store.ID, how backlog.How, delay time.Duration) *request {
	of := &settle{how: how, delay: int64(delay)}
	for _, id := range ids {
		if d, ok := deliveryOf(e.salt, id); ok {
			of.deliveries = append(of.deliveries, d)
		}
	}
	return &request{changes: true, wakes: true, settle: of, do: func(t *transaction) error {
		s := t.e.state
		matter := make([]backlog.Delivery, 0, len(of.deliveries))
		for _, d := range of.deliveries {
			if s.OnLease(d, t.now) {
				matter = append(matter, d)
			}
		}
		if len(matter) > 0 {
			t.d.addSettle(matter, how, int64(delay))
			s.Settle(matter, how, t.now, int64(delay))
		}
		return nil
	}}
}

// unseenInARow is how many settles a replica stores at most without a look at the state. The next one finds out whether they
// are worth a snapshot.
const unseenInARow = 64

// settleUnseen stores the settles of a group in one statement, when that is all which needs the lock and when other replicas serve
// the consumer too. It does not look at the state: it stores what is to be settled, and who applies that settles what is still on
// lease. So the lock is held without a round trip, and what the others have decided is read later. It returns the requests that
// are left.
//
// It may be stored twice when an answer is lost: the second finds nothing on lease.
func (e *engine) settleUnseen(group []*request) (rest []*request) {
	if e.shared == 0 || e.unseen == unseenInARow {
		return group
	}
	var settles []*request
	for _, r := range group {
		switch {
		case r.settle != nil && len(r.settle.deliveries) > 0:
			settles = append(settles, r)
		case r.look:
			rest = append(rest, r)
		default:
			return group
		}
	}
	if len(settles) == 0 {
		return group
	}
	sent, stored := false, false
	err := e.st.retry(e.st.ctx, func() (err error) {
		stored, err = e.storeUnseen(settles, &sent)
		return err
	})
	switch {
	case err != nil && sent && !errors.Is(err, store.ErrUnknown):
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	case err == nil && !stored: // there is no consumer, or it may not change
		return group
	}
	if err == nil {
		e.unseen++
		e.st.wake.consumerChanged(e.row.id)
	}
	e.answer(settles, err)
	return rest
}

// storeUnseen stores a decision that is made without a look. It stores nothing when the consumer is gone, or may not change.
func (e *engine) storeUnseen(settles []*request, sent *bool) (stored bool, err error) {
	st := e.st
	s, err := st.acquire(st.ctx)
	if err != nil {
		return false, err
	}
	defer s.release()
	var d decision
	for _, r := range settles {
		d.addSettleOnLease(r.settle)
	}
	var now *int64
	if st.options.now != nil {
		at := st.options.now()
		now = &at
	}
	b := beginOnly()
	b.Queue(st.q(lockConsumerSQL), e.row.id)
	b.Queue(st.q(insertUnseenSQL), e.row.id, e.row.stream.id, e.tags.next(), []byte{opFormatUnseen}, now, d.body).Query(func(rows pgx.Rows) error {
		stored = rows.Next()
		return rows.Err()
	})
	commit(b)
	*sent = true
	if err := s.send(b); err != nil {
		return false, err
	}
	return stored, st.options.fault("decided")
}

// served notes what others have decided since the last transaction.
func (e *engine) served(ops []opRow) {
	byOthers := slices.ContainsFunc(ops, func(op opRow) bool { return makerOf(op.tag) != makerOf(e.tags.last) })
	if e.shared = max(e.shared-1, 0); byOthers {
		e.shared = sharedFor
	}
}
