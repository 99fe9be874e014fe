package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// consumption is the model of a consumer that programs of all kinds share: which messages are done for certain.
type consumption struct {
	mu    sync.Mutex
	dice  *rand.Rand
	done  map[int64]bool // the server has confirmed an ack
	wrong []string
}

func (c *consumption) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dice.IntN(n)
}

// within draws a time of whole milliseconds, and of fractions that no other part of the test uses.
func (c *consumption) within(d time.Duration) time.Duration {
	return time.Duration(c.draw(int(d/time.Microsecond))) * time.Microsecond
}

func (c *consumption) violated(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// confirm notes acks that the server has confirmed.
func (c *consumption) confirm(seqs ...int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, seq := range seqs {
		c.done[seq] = true
	}
}

// program is a process that consumes with one Subscriber until it stops.
type program struct {
	all  *consumption
	name string
	sub  *sequin.Subscriber

	mu    sync.Mutex
	acked []int64 // queued, and not confirmed yet
}

// get notes a delivery.
func (p *program) get(d sequin.Delivery) {
	p.all.mu.Lock()
	done := p.all.done[d.Seq]
	p.all.mu.Unlock()
	if done {
		p.all.violated("%s got %d, which was acked", p.name, d.Seq)
	}
}

// settle draws what becomes of a delivery. A few are forgotten, and come again when their leases end.
func (p *program) settle(d sequin.Delivery) {
	switch p.all.draw(16) {
	case 0:
		_ = d.Nack()
	case 1:
		_ = d.NackAfter(p.all.within(5 * time.Second))
	case 2, 3:
		_ = d.Release()
	case 4:
		if d.AckSync(context.Background()) == nil {
			p.all.confirm(d.Seq)
		}
	case 5:
		if d.Extend(context.Background(), 20*time.Second) == nil {
			time.Sleep(p.all.within(15 * time.Second))
		}
		p.ack(d)
	case 6:
		time.Sleep(p.all.within(12 * time.Second)) // of a lease of 10 s
		p.ack(d)
	case 7:
		if p.all.draw(4) > 0 {
			p.ack(d)
		}
	default:
		time.Sleep(p.all.within(20 * time.Millisecond))
		p.ack(d)
	}
}

func (p *program) ack(d sequin.Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.Ack() == nil {
		p.acked = append(p.acked, d.Seq)
	}
}

// confirmAll takes the acks that were queued before call, which returns nil if the server has confirmed them.
func (p *program) confirmAll(call func() error) error {
	p.mu.Lock()
	queued := p.acked
	p.acked = nil
	p.mu.Unlock()
	err := call()
	if err == nil {
		p.all.confirm(queued...)
	}
	return err
}

// consume reads in one of the ways that there are, until the Subscriber or ctx ends.
func (p *program) consume(ctx context.Context) {
	var readers sync.WaitGroup
	defer readers.Wait()
	for range 1 + p.all.draw(3) {
		switch p.all.draw(3) {
		case 0:
			readers.Go(func() {
				for d := range p.sub.Deliveries() {
					p.get(d)
					p.settle(d)
				}
			})
		case 1:
			readers.Go(func() {
				for d, err := range p.sub.All(ctx) {
					if err == nil {
						p.get(d)
						p.settle(d)
					}
				}
			})
		default:
			readers.Go(func() {
				for {
					some, err := p.sub.Take(ctx, 1+p.all.draw(10))
					if err != nil {
						return
					}
					for _, d := range some {
						p.get(d)
					}
					for _, d := range some {
						p.settle(d)
					}
				}
			})
		}
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(p.all.within(3 * time.Second))
			_ = p.confirmAll(func() error { return p.sub.Flush(ctx) })
		}
	})
}

// stop stops the Subscriber in one of the ways that there are. Where it says that nothing is left, the server must agree.
func (p *program) stop(w *world, cancel context.CancelFunc) {
	how, began := p.all.draw(4), time.Now()
	ctx, end := context.WithTimeout(context.Background(), 5*time.Second)
	defer end()
	err := p.confirmAll(func() error {
		switch how {
		case 0:
			cancel()
			return p.sub.Close(context.Background())
		case 1:
			return p.sub.Close(ctx)
		case 2:
			go func() { _ = p.sub.Close(ctx) }()
		}
		return p.sub.CloseNow(ctx)
	})
	bound := 7 * time.Second // that of ctx, and one margin for the last settles
	if how == 0 {
		bound = 21 * time.Second // the longest lease, of which a second is left for a late answer
	}
	if took := time.Since(began); took > bound+time.Millisecond {
		p.all.violated("%s: stop %d took %v", p.name, how, took)
	}
	if err != nil {
		var left *sequin.DrainError
		if !errors.As(err, &left) {
			p.all.violated("%s: %v", p.name, err)
		}
		return
	}
	mine := map[string]bool{}
	for _, r := range w.Requests(sequintest.Receive) {
		if by(p.name)(&r) {
			for _, d := range r.Deliveries() {
				mine[d.AckID] = true
			}
		}
	}
	state, _ := w.Stream("orders")
	for _, m := range state.Consumers[0].Outstanding {
		if mine[m.AckID] && m.Until.After(time.Now()) {
			p.all.violated("%s: stop %d returned nil, and %d stays leased until %v", p.name, how, m.Seq, time.Until(m.Until))
		}
	}
}

// run runs one program for a random time.
func (c *consumption) run(ctx context.Context, t *testing.T, w *world, name string) {
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	sub, err := w.as(t, name).Subscribe(life, "orders", "all", sequin.SubscriberConfig{MaxInFlight: 5 + c.draw(50), Pollers: c.draw(4)})
	if err != nil {
		return // a fault, or the end
	}
	p := &program{all: c, name: name, sub: sub}
	consumed := make(chan struct{})
	go func() {
		defer close(consumed)
		p.consume(life)
	}()
	time.Sleep(c.within(20 * time.Second))
	p.stop(w, cancel)
	cancel()
	<-consumed
}

// Programs read in all ways, settle in all ways, and stop in all ways, while requests fail and are slow. Nothing that is acked for certain
// comes again, nothing is lost, and a stop that leaves nothing says so only if that is true.
func TestProgramsOfAllKindsLoseNothing(t *testing.T) {
	t.Parallel() // one of the longest
	for _, without := range [][]string{nil, {"end-receive"}} {
		for seed := range 3 {
			t.Run(fmt.Sprintf("without %v, run %d", without, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, sequintest.Config{WithoutExtensions: without, KeepRequests: 100_000}, sequin.Config{})
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
					c := &consumption{dice: rand.New(rand.NewPCG(7, uint64(seed))), done: map[int64]bool{}}
					c.injectFaults(w, without == nil)
					ctx, end := context.WithCancel(w.ctx)
					var all sync.WaitGroup
					for i := range 3 {
						all.Go(func() {
							for life := 0; ctx.Err() == nil; life++ {
								c.run(ctx, t, w, fmt.Sprintf("program %d.%d", i, life))
							}
						})
					}
					const n = 300
					for i := range n {
						w.send(t, fmt.Sprintf("k.%d", c.draw(60)), fmt.Sprint(i))
						time.Sleep(c.within(time.Second))
					}
					for range 600 {
						time.Sleep(time.Second)
						if k := w.consumer(t); k.Available+k.Delayed+len(k.Outstanding) == 0 {
							break
						}
					}
					w.requireDone(t)
					end()
					all.Wait()
					require.Empty(t, c.wrong)
				})
			})
		}
	}
}

// injectFaults makes some requests fail. No answer to a receive is lost, because its messages could not be returned, and none is late
// that a stop may cancel.
func (c *consumption) injectFaults(w *world, endsReceives bool) {
	for _, op := range []sequintest.Op{sequintest.Receive, sequintest.Ack, sequintest.Nack, sequintest.Extend, sequintest.EndReceive} {
		often := func(*sequintest.Request) bool { return c.draw(20) == 0 }
		w.Fault(sequintest.Fault{Op: op, Match: often, Status: 503, Body: ownRefusal})
		w.Fault(sequintest.Fault{Op: op, Match: often, Delay: 47 * time.Millisecond})
		if op != sequintest.Receive || endsReceives {
			w.Fault(sequintest.Fault{Op: op, Match: often, DelayAfter: 31 * time.Millisecond})
		}
		if op != sequintest.Receive {
			w.Fault(sequintest.Fault{Op: op, Match: often, CutAfter: true})
		}
	}
}
