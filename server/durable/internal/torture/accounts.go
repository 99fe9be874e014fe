package torture

import (
	"fmt"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Accounts follow the events of one load after another. They are not safe for concurrent use.
type Accounts struct {
	events    int // that were applied
	sends     map[string][][]*sent
	consumers map[string]*consumer    // by stream/consumer
	churned   map[string]*churned     // streams, by name
	gone      map[string]*churned     // their consumers, by the name of the stream
	purges    map[string][]*operation // steps, by stream
	faults    []string
}

// operation is what is known about an operation that may be attempted several times.
type operation struct {
	asked   int  // the first event
	done    int  // the event of the success, or 0
	unknown bool // an attempt may have taken place
	open    bool // an attempt is under way
}

func (o *operation) apply(e Event, at int) {
	switch e.Phase {
	case Asked:
		if o.asked == 0 {
			o.asked = at
		}
		o.open = true
	case Done:
		o.done, o.open = at, false
	case Unknown:
		o.unknown, o.open = true, false
	case Refused:
		o.open = false
	}
}

// impossible reports whether the operation cannot have taken place.
func (o *operation) impossible() bool { return o.done == 0 && !o.unknown && !o.open }

// sent is a send.
type sent struct {
	operation
	worker, number int
}

// churned is a stream or a consumer that is created and perhaps deleted.
type churned struct{ create, remove operation }

// consumer is what is known about a consumer.
type consumer struct {
	stream   string
	limited  bool
	ordered  bool // every message of a key must be settled before the next
	messages map[Message]*received
	lost     bool // leases and counts of the last moment
	doubts   int  // receives of which no answer is known
	open     int  // receives that are under way
}

// received is what is known about a message at a consumer.
type received struct {
	seq      int64
	got      int // deliveries
	returned int // of them, those whose return was asked for
	ack      operation
	out      map[string]Delivery // on lease, by ack id
	hidden   hidden              // since the last delivery
}

// hidden is a delay, or an extended lease, of a delivery. A message is not delivered again until it ends.
type hidden struct {
	operation
	id    store.ID
	state store.State
	until time.Time // not earlier
}

// NewAccounts returns accounts of nothing.
func NewAccounts() *Accounts {
	a := &Accounts{
		sends: map[string][][]*sent{}, consumers: map[string]*consumer{}, churned: map[string]*churned{}, gone: map[string]*churned{},
		purges: map[string][]*operation{},
	}
	for _, o := range streamOptions {
		a.sends[o.Name] = make([][]*sent, sendersOfStream)
		for _, name := range consumerNames {
			a.consumers[o.Name+"/"+name] = &consumer{
				stream: o.Name, limited: name == limitedConsumer, ordered: o.Name == logStream, messages: map[Message]*received{},
			}
		}
	}
	return a
}

func (a *Accounts) fault(format string, args ...any) {
	const most = 20 // the first ones tell what is wrong
	if len(a.faults) < most {
		a.faults = append(a.faults, fmt.Sprintf(format, args...))
	}
}

// Apply applies an event.
func (a *Accounts) Apply(e Event) {
	a.events++
	at := a.events
	switch e.Op {
	case Send:
		a.applySend(e, at)
	case Receive:
		a.applyReceive(e)
	case Settle:
		a.applySettle(e, at)
	case Extend:
		a.applyExtend(e, at)
	case Purge:
		a.applyPurge(e, at)
	case Create, Delete:
		all := a.churned
		if e.Consumer != "" {
			all = a.gone
		}
		c := all[e.Stream]
		if c == nil {
			c = &churned{}
			all[e.Stream] = c
		}
		if e.Op == Create {
			c.create.apply(e, at)
		} else {
			c.remove.apply(e, at)
		}
	}
}

func (a *Accounts) applySend(e Event, at int) {
	all := &a.sends[e.Stream][e.Worker]
	for len(*all) <= e.Send {
		*all = append(*all, &sent{worker: e.Worker, number: len(*all)})
	}
	(*all)[e.Send].apply(e, at)
}

func (a *Accounts) applyReceive(e Event) {
	c := a.consumers[e.Stream+"/"+e.Consumer]
	switch e.Phase {
	case Asked:
		c.open++
		return
	case Unknown:
		c.doubts++
	case Done:
		if e.Err != "" {
			a.fault("%s/%s: %s", e.Stream, e.Consumer, e.Err)
		}
	}
	c.open--
	for _, d := range e.Deliveries {
		a.applyDelivery(c, e, d)
	}
}

func (a *Accounts) applyDelivery(c *consumer, e Event, d Delivery) {
	r := c.message(d.Message)
	name := fmt.Sprintf("event %d, %s/%s: message %v, delivery %d (%v)", a.events, e.Stream, e.Consumer, d.Message, d.Count, d.ID)
	if r.ack.done > 0 {
		a.fault("%s: it was acked by event %d", name, r.ack.done)
	}
	if len(r.out) > 0 {
		a.fault("%s: it is on lease: %v", name, r.out)
	}
	if least := 1 + r.got - r.returned; d.Count < least && !c.limited && !c.lost || d.Count > 1+r.got+c.doubts {
		a.fault("%s: there were %d, %d of them returned, and %d receives in doubt", name, r.got, r.returned, c.doubts)
	}
	if r.hidden.done > 0 && e.At.Before(r.hidden.until) {
		a.fault("%s: it was hidden until %v by event %d", name, r.hidden.until, r.hidden.done)
	}
	r.hidden = hidden{}
	if c.limited && d.Count > maxDeliver {
		a.fault("%s: max_deliver is %d", name, maxDeliver)
	}
	if c.ordered {
		a.checkOrder(c, d.Message, name)
	}
	if r.seq != 0 && d.Seq != r.seq {
		a.fault("%s: it has seq %d, and had seq %d: its send was stored twice", name, d.Seq, r.seq)
	}
	r.got++
	r.seq = d.Seq
	r.out[d.ID.String()] = d
}

// checkOrder holds that the message of the key before this one may be settled.
func (a *Accounts) checkOrder(c *consumer, m Message, name string) {
	for send := m.Send - 1; send >= 0; send-- {
		for i := range batchSize(send) {
			earlier := Message{m.Worker, send, i}
			if earlier.key() != m.key() {
				continue
			}
			r := c.message(earlier)
			exhausted := c.limited && r.got+c.doubts >= maxDeliver
			if r.ack.asked == 0 && !exhausted {
				a.fault("%s: %v, which has its key, is not settled", name, earlier)
			}
			return
		}
	}
}

func (c *consumer) message(m Message) *received {
	r := c.messages[m]
	if r == nil {
		r = &received{out: map[string]Delivery{}}
		c.messages[m] = r
	}
	return r
}

func (a *Accounts) applySettle(e Event, at int) {
	c := a.consumers[e.Stream+"/"+e.Consumer]
	for _, d := range e.Deliveries {
		r := c.message(d.Message)
		_, out := r.out[d.ID.String()]
		r.hide(e, d, at, e.Wait > 0, store.Delayed)
		switch {
		case e.Phase == Asked:
			if e.How == store.Return {
				r.returned++
			}
			if out && e.How != store.Ack {
				// It may be delivered again from now on.
				delete(r.out, d.ID.String())
			}
		case e.Phase == Refused:
			r.out[d.ID.String()] = d
		}
		if e.How != store.Ack {
			continue
		}
		r.ack.apply(e, at)
		if e.Phase == Done || e.Phase == Unknown {
			delete(r.out, d.ID.String())
		}
	}
}

// hide notes a delay or an extension of a delivery, or a settle that has neither.
func (r *received) hide(e Event, d Delivery, at int, hides bool, state store.State) {
	if e.Phase == Asked {
		r.hidden = hidden{}
		if hides {
			r.hidden = hidden{id: d.ID, state: state, until: e.At.Add(e.Wait)}
		}
	}
	if r.hidden.id == d.ID && hides { // it has not been delivered since it was asked for
		r.hidden.apply(e, at)
	}
}

func (a *Accounts) applyExtend(e Event, at int) {
	c := a.consumers[e.Stream+"/"+e.Consumer]
	for _, d := range e.Deliveries {
		c.message(d.Message).hide(e, d, at, true, store.Delivered)
	}
	for _, d := range e.Ended {
		r := c.message(d.Message)
		r.hidden = hidden{}
		if _, out := r.out[d.ID.String()]; out && e.Phase == Done && e.Stream != keepStream { // which drops messages
			a.fault("event %d, %s/%s: the lease of message %v (%v) has ended", a.events, e.Stream, e.Consumer, d.Message, d.ID)
		}
	}
}

// Crashed notes that what was under way has ended without an answer. After a loss of power leases may have ended and counts
// may be lower.
func (a *Accounts) Crashed(powerLoss bool) {
	for _, workers := range a.sends {
		for _, all := range workers {
			for _, s := range all {
				s.crashed()
			}
		}
	}
	for _, c := range a.consumers {
		c.doubts += c.open
		c.open, c.lost = 0, c.lost || powerLoss
		for _, r := range c.messages {
			if r.ack.crashed() || powerLoss {
				clear(r.out) // it is acked, or on lease, or not
			}
		}
	}
	for _, steps := range a.purges {
		for _, step := range steps {
			step.crashed()
		}
	}
	for _, all := range []map[string]*churned{a.churned, a.gone} {
		for _, c := range all {
			c.create.crashed()
			c.remove.crashed()
		}
	}
}

// crashed reports whether an attempt was under way.
func (o *operation) crashed() bool {
	open := o.open
	o.unknown, o.open = o.unknown || open, false
	return open
}

// Plan returns where the next load begins.
func (a *Accounts) Plan() Plan {
	p := Plan{Next: map[string][]int{}, Out: map[string][]Delivery{}, Purges: map[string]int{}, Churn: len(a.churned)}
	for stream, workers := range a.sends {
		for _, all := range workers {
			next := len(all)
			if next > 0 && all[next-1].done == 0 {
				next--
			}
			p.Next[stream] = append(p.Next[stream], next)
		}
	}
	for stream, steps := range a.purges {
		p.Purges[stream] = len(steps)
		if n := len(steps); n > 0 && steps[n-1].done == 0 {
			p.Purges[stream]--
		}
	}
	for name, c := range a.consumers {
		for _, r := range c.messages {
			for _, d := range r.out {
				p.Out[name] = append(p.Out[name], d)
			}
		}
	}
	return p
}
