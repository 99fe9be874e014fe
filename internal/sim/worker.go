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

// worker is a program that receives as its plan says.
type worker struct {
	*world
	name     string
	consumer string
	plan     workerPlan
	tap      *tap
	sub      *sequin.Subscriber
	ctx      context.Context // of the subscription
	cancel   context.CancelFunc
	readers  sync.WaitGroup
}

// work runs a worker until its end; a survivor is left to the world.
func (w *world) work(name string, plan workerPlan) {
	x := &worker{world: w, name: name, consumer: consumerName(plan.Consumer), plan: plan}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	time.Sleep(plan.Start)
	if !x.subscribe() {
		return
	}
	if plan.Handle {
		x.readers.Go(x.handleAll)
	} else {
		for range plan.Readers {
			x.readers.Go(x.read)
		}
	}
	if plan.End == survive {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.survivors = append(w.survivors, x)
		return
	}
	time.Sleep(plan.EndAt)
	x.stop(plan.End, plan.Patience)
}

// subscribe tries until it succeeds, which it does when the faults are over.
func (w *worker) subscribe() bool {
	client, tap := w.newTappedClient(w.name, w.plan.Timeout)
	cfg := w.plan.Config
	cfg.OnAckError = func(d sequin.Delivery, err error) {
		w.of(d, func(h *handed) { h.told = err })
	}
	for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(time.Second) {
		sub, err := client.Subscribe(w.ctx, streamName, w.consumer, cfg)
		if err == nil {
			w.sub, w.tap = sub, tap
			return true
		}
		if errors.Is(err, sequin.ErrInvalidConfig) {
			w.l.violate("a schedule makes sense", "worker %s: %v", w.name, err)
			return false
		}
	}
	w.l.violate("Subscribe succeeds when the server does", "%s could not", w.name)
	return false
}

// maxMargin is what the last settles may take: the longest margin that is drawn, half of a lease of 30 s.
const maxMargin = 15 * time.Second

// of finds what was entered of a delivery.
func (w *worker) of(d sequin.Delivery, do func(*handed)) {
	w.l.note(func() {
		for _, h := range w.l.handed {
			if h.worker == w.name && h.AckID == d.AckID && h.Seq == d.Seq && h.Deadline.Equal(d.Deadline) {
				do(h)
			}
		}
	})
}

// stop ends the Subscriber and waits for its readers.
func (w *worker) stop(how endKind, patience time.Duration) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch how {
	case vanish:
		w.tap.end()
		cancel()
		err = w.sub.Close(ctx)
	case cancelled:
		w.cancel()
		w.readers.Wait()
		// Close waits for what a cancelled ctx waits for, and tells how it ended; its own ctx counts for nothing then.
		time.Sleep(w.plan.Config.DrainTimeout)
		err = w.sub.Close(context.Background())
	default:
		err = w.sub.Close(ctx)
	}
	at := time.Now()
	if late := at.Sub(asked) - patience - maxMargin; how == closed && late > 0 {
		w.l.violate("a Close ends with its ctx, and the settles after it", "%s: Close took %v longer", w.name, late)
	}
	w.readers.Wait()
	w.cancel()
	w.l.note(func() { w.l.stops = append(w.l.stops, stop{w.name, how, asked, at, err}) })
	if err := w.sub.Err(); err != nil {
		w.l.violate("trouble that passes closes no channel", "%s: %v", w.name, err)
	}
}

func (w *worker) read() {
	for d := range w.sub.Deliveries() {
		h, drawn := w.take(d)
		w.handle(h, drawn)
	}
}

// take enters a delivery, and draws what is to be done with it.
func (w *worker) take(d sequin.Delivery) (*handed, int) {
	h, again := &handed{worker: w.name, consumer: w.consumer, Delivery: d, at: time.Now()}, 0
	w.l.note(func() {
		for _, other := range w.l.handed {
			if other.worker == w.name && other.Seq == d.Seq {
				again++
			}
		}
		w.l.handed = append(w.l.handed, h)
	})
	return h, w.drawn(d, again)
}

// drawn is a number that depends on the schedule and on what was delivered, not on who came first.
func (w *worker) drawn(d sequin.Delivery, again int) int {
	f := fnv.New64a()
	fmt.Fprintf(f, "%d %s %s %s %d", w.s.Seed, w.name, d.Key, idOf(d.Data), again)
	return int(f.Sum64() >> 33)
}

// handle does with a delivery what the worker's habits say; once all is calm, everybody works well.
func (w *worker) handle(h *handed, drawn int) {
	select {
	case <-w.calm:
		w.ack(h, false)
		return
	default:
	}
	below := w.choose(drawn)
	switch habits := w.plan.Habits; {
	case below(habits.AckSync):
		w.ack(h, true)
	case below(habits.Nack):
		w.settle(h, sequin.Nack, false, h.Nack)
	case below(habits.NackAfter):
		w.settle(h, sequin.Nack, false, func() error { return h.NackAfter(time.Duration(drawn) % (5 * time.Second)) })
	case below(habits.Forget):
	case below(habits.Overrun):
		time.Sleep(time.Until(h.Deadline) + time.Duration(drawn)%time.Second)
		w.ack(h, false)
	case below(habits.Twice):
		w.ack(h, false)
		w.settle(h, sequin.Nack, false, h.Nack)
	default:
		w.ack(h, false)
	}
}

// choose works for a while, and returns what tells which share of the habits was drawn when it is asked for one after
// the other.
func (w *worker) choose(drawn int) func(share int) bool {
	if w.plan.Habits.Work > 0 {
		time.Sleep(time.Duration(drawn) % w.plan.Habits.Work)
	}
	percent := drawn / 1000 % 100
	return func(share int) bool { percent -= share; return percent < 0 }
}

func (w *worker) ack(h *handed, sync bool) {
	if !sync {
		w.settle(h, sequin.Ack, false, h.Ack)
		return
	}
	w.settle(h, sequin.Ack, true, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return h.AckSync(ctx)
	})
}

// settle enters a settle before it is made, because its request may leave before the call returns.
func (w *worker) settle(h *handed, kind sequin.SettlementKind, sync bool, do func() error) {
	var i int
	w.l.note(func() {
		i = len(h.settles)
		h.settles = append(h.settles, settled{kind: kind, sync: sync, at: time.Now(), err: errPending})
	})
	err := do()
	w.l.note(func() { h.settles[i].err, h.settles[i].ended = err, time.Now() })
}

// errPending stands for a settle that has not returned.
var errPending = errors.New("it has not returned")
