package server

import (
	"errors"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Defaults of a consumer, as they were recorded.
const (
	defaultAckWait       = 30 * time.Second
	defaultMaxAckPending = 10_000
	defaultMaxWaiting    = 20
)

var defaultLimits = store.ConsumerLimits{AckWait: defaultAckWait, MaxAckPending: defaultMaxAckPending, MaxWaiting: defaultMaxWaiting}

type consumerJSON struct {
	ID             string  `json:"id"`
	Name           string  `json:"name"`
	AccountID      string  `json:"account_id"`
	StreamID       string  `json:"stream_id"`
	Filter         string  `json:"filter_key_pattern"`
	Kind           string  `json:"kind"`
	Status         string  `json:"status"`
	AckWaitMS      int64   `json:"ack_wait_ms"`
	MaxAckPending  int     `json:"max_ack_pending"`
	MaxDeliver     *int    `json:"max_deliver"`
	MaxWaiting     int     `json:"max_waiting"`
	HTTPEndpointID *string `json:"http_endpoint_id"` // always null: this server has no push consumers
	InsertedAt     string  `json:"inserted_at"`
	UpdatedAt      string  `json:"updated_at"`
	StartSeq       int64   `json:"start_seq,omitempty"` // where the extension start is on
}

func (c *call) consumerJSON(i store.ConsumerInfo) consumerJSON {
	start := i.Start
	if !c.srv.starts {
		start = 0
	}
	return consumerJSON{
		ID: i.ID, Name: i.Name, AccountID: c.srv.store.ID(), StreamID: i.StreamID, Filter: i.Filter,
		Kind: "pull", Status: status(i.Disabled),
		AckWaitMS: i.AckWait.Milliseconds(), MaxAckPending: i.MaxAckPending,
		MaxDeliver: c.srv.dialect.maxDeliver(i.MaxDeliver), MaxWaiting: i.MaxWaiting,
		InsertedAt: seconds(i.InsertedAt), UpdatedAt: seconds(i.UpdatedAt),
		StartSeq: start,
	}
}

func status(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "active"
}

// showDeliver returns a max_deliver of the 2024 server.
func showDeliver(n int) *int {
	if n == zeroDeliver {
		return new(int)
	}
	return orNull(n)
}

func (c *call) listConsumers() error {
	s, err := c.findStream()
	if err != nil {
		return err
	}
	consumers, err := s.Consumers(c.ctx())
	if err != nil {
		return err
	}
	var all []store.ConsumerInfo
	for _, consumer := range consumers {
		info, err := consumer.Info(c.ctx())
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	c.srv.dialect.sortConsumers(all)
	out := list[consumerJSON]{[]consumerJSON{}}
	for _, i := range all {
		out.Data = append(out.Data, c.consumerJSON(i))
	}
	return c.ok(out)
}

func (c *call) createConsumer() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	s, err := c.findStream()
	if err != nil {
		return err
	}
	d := &c.srv.dialect
	o, linked, err := d.readConsumer(p)
	if err != nil {
		return err
	}
	if linked {
		return c.noEndpoint(s, o.Name)
	}
	if c.srv.starts {
		if o.Start, err = c.readStart(s, p["start_from"]); err != nil {
			return err
		}
	}
	consumer, err := s.CreateConsumer(c.ctx(), o)
	if errors.Is(err, store.ErrNameTaken) {
		return d.consumerTaken
	}
	if err != nil {
		return err
	}
	return changed(c.okConsumer(consumer))
}

// okConsumer answers with a consumer.
func (c *call) okConsumer(consumer store.Consumer) error {
	info, err := consumer.Info(c.ctx())
	if err != nil {
		return err
	}
	return c.ok(c.consumerJSON(info))
}

// noEndpoint refuses a consumer that names an endpoint, which does not exist. Its name is checked first.
func (c *call) noEndpoint(s store.Stream, name string) error {
	switch _, err := s.Consumer(c.ctx(), name); {
	case err == nil:
		return c.srv.dialect.consumerTaken
	case !errors.Is(err, store.ErrNoConsumer):
		return err
	}
	return invalidField("http_endpoint_id", "does not exist")
}

// readConsumer reads the params of a new consumer.
func readConsumer(p params) (o store.ConsumerOptions, linked bool, err error) {
	f := form{params: p}
	o = store.ConsumerOptions{Name: f.name(), Filter: f.text("filter_key_pattern"), ConsumerLimits: defaultLimits}
	if kind, given := p["kind"]; given && kind != nil && kind != "pull" {
		f.reject("kind", "is invalid")
	}
	if o.Filter != "" {
		if text := checkPattern(o.Filter); text != "" {
			f.reject("filter_key_pattern", text)
		}
	}
	f.limits(&o.ConsumerLimits)
	return o, false, f.err()
}

// readLimits reads the params of a change of a consumer.
func readLimits(p params, l *store.ConsumerLimits) error {
	f := form{params: p}
	f.limits(l)
	return f.err()
}

func (f *form) limits(l *store.ConsumerLimits) {
	ms := int(l.AckWait.Milliseconds())
	f.limit("ack_wait_ms", &ms, false)
	l.AckWait = time.Duration(ms) * time.Millisecond
	f.limit("max_ack_pending", &l.MaxAckPending, false)
	f.limit("max_deliver", &l.MaxDeliver, true)
	f.limit("max_waiting", &l.MaxWaiting, false)
}

func (c *call) getConsumer() error {
	consumer, err := c.findConsumer()
	if err != nil {
		return err
	}
	return c.okConsumer(consumer)
}

func (c *call) updateConsumer() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	consumer, err := c.findConsumer()
	if err != nil {
		return err
	}
	before, err := consumer.Info(c.ctx())
	if err != nil {
		return err
	}
	limits := before.ConsumerLimits
	if err := c.srv.dialect.readLimits(p, &limits); err != nil {
		return err
	}
	if limits == before.ConsumerLimits && c.srv.dialect.plug {
		return c.ok(c.consumerJSON(before)) // the 2024 server changes nothing then, not even updated_at
	}
	info, err := consumer.Update(c.ctx(), limits)
	if err != nil {
		return err
	}
	return c.ok(c.consumerJSON(info))
}

func (c *call) deleteConsumer() error {
	consumer, err := c.findConsumer()
	if err != nil {
		return err
	}
	if err := consumer.Delete(c.ctx()); err != nil {
		return err
	}
	c.srv.traffic.forgetConsumer(consumer)
	return c.ok(deletedJSON{consumer.ID(), true})
}
