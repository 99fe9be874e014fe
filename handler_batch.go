package sequin

import (
	"context"
	"fmt"
	"time"
)

// BatchHandlerConfig of Subscriber.HandleBatch. The zero value works. It is copied. Workers, BackoffMin, BackoffMax,
// DeadLetter and OnError are as in [HandlerConfig].
type BatchHandlerConfig struct {
	// Size is the most deliveries in a batch. 1 to the Subscriber's MaxInFlight, default 100, or that where it is less.
	Size int
	// Wait is how long a batch that is not full waits for company, counted from its first delivery. It does not wait where
	// nothing can come, because all of MaxInFlight, or of the consumer's max_ack_pending, is in it or being handled; and
	// never into the last part of its lease. Default 50 ms.
	Wait time.Duration
	// Workers is how many batches may be handled at once. While all of them are busy the next batch gathers.
	Workers int

	BackoffMin, BackoffMax time.Duration
	DeadLetter             *DeadLetter
	OnError                func(Delivery, error)
}

// The defaults of BatchHandlerConfig.
const (
	defaultSize = 100
	defaultWait = 50 * time.Millisecond // what a person does not notice
)

func (c BatchHandlerConfig) withDefaults(s *Subscriber) BatchHandlerConfig {
	if c.Size == 0 {
		c.Size = min(defaultSize, s.cfg.MaxInFlight)
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	return c
}

func (c BatchHandlerConfig) validate(s *Subscriber) error {
	switch {
	case c.Size < 1 || c.Size > s.cfg.MaxInFlight:
		return fmt.Errorf("%w: BatchHandlerConfig.Size is %d, must be 1 to the Subscriber's MaxInFlight %d: no more can be in flight", ErrInvalidConfig, c.Size, s.cfg.MaxInFlight)
	case c.Wait < 0:
		return fmt.Errorf("%w: BatchHandlerConfig.Wait is %v, must not be negative", ErrInvalidConfig, c.Wait)
	}
	return nil
}

// HandleBatch is Handle for several deliveries at once: as many as are there, up to Size. Deliveries that the handler
// settles itself keep their fate, and the others follow what it returns. Its ctx ends with the first of their leases.
//
// A message that has failed before is tried in company of its like, in smaller batches each time, and alone before it
// becomes a dead letter: one bad message neither keeps the others from passing nor takes them with it.
//
// Beside Handle's goroutines there is one that gathers. The errors are Handle's.
func (s *Subscriber) HandleBatch(ctx context.Context, cfg BatchHandlerConfig, handle func(context.Context, []Delivery) error) error {
	if handle == nil {
		return fmt.Errorf("%w: HandleBatch needs a function", ErrInvalidArgument)
	}
	cfg = cfg.withDefaults(s)
	if err := cfg.validate(s); err != nil {
		return err
	}
	p, err := newHandlerPool(ctx, s, HandlerConfig{Workers: cfg.Workers, BackoffMin: cfg.BackoffMin, BackoffMax: cfg.BackoffMax,
		DeadLetter: cfg.DeadLetter, OnError: cfg.OnError})
	if err != nil {
		return err
	}
	p.handle = func(ctx context.Context, batch []Delivery) ([]Message, error) { return nil, handle(ctx, batch) }
	g := newCollector(p, cfg)
	go g.run()
	return p.run(ctx, func() {
		for batch := range g.batches {
			p.serve(batch)
		}
	})
}
