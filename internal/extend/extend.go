// Package extend extends leases on a server, in batches, as acks are sent in batches. An extension is repeated until it
// has succeeded, or the lease is over: a second one does no harm.
//
// An [Extender] owns the extensions that are queued or in flight. Its engine of internal/batch starts a goroutine for each
// request, and none while nothing is to be extended. What a lease is, and which deliveries hold it, belongs to internal/lease.
// The package knows no HTTP: its owner makes the requests.
package extend

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/batch"
	"github.com/sequin-go/sequin/internal/lease"
)

// Ledger is what an Extender needs of a lease.Ledger.
type Ledger interface {
	Extend(h *lease.Held, to *lease.Lease) bool
	Lose(h *lease.Held, now time.Time) bool
}

// linger is how long an extension by Start waits for others, to share their request. It is long enough for a look at all
// handlers, and short compared with half of the shortest lease, 37 ms.
const linger = 5 * time.Millisecond

// Config says how an Extender makes requests and what it reports.
type Config struct {
	// MaxIDs is the most ack ids of a request.
	MaxIDs int
	// Margin is the time that a settle has to reach the server; 0 for the default. See lease.NewTerms.
	Margin time.Duration
	Ledger Ledger
	// Expired is the error of an extension whose lease is over or lost. Settled is that of one whose delivery is settled.
	Expired, Settled error
	// Send makes one request, which must end within timeout. It returns the ids whose leases now end wait from now.
	Send func(ctx context.Context, ids []string, wait, timeout time.Duration) (extended []string, err error)
	// Retry is called with the error of a request, and how many requests in a row had failed before it. final reports that the
	// server refuses the request and would refuse it again. wait is how long to wait before the next one.
	Retry func(err error, failures int) (final bool, wait time.Duration)
	// Lost is optional. It is called with the number of leases that a request has shown to be lost.
	Lost func(n int)
	// Changed is called after leases have been extended or lost, or an extension has failed.
	Changed func()
}

// Extender extends leases. Its methods may be called from any goroutine.
type Extender struct {
	cfg      Config
	engine   *batch.Engine[extension, struct{}]
	failures atomic.Int32 // requests in a row that have failed
}

// extension is an extension that is queued or in flight.
type extension struct {
	held   *lease.Held
	wait   time.Duration
	result chan error // has room for one; nil if nobody waits for the result
	err    error      // of this extension in a request that succeeded
}

type (
	entry  = batch.Entry[extension]
	run    = batch.Batch[extension, struct{}]
	result = batch.Result[extension, struct{}]
)

// New returns an Extender. It starts no goroutine.
func New(cfg Config) *Extender {
	e := &Extender{cfg: cfg}
	limits := batch.Limits{Count: cfg.MaxIDs, Bytes: cfg.MaxIDs}
	e.engine = batch.New(batch.Config[extension, struct{}]{Lanes: 1, Slots: 2, Limits: func(int) batch.Limits { return limits },
		Compare: func(a, b extension) int { return a.held.Lease().Deadline.Compare(b.held.Lease().Deadline) }, Unordered: true, Linger: linger,
		Run: e.run, Done: e.done})
	return e
}

// Start extends the lease of a delivery by wait from now, unless an extension of it by Start is queued or in flight. It does not
// wait for the result. While the server does not answer, or refuses, the extension is repeated until the lease is over. Start
// reports whether this call has queued one.
func (e *Extender) Start(h *lease.Held, wait time.Duration) bool {
	if !h.Extending.CompareAndSwap(false, true) {
		return false
	}
	err := e.admit(extension{held: h, wait: wait}) // not nil if the Extender is closed
	h.Extending.Store(err == nil)
	return err == nil
}

// Extend extends the lease of a delivery by wait from now, and waits for the result until ctx ends. The extension is not
// withdrawn when ctx ends.
func (e *Extender) Extend(ctx context.Context, h *lease.Held, wait time.Duration) error {
	return e.ExtendAll(ctx, wait, h)[0]
}

// ExtendAll is Extend for several deliveries, which share requests. It returns the error of each.
func (e *Extender) ExtendAll(ctx context.Context, wait time.Duration, all ...*lease.Held) []error {
	results, errs := make([]chan error, len(all)), make([]error, len(all))
	for i, h := range all {
		results[i] = make(chan error, 1)
		if err := e.admit(extension{held: h, wait: wait, result: results[i]}); err != nil {
			results[i] <- err
		}
	}
	for i, result := range results {
		select {
		case errs[i] = <-result:
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	return errs
}

func (e *Extender) admit(x extension) error {
	return e.engine.Admit(context.Background(), &entry{Item: x, Size: 1}, 0, x.result != nil, true)
}

// Close ends the requests that run and drops what is queued.
func (e *Extender) Close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, _ = e.engine.Close(ended)
}

// run makes one request for a batch.
func (e *Extender) run(ctx context.Context, b *run) result {
	now := time.Now()
	live, over := batch.Partition(b.Items, func(x *entry) bool { return lease.Past(now, x.Item.held.Lease().Deadline) })
	if len(over) > 0 {
		return again(result{Failed: over, Err: e.cfg.Expired}, live)
	}
	wait := live[0].Item.wait
	if same, others := batch.Partition(live, func(x *entry) bool { return x.Item.wait != wait }); len(others) > 0 {
		return again(result{}, same, others) // a request has one time
	}
	ids := make([]string, len(live))
	timeout := live[0].Item.held.Lease().Margin
	for i := range live {
		ids[i] = live[i].Item.held.AckID
		timeout = min(timeout, live[i].Item.held.Lease().Margin)
	}
	sent := time.Now()
	extended, err := e.cfg.Send(ctx, ids, wait, timeout)
	if err != nil {
		return e.failed(live, err, timeout)
	}
	e.failures.Store(0)
	e.apply(live, extended, sent, wait)
	return result{Done: live}
}

// again adds batches to a result that run again, except empty ones.
func again(r result, batches ...[]entry) result {
	for _, items := range batches {
		if len(items) > 0 {
			r.Again = append(r.Again, &run{Items: items})
		}
	}
	return r
}

// failed decides what becomes of a batch whose request failed. Somebody who waits for the result of an extension gets a final
// refusal. An extension by Start is tried again even then, because a handler works on its delivery: a token may be replaced.
func (e *Extender) failed(items []entry, err error, margin time.Duration) result {
	final, wait := e.cfg.Retry(err, int(e.failures.Add(1)-1))
	repeated, refused := batch.Partition(items, func(x *entry) bool { return final && x.Item.result != nil })
	return again(result{Failed: refused, Err: err, Wait: min(wait, margin/2)}, repeated)
}

// apply changes the leases of a batch whose request succeeded. The leases end wait after the request was sent, or later.
func (e *Extender) apply(items []entry, extended []string, sent time.Time, wait time.Duration) {
	arrived, terms := time.Now(), lease.NewTerms(wait, e.cfg.Margin)
	to := lease.New(sent, 0, arrived, terms, terms, items[0].Item.held.Lease().Parent)
	got := make(map[string]struct{}, len(extended))
	for _, id := range extended {
		got[id] = struct{}{}
	}
	lost := 0
	for i := range items {
		x := &items[i].Item
		_, ok := got[x.held.AckID]
		switch {
		case ok && e.cfg.Ledger.Extend(x.held, to):
		case x.held.Settled.Load():
			x.err = e.cfg.Settled // the settle may have been faster, and tells its own result
		default:
			x.err = e.cfg.Expired
			if e.cfg.Ledger.Lose(x.held, arrived) {
				x.held.EndWork(e.cfg.Expired)
				lost++
			}
		}
	}
	if lost > 0 && e.cfg.Lost != nil {
		e.cfg.Lost(lost)
	}
}

// done reports the results of extensions.
func (e *Extender) done(items []entry, err error) {
	for i := range items {
		x := &items[i].Item
		if x.result == nil {
			x.held.Extending.Store(false)
		} else if err != nil {
			x.result <- err
		} else {
			x.result <- x.err
		}
	}
	e.cfg.Changed()
}
