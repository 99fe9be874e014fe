package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// The streams and consumers of a load.
const (
	logStream  = "log"  // appends
	keepStream = "keep" // appends and drops
	keysStream = "keys" // one message per key

	allConsumer     = "all"
	limitedConsumer = "limited" // with a max_deliver
	churnedConsumer = "gone"    // of each stream that is created and deleted
)

const (
	retained   = 50 // messages of keepStream
	maxDeliver = 3  // of limitedConsumer
)

const (
	// AckWait is the length of every lease: longer than any load runs.
	AckWait = time.Hour
	// MaxWait is how long a message may be out of sight: an extended lease is longer than others.
	MaxWait = AckWait + AckWait/2

	longDelay  = AckWait / 2 // longer than any load runs, too
	shortDelay = 20 * time.Millisecond
)

var streamOptions = []store.StreamOptions{
	{Name: logStream}, {Name: keepStream, RetainUpTo: retained}, {Name: keysStream, OneMessagePerKey: true, ProcessUnmodified: true},
}

var consumerNames = []string{allConsumer, limitedConsumer}

// Setup creates the streams and consumers of a load.
func Setup(ctx context.Context, st store.Store) error {
	for _, o := range streamOptions {
		s, err := st.CreateStream(ctx, o)
		if err != nil {
			return err
		}
		for _, name := range consumerNames {
			limits := store.ConsumerLimits{AckWait: AckWait, MaxAckPending: 1_000, MaxWaiting: 100}
			if name == limitedConsumer {
				limits.MaxDeliver = maxDeliver
			}
			if _, err := s.CreateConsumer(ctx, store.ConsumerOptions{Name: name, Filter: ">", ConsumerLimits: limits}); err != nil {
				return err
			}
		}
	}
	for _, o := range purgedStreams {
		if _, err := st.CreateStream(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Plan is where a load begins: what the ones before it left.
type Plan struct {
	Seed   uint64
	Next   map[string][]int      // of each stream, the number of the next send of each worker; it may be in doubt
	Out    map[string][]Delivery // of each consumer, by stream/consumer, what is on lease
	Purges map[string]int        // of each stream that is purged, the number of the next step; it may be in doubt
	Churn  int                   // the number of the next stream that is created and deleted
	Steps  int                   // of each sender; 0 for no end
	Think  time.Duration         // the longest time between two steps of a sender
}

// Workload is a load on a store.
type Workload struct {
	st   store.Store
	plan Plan
	add  func(Event)
}

// NewWorkload returns a load that passes every event to add, which may be called concurrently.
func NewWorkload(st store.Store, plan Plan, add func(Event)) *Workload {
	return &Workload{st: st, plan: plan, add: add}
}

const (
	sendersOfStream     = 2
	receiversOfConsumer = 2
)

// Run runs the load until every worker has made its steps, or ctx ends. It returns an error if it cannot begin.
func (w *Workload) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var senders, receivers sync.WaitGroup
	var start []func()
	for i, o := range streamOptions {
		s, err := w.st.Stream(ctx, o.Name)
		if err != nil {
			return err
		}
		for worker := range sendersOfStream {
			random := w.random(uint64(10*i + worker))
			start = append(start, func() { senders.Go(func() { w.send(ctx, s, o.Name, worker, random) }) })
		}
		for j, name := range consumerNames {
			c, err := s.Consumer(ctx, name)
			if err != nil {
				return err
			}
			old := w.plan.Out[o.Name+"/"+name]
			for k := range receiversOfConsumer {
				r := &receiver{w: w, c: c, stream: o.Name, consumer: name, random: w.random(uint64(100 + 10*i + 4*j + k))}
				if k > 0 {
					old = nil
				} else if err := r.release(ctx, old); err != nil {
					return err
				}
				old := old[:(len(old)+1)/2] // the others stay on lease for now
				start = append(start, func() { receivers.Go(func() { r.run(ctx, old) }) })
			}
		}
	}
	for i, o := range purgedStreams {
		s, err := w.st.Stream(ctx, o.Name)
		if err != nil {
			return err
		}
		random := w.random(uint64(2_000 + i))
		start = append(start, func() { senders.Go(func() { w.purge(ctx, s, o.Name, random) }) })
	}
	for _, f := range start {
		f()
	}
	senders.Go(func() { w.churn(ctx) })
	senders.Wait()
	cancel()
	receivers.Wait()
	return nil
}

func (w *Workload) random(worker uint64) *rand.Rand {
	return rand.New(rand.NewPCG(w.plan.Seed, worker))
}

func (w *Workload) more(ctx context.Context, step int) bool {
	return ctx.Err() == nil && (w.plan.Steps == 0 || step < w.plan.Steps)
}

// send makes one send after the other. It repeats one until it is done.
func (w *Workload) send(ctx context.Context, s store.Stream, stream string, worker int, random *rand.Rand) {
	n := 0
	if next := w.plan.Next[stream]; next != nil {
		n = next[worker]
	}
	for step := 0; w.more(ctx, step); step++ {
		e := Event{Op: Send, Phase: Asked, Stream: stream, Worker: worker, Send: n}
		w.add(e)
		_, err := s.Send(context.Background(), once(stream, worker, n), batch(worker, n))
		w.finish(e, err)
		if err == nil {
			n++
		} else {
			pause(random)
		}
		w.think(random)
	}
}

// think waits between two steps.
func (w *Workload) think(random *rand.Rand) {
	if w.plan.Think > 0 {
		time.Sleep(time.Duration(random.Int64N(int64(w.plan.Think))))
	}
}

// finish adds the event of an operation that returned err.
func (w *Workload) finish(e Event, err error) {
	e.Phase = phaseOf(err)
	if err != nil {
		e.Err = err.Error()
	}
	w.add(e)
}

// pause lets others run after an error.
func pause(random *rand.Rand) { time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) }

// churn creates and deletes streams, each with a consumer.
func (w *Workload) churn(ctx context.Context) {
	random := w.random(1_000)
	for n := w.plan.Churn; w.more(ctx, n-w.plan.Churn); n++ {
		w.think(random)
		e := Event{Op: Create, Phase: Asked, Stream: fmt.Sprint("t.", n)}
		w.add(e)
		s, err := w.st.CreateStream(context.Background(), store.StreamOptions{Name: e.Stream, OneMessagePerKey: n%2 == 0})
		w.finish(e, err)
		if err != nil {
			pause(random)
			continue
		}
		w.churnConsumer(s, e.Stream, n%3 != 0)
		if _, err := s.Send(context.Background(), store.Once{}, batch(0, n)); err != nil || n%4 == 0 {
			continue
		}
		e.Op, e.Phase = Delete, Asked
		w.add(e)
		w.finish(e, s.Delete(context.Background()))
	}
}

// churnConsumer creates a consumer, and may delete it.
func (w *Workload) churnConsumer(s store.Stream, stream string, remove bool) {
	e := Event{Op: Create, Phase: Asked, Stream: stream, Consumer: churnedConsumer}
	w.add(e)
	c, err := s.CreateConsumer(context.Background(), store.ConsumerOptions{Name: churnedConsumer, Filter: ">"})
	w.finish(e, err)
	if err == nil && remove {
		e.Op, e.Phase = Delete, Asked
		w.add(e)
		w.finish(e, c.Delete(context.Background()))
	}
}

// receiver receives and settles.
type receiver struct {
	w                *Workload
	c                store.Consumer
	stream, consumer string
	random           *rand.Rand
	held             []Delivery // are settled after the next receive
}

// run settles what an earlier load left, and then what it receives.
func (r *receiver) run(ctx context.Context, old []Delivery) {
	r.settleSome(old)
	for ctx.Err() == nil {
		held := r.held
		r.held = nil
		r.settleSome(held)
		e := r.asked(Event{Op: Receive})
		got, err := r.c.Receive(context.Background(), 1+r.random.IntN(8), nil)
		for _, d := range got {
			m, ok := parse(d.Message)
			if !ok {
				e.Err += fmt.Sprintf("seq %d is not what was sent: %s=%.100q ", d.Seq, d.Key, d.Data)
			}
			e.Deliveries = append(e.Deliveries, Delivery{m, d.Seq, d.ID, d.Count})
		}
		if err != nil {
			e.Err = err.Error()
		}
		e.Phase, e.At = phaseOf(err), time.Now()
		r.w.add(e)
		r.settleSome(e.Deliveries)
		if err != nil {
			pause(r.random)
		}
		if len(got) == 0 && err == nil && !r.wait(ctx) {
			return
		}
	}
}

// wait waits until there is something to receive.
func (r *receiver) wait(ctx context.Context) bool {
	place, err := r.c.Queue(ctx)
	if err != nil {
		pause(r.random)
		return !errors.Is(err, store.ErrClosed)
	}
	defer place.Leave()
	select {
	case <-place.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

// release nacks what is on lease and not in old: a crash has cut off the receive, and nobody knows the ids. Otherwise the
// keys would wait for the ends of the leases.
func (r *receiver) release(ctx context.Context, old []Delivery) error {
	known := map[store.ID]bool{}
	for _, d := range old {
		known[d.ID] = true
	}
	s, err := r.c.State(ctx)
	if err != nil {
		return err
	}
	var unknown []Delivery
	for _, o := range s.Outstanding {
		if m, ok := parse(o.Message); ok && !known[o.ID] {
			unknown = append(unknown, Delivery{m, o.Seq, o.ID, o.Count})
		}
	}
	return r.settle(unknown, store.Nack, 0)
}

// settleSome acks most deliveries, nacks and returns others, some of them with a delay, and holds the rest, some of them with
// an extended lease.
func (r *receiver) settleSome(all []Delivery) {
	var now, later [3][]Delivery
	var extended []Delivery
	for _, d := range all {
		switch n := r.random.IntN(20); {
		case n < 12:
			now[store.Ack] = append(now[store.Ack], d)
		case n < 14:
			now[store.Nack] = append(now[store.Nack], d)
		case n < 16:
			now[store.Return] = append(now[store.Return], d)
		case n < 17:
			later[store.Nack] = append(later[store.Nack], d)
		case n < 18:
			later[store.Return] = append(later[store.Return], d)
		case n < 19:
			extended = append(extended, d)
			r.held = append(r.held, d)
		default:
			r.held = append(r.held, d)
		}
	}
	for how := range now {
		// What is refused is known from the events.
		_ = r.settle(now[how], store.Settlement(how), 0)
		_ = r.settle(later[how], store.Settlement(how), r.delay())
	}
	r.extend(extended)
}

// delay draws a delay. Few are long, because a delayed message keeps its key.
func (r *receiver) delay() time.Duration {
	if r.random.IntN(50) == 0 {
		return longDelay
	}
	return time.Duration(1 + r.random.Int64N(int64(shortDelay)))
}

// settle settles deliveries, with a delay if it is not 0.
func (r *receiver) settle(group []Delivery, how store.Settlement, delay time.Duration) (err error) {
	if len(group) == 0 {
		return nil
	}
	e := r.asked(Event{Op: Settle, How: how, Wait: delay, Deliveries: group})
	if delay > 0 {
		err = r.c.Delay(context.Background(), ids(group), how, delay)
	} else {
		err = r.c.Settle(context.Background(), ids(group), how)
	}
	r.w.finish(e, err)
	return err
}

// extend extends the leases of deliveries.
func (r *receiver) extend(group []Delivery) {
	if len(group) == 0 {
		return
	}
	e := r.asked(Event{Op: Extend, Wait: MaxWait, Deliveries: group})
	extended, err := r.c.Extend(context.Background(), ids(group), MaxWait)
	e.Deliveries = nil
	for _, d := range group {
		if slices.Contains(extended, d.ID) {
			e.Deliveries = append(e.Deliveries, d)
		} else {
			e.Ended = append(e.Ended, d)
		}
	}
	r.w.finish(e, err)
}

// asked adds the event that begins an operation.
func (r *receiver) asked(e Event) Event {
	e.Phase, e.At, e.Stream, e.Consumer = Asked, time.Now(), r.stream, r.consumer
	r.w.add(e)
	return e
}

func ids(all []Delivery) []store.ID {
	out := make([]store.ID, len(all))
	for i, d := range all {
		out[i] = d.ID
	}
	return out
}
