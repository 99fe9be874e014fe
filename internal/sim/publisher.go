package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
)

// publisher is a program that sends what its plan says.
type publisher struct {
	*world
	name    string
	plan    publisherPlan
	client  *sequin.Client
	count   int // of messages, over all incarnations
	lives   int
	pub     *sequin.Publisher
	current *incarnation
}

// incarnation is the life of one Publisher.
type incarnation struct {
	name string
	sent []*message          // by number
	byID map[string]*message // an id is sent once in an incarnation
}

func (w *world) publish(i int, plan publisherPlan) {
	p := &publisher{world: w, name: fmt.Sprintf("p%d", i), plan: plan}
	time.Sleep(plan.Start)
	p.open(nil)
	for _, st := range plan.Steps {
		time.Sleep(st.Pause)
		p.take(st)
	}
	// Whatever still goes wrong ends before that, or is the server's nature.
	p.close(5*time.Minute, nil)
}

// open begins an incarnation, which first sends what the one before had left, in its order.
func (p *publisher) open(left []sequin.Message) {
	p.lives++
	p.current = &incarnation{name: fmt.Sprintf("%s.%d", p.name, p.lives), byID: map[string]*message{}}
	p.client = p.newClient(p.current.name, p.plan.Timeout)
	cfg, life := p.plan.Config, p.current
	if p.plan.OnFailure {
		cfg.OnFailure = func(e sequin.MessageError) { p.fails(life, "OnFailure", e) }
	}
	pub, err := p.client.NewPublisher(streamName, cfg)
	if err != nil {
		p.l.violate("a schedule makes sense", "publisher %s: %v", p.name, err)
		pub, _ = p.client.NewPublisher(streamName, sequin.PublisherConfig{})
	}
	p.pub = pub
	for _, m := range left {
		x := p.note(m)
		x.resent = true
		p.retrying(func(ctx context.Context) error { return p.pub.Send(ctx, m.Key, m.Data) }, x)
	}
}

// retrying sends what must not be given up: until it is accepted, or an hour is over.
func (p *publisher) retrying(send func(context.Context) error, x *message) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		err := send(ctx)
		switch {
		case err == nil:
			p.l.note(func() { x.accepted, x.took = true, time.Now() })
			return
		case errors.Is(err, sequin.ErrFailuresPending):
			p.flush(p.current, time.Minute)
		case ctx.Err() != nil:
			p.l.violate("a Publisher takes messages again after its troubles", "%s refuses %s: %v", p.current.name, x.id, err)
			return
		}
		time.Sleep(time.Second)
	}
}

func (p *publisher) take(st step) {
	switch st.Do {
	case flush:
		p.flush(p.current, st.Patience)
	case restart:
		var left []sequin.Message
		p.close(st.Patience, &left)
		p.open(left)
	default:
		for i := range st.N {
			p.send(st, i)
		}
	}
}

// send makes the step's i-th message and sends it.
func (p *publisher) send(st step, i int) {
	m := sequin.Message{Key: keyOf((p.count*7 + i) % st.Keys), Data: p.data(st, i)}
	x := p.note(m)
	ctx, cancel := context.WithTimeout(context.Background(), st.Patience)
	defer cancel()
	var err error
	switch st.Do {
	case send:
		err = p.pub.Send(ctx, m.Key, m.Data)
	case trySend:
		err = p.pub.TrySend(m.Key, m.Data)
	case sendReceipt:
		var r sequin.Receipt
		if r, err = p.pub.SendReceipt(ctx, m); err == nil {
			p.l.note(func() { x.receipt = &r })
		}
	case sendSync:
		err = p.pub.SendSync(ctx, m)
		p.ended(x, err)
		return
	}
	p.l.note(func() { x.accepted, x.took = err == nil, time.Now() })
	if errors.Is(err, sequin.ErrFailuresPending) {
		p.flush(p.current, time.Minute)
	}
}

// ended notes the fate that SendSync tells of, as far as it does.
func (p *publisher) ended(x *message, err error) {
	p.l.note(func() {
		x.took = time.Now()
		switch {
		case err == nil:
			x.accepted, x.fates = true, append(x.fates, fate{sent, "SendSync", nil})
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sequin.ErrClosed), p.refused(err):
			x.doubtful = true // not accepted, or accepted and nobody waits for it any more
		default:
			x.accepted, x.fates = true, append(x.fates, fate{failed, "SendSync", err})
		}
	})
}

// refused tells errors that mean the whole stream: SendSync has them from a Publisher that takes nothing, and for a
// message that failed with its batch.
func (p *publisher) refused(err error) bool {
	return errors.Is(err, sequin.ErrUnauthorized) || errors.Is(err, sequin.ErrNotFound) || errors.Is(err, sequin.ErrFailuresPending)
}

type payload struct {
	ID  string `json:"id"`
	Pad string `json:"pad,omitempty"`
}

func (p *publisher) data(st step, i int) string {
	p.count++
	x := payload{ID: fmt.Sprintf("%s/%d", p.name, p.count), Pad: strings.Repeat("x", st.Size)}
	if st.Poison && i == st.N-1 {
		x.Pad = poison
	}
	text, _ := json.Marshal(x) // of strings
	return string(text)
}

// idOf reads the id back.
func idOf(data string) string {
	var x payload
	if json.Unmarshal([]byte(data), &x) != nil {
		return ""
	}
	return x.ID
}

// note enters a message before it is sent.
func (p *publisher) note(m sequin.Message) *message {
	life := p.current
	x := &message{publisher: life.name, id: idOf(m.Data), key: m.Key, data: m.Data, n: len(life.sent), at: time.Now()}
	p.l.note(func() {
		life.sent, life.byID[x.id] = append(life.sent, x), x
		p.l.messages = append(p.l.messages, x)
	})
	return x
}

func (p *publisher) fails(life *incarnation, by string, e sequin.MessageError) {
	p.tells(life, e.Message, fate{failed, by, e.Err})
}

func (p *publisher) tells(life *incarnation, m sequin.Message, f fate) {
	p.l.note(func() {
		if x := life.byID[idOf(m.Data)]; x != nil {
			x.fates = append(x.fates, f)
		}
	})
}

func (p *publisher) flush(life *incarnation, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.learn(life, "Flush", p.pub.Flush(ctx), nil)
}

// learn enters what an error of Flush or Close tells.
func (p *publisher) learn(life *incarnation, by string, err error, left *[]sequin.Message) {
	var e *sequin.UnsentError
	if !errors.As(err, &e) {
		return
	}
	for _, f := range e.Failed {
		p.fails(life, by, f)
	}
	for _, m := range e.Unsent {
		p.tells(life, m, fate{unsent, by, nil})
		if left != nil {
			*left = append(*left, m)
		}
	}
}

// close ends an incarnation and asks every receipt.
func (p *publisher) close(patience time.Duration, left *[]sequin.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	asked, life := time.Now(), p.current
	err := p.pub.Close(ctx)
	p.learn(life, "Close", err, left)
	p.l.note(func() {
		p.l.stops = append(p.l.stops, stop{actor: life.name, how: closed, asked: asked, at: time.Now(), err: err})
		p.l.totals = append(p.l.totals, publisherTotals{life.name, p.pub.Stats()})
	})
	if late := time.Since(asked) - patience; late > 0 {
		p.l.violate("a Close ends with its ctx", "%s: Close took %v longer", life.name, late)
	}
	for _, x := range life.sent {
		p.ask(x)
	}
}

// ask enters what a receipt says after Close.
func (p *publisher) ask(x *message) {
	if x.receipt == nil {
		return
	}
	select {
	case <-x.receipt.Done():
	default:
		p.l.violate("every receipt is over after Close", "%s of %s is not", x.id, x.publisher)
		return
	}
	f := fate{by: "Receipt", err: x.receipt.Err()}
	switch {
	case f.err == nil:
		f.kind = sent
	case errors.Is(f.err, sequin.ErrClosed):
		return // Close lists it
	default:
		f.kind = failed
	}
	p.l.note(func() { x.fates = append(x.fates, f) })
}
