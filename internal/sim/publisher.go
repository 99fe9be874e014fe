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

// publisher is a program that sends messages as its plan says. One goroutine runs it.
type publisher struct {
	world   *world
	rec     *recorder
	name    string
	plan    publisherPlan
	client  *sequin.Client
	count   int // messages of all incarnations
	lives   int // incarnations
	pub     *sequin.Publisher
	current *incarnation
}

// incarnation is one of the Publishers that a program uses, one after the other.
type incarnation struct {
	name string
	sent []*message          // in the order of sending
	byID map[string]*message // an incarnation sends an id only once
}

// publish runs a publisher to its end.
func (w *world) publish(i int, plan publisherPlan) {
	p := &publisher{world: w, rec: w.rec, name: fmt.Sprintf("p%d", i), plan: plan}
	time.Sleep(plan.Start)
	p.open(nil)
	for _, st := range plan.Steps {
		time.Sleep(st.Pause)
		p.do(st)
	}
	p.close(lastPatience, nil)
}

// lastPatience is the time-out of a publisher's last Close. The temporary faults end within its first minutes; after that
// everything can be sent, and messages that nothing can send are found to be at fault.
const lastPatience = 30 * time.Minute

// open begins an incarnation. It first sends the unsent messages of the one before, in their order.
func (p *publisher) open(unsent []sequin.Message) {
	p.lives++
	p.current = &incarnation{name: fmt.Sprintf("%s.%d", p.name, p.lives), byID: map[string]*message{}}
	p.client = p.world.newClient(p.current.name, p.plan.Timeout)
	cfg, in := p.plan.Config, p.current
	if p.plan.OnFailure {
		cfg.OnFailure = func(e sequin.MessageError) { p.reportFailed(in, "OnFailure", e) }
	}
	pub, err := p.client.NewPublisher(streamName, cfg)
	if err != nil {
		p.rec.violate("a schedule is valid", "publisher %s: %v", p.name, err)
		pub, _ = p.client.NewPublisher(streamName, sequin.PublisherConfig{})
	}
	p.pub = pub
	for _, m := range unsent {
		x := p.note(m)
		x.resent = true
		p.sendUntilAccepted(func(ctx context.Context) error { return p.pub.SendMessage(ctx, m) }, x)
	}
}

// sendUntilAccepted repeats a send until the message is accepted, for an hour at most.
func (p *publisher) sendUntilAccepted(send func(context.Context) error, x *message) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		err := send(ctx)
		switch {
		case err == nil:
			p.rec.note(func() { x.accepted, x.took = true, time.Now() })
			return
		case errors.Is(err, sequin.ErrFailuresPending):
			p.flush(time.Minute)
		case ctx.Err() != nil:
			p.rec.violate("a Publisher accepts messages again after temporary failures", "%s refuses %s: %v", p.current.name, x.id, err)
			return
		}
		time.Sleep(time.Second)
	}
}

func (p *publisher) do(st step) {
	switch st.Do {
	case flush:
		p.flush(st.Patience)
	case restart:
		var unsent []sequin.Message
		p.close(st.Patience, &unsent)
		p.open(unsent)
	default:
		for i := range st.N {
			p.send(st, i)
		}
	}
}

// send sends the i-th message of a step.
func (p *publisher) send(st step, i int) {
	m := sequin.Message{Key: keyOf((p.count*7 + i) % st.Keys), Data: p.data(st, i)}
	if st.Headers {
		m.Headers = headersOf(idOf(m.Data))
	}
	x := p.note(m)
	ctx, cancel := context.WithTimeout(context.Background(), st.Patience)
	defer cancel()
	var err error
	switch st.Do {
	case send:
		err = p.pub.SendMessage(ctx, m)
	case trySend:
		err = p.pub.TrySendMessage(m)
	case sendReceipt:
		var r sequin.Receipt
		if r, err = p.pub.SendReceipt(ctx, m); err == nil {
			p.rec.note(func() { x.receipt = &r })
		}
	case sendSync:
		err = p.pub.SendSync(ctx, m)
		p.sendSyncEnded(x, err)
		return
	}
	p.rec.note(func() { x.accepted, x.took = err == nil, time.Now() })
	if errors.Is(err, sequin.ErrFailuresPending) {
		p.flush(time.Minute)
	}
}

// sendSyncEnded records the outcome that SendSync returned, unless it leaves the outcome open.
func (p *publisher) sendSyncEnded(x *message, err error) {
	p.rec.note(func() {
		x.took = time.Now()
		switch {
		case err == nil:
			x.accepted, x.outcomes = true, append(x.outcomes, outcome{kind: sent, by: "SendSync", at: x.took})
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sequin.ErrClosed), concernsStream(err):
			x.doubtful = true // not accepted, or accepted with an open outcome
		default:
			x.accepted, x.outcomes = true, append(x.outcomes, outcome{failed, "SendSync", err, x.took})
		}
	})
}

// concernsStream reports whether an error may concern the whole stream. SendSync returns such an error if the Publisher
// does not accept the message. A firewall's page may also be about the message alone.
func concernsStream(err error) bool {
	var answer *sequin.APIError
	return errors.Is(err, sequin.ErrUnauthorized) || errors.Is(err, sequin.ErrNotFound) || errors.Is(err, sequin.ErrFailuresPending) ||
		errors.As(err, &answer) && answer.Foreign
}

// payload is the data of a message.
type payload struct {
	ID  string `json:"id"`
	Pad string `json:"pad,omitempty"`
}

// data returns the data of a step's i-th message, with a new id.
func (p *publisher) data(st step, i int) string {
	p.count++
	x := payload{ID: fmt.Sprintf("%s/%d", p.name, p.count), Pad: strings.Repeat("x", st.Size)}
	if st.Poison && i == st.N-1 {
		x.Pad = poison
	}
	text, _ := json.Marshal(x) // strings cannot fail
	return string(text)
}

// idOf returns the id in the data of a message.
func idOf(data string) string {
	var x payload
	if json.Unmarshal([]byte(data), &x) != nil {
		return ""
	}
	return x.ID
}

// note records a message before it is sent.
func (p *publisher) note(m sequin.Message) *message {
	in := p.current
	x := &message{publisher: in.name, id: idOf(m.Data), key: m.Key, data: m.Data, headers: m.Headers, n: len(in.sent), at: time.Now()}
	p.rec.note(func() {
		in.sent, in.byID[x.id] = append(in.sent, x), x
		p.rec.messages = append(p.rec.messages, x)
	})
	return x
}

func (p *publisher) reportFailed(in *incarnation, by string, e sequin.MessageError) {
	p.report(in, e.Message, outcome{failed, by, e.Err, time.Now()})
}

// report records an outcome of a message.
func (p *publisher) report(in *incarnation, m sequin.Message, o outcome) {
	p.rec.note(func() {
		if x := in.byID[idOf(m.Data)]; x != nil {
			x.outcomes = append(x.outcomes, o)
		}
	})
}

func (p *publisher) flush(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.reportUnsent("Flush", p.pub.Flush(ctx), nil)
}

// reportUnsent records the outcomes in an UnsentError of Flush or Close, and adds the unsent messages to unsentMessages
// unless it is nil.
func (p *publisher) reportUnsent(by string, err error, unsentMessages *[]sequin.Message) {
	var e *sequin.UnsentError
	if !errors.As(err, &e) {
		return
	}
	for _, f := range e.Failed {
		p.reportFailed(p.current, by, f)
	}
	for _, m := range e.Unsent {
		p.report(p.current, m, outcome{kind: unsent, by: by, at: time.Now()})
		if unsentMessages != nil {
			*unsentMessages = append(*unsentMessages, m)
		}
	}
}

// close ends an incarnation and records the outcome in each receipt.
func (p *publisher) close(patience time.Duration, unsentMessages *[]sequin.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	asked, in := time.Now(), p.current
	err := p.pub.Close(ctx)
	p.reportUnsent("Close", err, unsentMessages)
	p.rec.note(func() {
		p.rec.stops = append(p.rec.stops, stop{actor: in.name, how: closed, asked: asked, at: time.Now(), err: err, last: patience == lastPatience})
		p.rec.totals = append(p.rec.totals, publisherTotals{in.name, p.pub.Stats()})
	})
	if late := time.Since(asked) - patience; late > 0 {
		p.rec.violate("Close ends with its ctx", "%s: Close took %v longer", in.name, late)
	}
	for _, x := range in.sent {
		p.readReceipt(x)
	}
}

// readReceipt records the outcome in a receipt after Close.
func (p *publisher) readReceipt(x *message) {
	if x.receipt == nil {
		return
	}
	select {
	case <-x.receipt.Done():
	default:
		p.rec.violate("every receipt is done after Close", "the receipt of %s of %s is not", x.id, x.publisher)
		return
	}
	o := outcome{by: "Receipt", err: x.receipt.Err(), at: time.Now()}
	switch {
	case o.err == nil:
		o.kind = sent
	case errors.Is(o.err, sequin.ErrClosed):
		return // Close reports it
	default:
		o.kind = failed
	}
	p.rec.note(func() { x.outcomes = append(x.outcomes, o) })
}
