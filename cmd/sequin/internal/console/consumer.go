package console

import (
	"net/url"
	"strconv"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

// consumerRow is a consumer with what a person looks at first.
type consumerRow struct {
	overview.Consumer
	URL    string
	Health health
	Oldest string // age of the oldest unsettled message
}

// health says in a word how a consumer does, and why.
type health struct {
	Level string // good, idle, warn, bad, or "" if it is not known
	Word  string
	Why   string
}

func newConsumerRow(stream string, c overview.Consumer) consumerRow {
	row := consumerRow{Consumer: c, URL: consumerURL(stream, c.Name), Health: healthOf(c), Oldest: unknown}
	if c.OldestKnown && c.Backlog > 0 {
		row.Oldest = overview.Span(c.OldestAge)
	}
	return row
}

const (
	// manyAgain is the share of redeliveries that is told. Some are usual when a program stops.
	manyAgain = 0.1
	// lateFactor is after how many ack waits the oldest message counts as late. A message that fails a few times takes as many.
	lateFactor = 5
	// recent is how many rates count for the state of a consumer: those of about 10 s. Programs ask again within that time.
	recent = 10
)

// healthOf returns the worst that is true of a consumer.
func healthOf(c overview.Consumer) health {
	available := c.Backlog - c.Outstanding - c.Delayed
	delivered, again := lately(c.Deliveries), lately(c.Redeliveries)
	unheard := available > 0 && c.Waiting == 0 && c.Deliveries.Known && delivered == 0
	switch {
	case !c.Measured:
		return health{}
	case c.Backlog == 0 && c.Waiting > 0:
		return health{"good", "Up to date", "Everything is settled, and " + plural(c.Waiting, "receive waits", "receives wait") + " for more."}
	case c.Backlog == 0:
		return health{"idle", "Up to date", "Everything is settled. No receive waits for more."}
	case c.Outstanding+c.Delayed >= int64(c.MaxAckPending):
		return health{"bad", "Full", plural(c.Outstanding+c.Delayed, "message is", "messages are") + " on lease or kept back, the most that max_ack_pending allows. " +
			"No others are delivered until some are settled."}
	case c.Delayed >= c.Backlog:
		return health{"warn", "Delayed", "Every message that is not settled is kept back by a nack with a delay."}
	case unheard && c.Outstanding == 0:
		return health{"bad", "Not received", "Messages are available, and no program receives them."}
	case unheard:
		return health{"warn", "Not received", plural(c.Outstanding, "message is", "messages are") + " on lease. The others are available, and no program receives them."}
	case again >= manyAgain*delivered && again > 0:
		return health{"warn", "Failing", percent(again/max(again, delivered)) + " of the deliveries are not the first: programs nack the messages, or do not settle them within the ack wait of " +
			overview.Span(c.AckWait) + "."}
	case c.OldestKnown && c.OldestAge > lateFactor*c.AckWait:
		return health{"warn", "Behind", "The oldest message that is not settled has waited for " + overview.Span(c.OldestAge) + "."}
	case !c.Deliveries.Known && c.Outstanding == 0 && c.Waiting == 0:
		return health{} // nothing tells yet whether a program receives
	}
	return health{"good", "Working", "Messages are received and settled."}
}

// lately returns the sum of the last rates. A single one is often 0 where little happens.
func lately(r overview.Rate) (sum float64) {
	for _, v := range r.History[max(0, len(r.History)-recent):] {
		sum += v
	}
	return sum
}

// plural writes a number with its noun.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return overview.Number(n) + " " + many
}

// consumerPage shows a consumer and what it has not settled.
type consumerPage struct {
	consumerRow
	Stream   string
	Created  moment
	Settings []fact
	Pattern  string
	Problem  string // of the pattern
	Rows     []unsettledRow
	Searched seqRange
	Next     string // URL of the next page
	First    string // URL of the first page
	Nackable bool   // one of the rows can be nacked

	MayAdmin, MayRedrive bool
}

// unsettledRow is a message that a consumer has not settled.
type unsettledRow struct {
	messageRow
	State      string
	Deliveries int
	Why        string
	AckID      string // of a lease that this person may end; "" for none
}

func showConsumer(v *visit) (*page, error) {
	stream, name := v.r.PathValue("stream"), v.r.PathValue("consumer")
	d, c, err := v.findConsumer(stream, name)
	if err != nil {
		return nil, err
	}
	query := v.r.URL.Query()
	p := &consumerPage{
		consumerRow: newConsumerRow(d.Stream.Name, *c), Stream: d.Stream.Name, Created: ago(v.now, c.InsertedAt), Settings: settings(&c.Consumer),
		Pattern: query.Get("pattern"), MayAdmin: v.may(server.CanAdmin), MayRedrive: v.may(server.CanConsume) && v.may(server.CanSend),
	}
	if err := v.unsettled(p, d); err != nil {
		return nil, err
	}
	live := p.First == ""
	return &page{title: c.Name, name: "consumer", data: p, live: live, crumbs: []crumb{{"Streams", home}, {p.Stream, streamURL(p.Stream)}}}, nil
}

// unsettled reads the messages that the URL asks for.
func (v *visit) unsettled(p *consumerPage, d *overview.Detail) (err error) {
	query, ctx := v.r.URL.Query(), v.r.Context()
	q := sequin.ListOptions{KeyPattern: p.Pattern, Sort: sequin.SortAscending, Limit: perPage(&d.Stream.Stream)}
	to := func(query url.Values) string { return href(query, "streams", p.Stream, "consumers", p.Name) }
	beyond, _ := strconv.ParseInt(query.Get("beyond"), 10, 64)
	if q.AfterSeq = max(0, beyond); q.AfterSeq > 0 {
		p.First = to(with(query, "beyond", ""))
	}
	if p.Pattern != "" && d.Server.Has("paging") {
		if p.Searched, err = limitSearch(&q, v.firstUnsettled(p.Stream, p.Name)); err != nil {
			return err
		}
	}
	found, err := v.client.PeekMessages(ctx, p.Stream, p.Name, q)
	if isNoPattern(err) {
		p.Problem, p.Searched = notPattern, seqRange{}
		return nil
	}
	if err != nil {
		return err
	}
	for i := range found {
		p.Rows = append(p.Rows, v.unsettledRow(p.Stream, &found[i]))
		p.Nackable = p.Nackable || p.Rows[i].AckID != ""
	}
	if len(found) == q.Limit {
		p.Searched = seqRange{next: found[len(found)-1].Message.Seq}
	}
	if p.Searched.Partial() && d.Server.Has("paging") {
		p.Next = to(with(query, "beyond", strconv.FormatInt(p.Searched.next, 10)))
	}
	return nil
}

// findConsumer finds a consumer of a stream by its name or its id.
func (v *visit) findConsumer(stream, name string) (*overview.Detail, *overview.Consumer, error) {
	d, err := v.watch.Stream(v.r.Context(), stream)
	if err != nil {
		return nil, nil, err
	}
	for i := range d.Consumers {
		if c := &d.Consumers[i]; c.Name == name || c.ID == name {
			return d, c, nil
		}
	}
	// What is known is up to a second old. The consumer may be younger.
	c, err := v.client.GetConsumer(v.r.Context(), stream, name)
	if err != nil {
		return nil, nil, err
	}
	return d, &overview.Consumer{Consumer: *c}, nil
}

func settings(c *sequin.Consumer) []fact {
	deliveries := "unlimited"
	if c.MaxDeliver != sequin.Unlimited {
		deliveries = overview.Number(c.MaxDeliver)
	}
	facts := []fact{
		{"Filter", c.Filter}, {"Ack wait", overview.Span(c.AckWait)}, {"Max ack pending", overview.Number(c.MaxAckPending)},
		{"Max deliver", deliveries}, {"Max waiting", overview.Number(c.MaxWaiting)},
	}
	if c.StartSeq > 1 {
		facts = append(facts, fact{"Starts at seq", overview.Number(c.StartSeq)})
	}
	return facts
}

func (v *visit) unsettledRow(stream string, m *sequin.PeekedMessage) unsettledRow {
	row := unsettledRow{
		messageRow: v.messageRow(stream, &m.Message), State: stateWord(m.Info.State), Deliveries: m.Info.DeliverCount, Why: v.reason(&m.Info),
	}
	if row.State == leased && v.may(server.CanConsume) {
		row.AckID = m.Info.AckID
	}
	return row
}

// leased is the state of a message on lease, for which the API has two words.
const leased = "on lease"

func stateWord(state string) string {
	switch state {
	case sequin.StateDelivered, sequin.StatePending:
		return leased
	case sequin.StatePendingRedelivery:
		return "replaced"
	}
	return state
}

// reason says why a message is not settled.
func (v *visit) reason(i *sequin.DeliveryInfo) string {
	switch {
	case stateWord(i.State) == leased && i.NotVisibleUntil.After(v.now):
		return "delivery " + overview.Number(i.DeliverCount) + overview.LastDelivery(i, v.now) + "; the lease ends in " + overview.Span(i.NotVisibleUntil.Sub(v.now).Round(time.Second))
	case i.State == sequin.StateDelayed:
		return overview.Deliveries(i, v.now) + "; kept back for " + overview.Span(i.NotVisibleUntil.Sub(v.now).Round(time.Second)) + " more"
	case i.State == sequin.StateWithheld:
		return "waits until an earlier message of its key is settled"
	case i.State == sequin.StateAcked:
		return overview.Deliveries(i, v.now)
	}
	return overview.NotSettled(i, v.now)
}
