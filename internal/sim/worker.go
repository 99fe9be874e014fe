package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// worker is a program that receives and settles messages as its plan says.
type worker struct {
	world    *world
	rec      *recorder
	name     string
	consumer string
	plan     workerPlan
	tap      *tap
	sub      *sequin.Subscriber
	ctx      context.Context // of the subscription
	cancel   context.CancelFunc
	readers  sync.WaitGroup
}

// work runs a worker to its end. It returns a worker that survives as soon as it is running, and nil otherwise.
func (w *world) work(name string, plan workerPlan) *worker {
	x := &worker{world: w, rec: w.rec, name: name, consumer: consumerName(plan.Consumer), plan: plan}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	time.Sleep(plan.Start)
	if !x.subscribe() {
		return nil
	}
	if plan.Handle {
		x.readers.Go(x.handleAll)
	} else {
		for range plan.Readers {
			x.readers.Go(x.read)
		}
	}
	if plan.End == survive {
		return x
	}
	time.Sleep(plan.EndAt)
	x.stop(plan.End, plan.Patience)
	return nil
}

// subscribe repeats Subscribe until it succeeds, for an hour at most; the faults end earlier.
func (w *worker) subscribe() bool {
	client, tap := w.world.newTappedClient(w.name, w.plan.Timeout)
	cfg := w.plan.Config
	cfg.OnAckError = func(d sequin.Delivery, err error) {
		w.rec.updateReceived(w.name, numbered(d), func(r *received) { r.ackError = err })
	}
	for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(time.Second) {
		sub, err := w.subscribeOnce(client, cfg)
		if err == nil {
			w.sub, w.tap = sub, tap
			tap.subscribed.Store(true)
			return true
		}
		if errors.Is(err, sequin.ErrInvalidConfig) {
			w.rec.violate("a schedule is valid", "worker %s: %v", w.name, err)
			return false
		}
	}
	w.rec.violate("Subscribe succeeds when the server is available", "%s could not subscribe", w.name)
	return false
}

func (w *worker) subscribeOnce(client *sequin.Client, cfg sequin.SubscriberConfig) (*sequin.Subscriber, error) {
	if w.world.s.Sinks {
		return client.SubscribeSink(w.ctx, w.consumer, sequin.SinkConfig{AckWait: w.plan.SaidWait, Subscriber: cfg})
	}
	return client.Subscribe(w.ctx, streamName, w.consumer, cfg)
}

// maxMargin is how long the last settles may take. It is the longest lease margin that is drawn, half of a lease of 30 s.
const maxMargin = 15 * time.Second

// stop ends the Subscriber and waits for its readers.
func (w *worker) stop(how endKind, patience time.Duration) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch how {
	case killed:
		w.tap.disconnect()
		cancel()
		err = w.sub.Close(ctx)
	case cancelled:
		w.cancel()
		w.readers.Wait()
		// After a cancellation Close waits for the drain that is running, whatever its own ctx, and returns the result.
		time.Sleep(w.plan.Config.DrainTimeout)
		err = w.sub.Close(context.Background())
	default:
		err = w.sub.Close(ctx)
	}
	at := time.Now()
	bound := patience + maxMargin
	if w.plan.Handle {
		bound += time.Second // for handlers that ignore the end of their ctx
	}
	if late := at.Sub(asked) - bound; how == closed && late > 0 {
		w.rec.violate("Close ends with its ctx, and the settles after it", "%s: Close took %v longer", w.name, late)
	}
	w.readers.Wait()
	w.cancel()
	w.rec.note(func() {
		w.rec.stops = append(w.rec.stops, stop{actor: w.name, how: how, asked: asked, at: at, err: err, ended: w.sub.Err()})
	})
}

func (w *worker) read() {
	for d := range w.sub.Deliveries() {
		r, drawn := w.receive(d)
		w.settleByHabit(r, drawn)
	}
}

// receive records a delivery, and draws how it is settled.
func (w *worker) receive(d sequin.Delivery) (r *received, drawn int) {
	d = numbered(d)
	r = &received{worker: w.name, consumer: w.consumer, Delivery: d, at: time.Now()}
	before := w.rec.receive(r)
	return r, w.drawn(d, before)
}

// drawn returns a number that depends only on the seed, the worker, the message and how often the worker had received it
// before, so that it does not depend on the order in which goroutines run.
func (w *worker) drawn(d sequin.Delivery, before int) int {
	f := fnv.New64a()
	fmt.Fprintf(f, "%d %s %s %s %d", w.world.s.Seed, w.name, d.Key, idOf(d.Data), before)
	return int(f.Sum64() >> 33)
}

// settleByHabit settles a delivery as the worker's habits say. Once the faults are over it acks everything.
func (w *worker) settleByHabit(r *received, drawn int) {
	select {
	case <-w.world.faultsOver:
		w.ack(r, false)
		return
	default:
	}
	below := w.choose(drawn)
	switch habits := w.plan.Habits; {
	case below(habits.AckSync):
		w.ack(r, true)
	case below(habits.Nack):
		w.settle(r, sequin.Nack, false, r.Nack)
	case below(habits.NackAfter):
		w.settle(r, sequin.Nack, false, func() error { return r.NackAfter(time.Duration(drawn) % (5 * time.Second)) })
	case below(habits.Forget):
	case below(habits.Overrun):
		time.Sleep(time.Until(r.Deadline) + time.Duration(drawn)%time.Second)
		w.ack(r, false)
	case below(habits.Extend):
		w.extend(r, drawn)
	case below(habits.Twice):
		w.ack(r, false)
		w.settle(r, sequin.Nack, false, r.Nack)
	default:
		w.ack(r, false)
	}
}

// extend extends the lease of a delivery, and acks it when the first lease is over.
func (w *worker) extend(r *received, drawn int) {
	err := r.Extend(w.ctx, w.world.s.Consumers[w.plan.Consumer].AckWait)
	if can := w.world.s.has(extend); can == errors.Is(err, sequin.ErrUnsupported) {
		w.rec.violate("a server that announces extend extends leases, and no other", "%s: %v", w.name, err)
	}
	if err == nil {
		time.Sleep(time.Until(r.Deadline) + time.Duration(drawn)%time.Second)
	}
	w.ack(r, false)
}

// choose works for a while, and returns a function that selects one habit: it is called with the share of each habit in
// turn, and returns true for the one that was drawn.
func (w *worker) choose(drawn int) func(share int) bool {
	if w.plan.Habits.Work > 0 {
		time.Sleep(time.Duration(drawn) % w.plan.Habits.Work)
	}
	percent := drawn / 1000 % 100
	return func(share int) bool { percent -= share; return percent < 0 }
}

func (w *worker) ack(r *received, sync bool) {
	if !sync {
		w.settle(r, sequin.Ack, false, r.Ack)
		return
	}
	w.settle(r, sequin.Ack, true, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return r.AckSync(ctx)
	})
}

// settle makes a settle. It is recorded before the call, because its request may be sent before the call returns.
func (w *worker) settle(r *received, kind sequin.SettlementKind, sync bool, do func() error) {
	var i int
	w.rec.note(func() {
		i = len(r.settles)
		r.settles = append(r.settles, settle{kind: kind, sync: sync, at: time.Now(), err: errPending})
	})
	err := do()
	w.rec.note(func() { r.settles[i].err, r.settles[i].ended = err, time.Now() })
}

// errPending is the error of a settle while its call has not returned.
var errPending = errors.New("the call has not returned")
