package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/store"
)

// groupRequests is how many requests one transaction of a consumer carries.
const groupRequests = 64

// errRefresh says that a look has to change the state, for which it needs the lock.
var errRefresh = errors.New("the lock is needed")

// request is something that a consumer is asked.
type request struct {
	do      func(t *transaction) error // what to decide; it is called again when a transaction is repeated
	settle  *settle                    // what it settles, if it is a settle
	leases  bool                       // it is a receive
	look    bool                       // it only looks, unless the state is behind
	changes bool                       // its answer rests on decisions that must be on disk
	always  bool                       // it is done on a stream that is being copied, too
	wakes   bool                       // it may make messages available
	again   bool                       // it needs another transaction

	deliveries []store.Delivery
	unread     []int         // those of the deliveries whose data is not read yet
	chunks     []int64       // the first seqs of the chunks that they are in
	refused    error         // why it was not done, although others of its transaction were
	done       chan struct{} // closed when the result is there
	err        error
	state      atomic.Int32 // who is first: the result, or the end of the caller's ctx
}

const (
	requestRuns int32 = iota
	requestAnswered
	requestAbandoned
)

// engine decides about one consumer. It gathers what is asked while a transaction is under way.
type engine struct {
	st     *Store
	row    consumerRow
	filter store.Filter
	salt   uint32
	queue  combiner[*request]
	places places

	// Of the goroutine that runs.
	tags   tags // of its decisions
	state  *state
	epoch  int64       // of the database when the state was read
	share  store.Share // of the messages that match
	passed int64       // no message below matches that the state has not read
	shared int         // for how many transactions the consumer still counts as one that other replicas serve too
	unseen int         // how many decisions in a row were stored without a look at the state
	ahead  keysAhead
	end    int64 // where the stream ended when it was last looked
}

func (st *Store) engineOf(row consumerRow) *engine {
	return st.consumers.get(row.id, func() *engine {
		e := &engine{st: st, row: row, filter: store.NewFilter(row.Filter), salt: saltOf(row.uuid), tags: newTags()}
		e.places.engine = e
		return e
	})
}

// ask asks and waits for the result.
func (e *engine) ask(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	e.start(r)
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	if !r.state.CompareAndSwap(requestRuns, requestAbandoned) {
		<-r.done
		return r.err
	}
	if r.look {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
}

func (e *engine) start(r *request) {
	r.done = make(chan struct{})
	if e.queue.add(r) && !e.st.spawn(e.run) {
		for all := e.queue.take(everything[*request]); all != nil; all = e.queue.take(everything[*request]) {
			e.answer(all, store.ErrClosed)
		}
	}
}

func (e *engine) run() {
	for {
		group := e.queue.take(func(all []*request) int { return min(len(all), groupRequests) })
		if group == nil {
			return
		}
		for len(group) > 0 {
			group = e.decide(group)
		}
	}
}

// decide decides about requests in one transaction. It returns those that need another.
func (e *engine) decide(group []*request) (again []*request) {
	if group = e.settleUnseen(group); len(group) == 0 {
		return nil
	}
	t := transaction{e: e, group: group}
	err := e.st.retry(e.st.ctx, t.attempt)
	if err != nil {
		e.state = nil
		if t.unknown && !errors.Is(err, store.ErrUnknown) {
			err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
		}
	}
	if errors.Is(err, store.ErrNoConsumer) {
		e.st.consumers.remove(e.row.id)
		e.places.close()
	}
	if err == nil && t.wrote {
		e.places.changed() // the end of a new lease may come before the next look
		if slices.ContainsFunc(group, func(r *request) bool { return r.wakes }) {
			e.st.wake.consumerChanged(e.row.id)
		}
	}
	var done, unread []*request
	for _, r := range group {
		switch {
		case err == nil && r.again:
			again = append(again, r)
		case err == nil && len(r.unread) > 0:
			unread = append(unread, r)
		default:
			done = append(done, r)
		}
	}
	if unread != nil && !e.st.spawn(func() { e.complete(unread) }) {
		done, err = append(done, unread...), store.ErrClosed
	}
	e.answer(done, err)
	return again
}

// answer gives the results. What a receive got whose caller is gone is given back.
func (e *engine) answer(group []*request, err error) {
	for _, r := range group {
		if r.err = r.refused; err != nil {
			r.err, r.deliveries = err, nil
		}
		if !r.state.CompareAndSwap(requestRuns, requestAnswered) && len(r.deliveries) > 0 {
			e.start(e.settling(idsOf(r.deliveries), backlog.Return, 0))
		}
		close(r.done)
	}
}

func idsOf(all []store.Delivery) []store.ID {
	ids := make([]store.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids
}

func (h *consumer) engine() *engine { return h.st.engineOf(h.row) }

func (h *consumer) Settle(ctx context.Context, ids []store.ID, how store.Settlement) error {
	return h.Delay(ctx, ids, how, 0)
}

func (h *consumer) Delay(ctx context.Context, ids []store.ID, how store.Settlement, delay time.Duration) error {
	e := h.engine()
	return e.ask(ctx, e.settling(ids, backlog.How(how), delay))
}

func (h *consumer) Extend(ctx context.Context, ids []store.ID, wait time.Duration) ([]store.ID, error) {
	e := h.engine()
	var extended []store.ID
	err := e.ask(ctx, &request{changes: true, do: func(t *transaction) error {
		s := e.state
		extended = nil
		var changed []backlog.Delivery
		for _, id := range ids {
			d, ok := deliveryOf(e.salt, id)
			if !ok || !s.OnLease(d, t.now) {
				continue
			}
			extended = append(extended, id)
			if s.Extends(d, t.now+int64(wait)) {
				changed = append(changed, d)
			}
		}
		if len(changed) > 0 {
			t.d.addExtend(changed, int64(wait))
			s.Extend(changed, t.now, int64(wait))
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return extended, nil
}

func (h *consumer) Update(ctx context.Context, l store.ConsumerLimits) (store.ConsumerInfo, error) {
	e := h.engine()
	limits := backlog.Limits{AckWait: int64(l.AckWait), MaxAckPending: l.MaxAckPending, MaxDeliver: l.MaxDeliver}
	err := e.ask(ctx, &request{changes: true, wakes: true, do: func(t *transaction) error {
		t.d.addLimits(limits)
		e.state.SetLimits(limits)
		_, err := t.s.conn.Exec(t.s.ctx, e.st.q(updateConsumerSQL), e.row.id, limits.AckWait, l.MaxAckPending, l.MaxDeliver, l.MaxWaiting, l.Disabled, t.now/1000)
		return err
	}})
	if err != nil {
		return store.ConsumerInfo{}, err
	}
	return h.Info(ctx)
}

func (h *consumer) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	e := h.engine()
	r := e.receiving(n)
	if err := e.ask(ctx, r); err != nil {
		return dst, err
	}
	return append(dst, r.deliveries...), nil
}
