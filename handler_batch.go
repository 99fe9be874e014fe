package sequin

import (
	"context"
	"fmt"
	"time"
)

// BatchHandlerConfig configures Subscriber.HandleBatch. The zero value works. It is copied. Workers, BackoffMin, BackoffMax,
// DeadLetter and OnError are as in [HandlerConfig].
type BatchHandlerConfig struct {
	// Size is the most deliveries in a batch, from 1 to the Subscriber's MaxInFlight. Default 100, or MaxInFlight if that
	// is less.
	Size int
	// Wait is how long a batch that is not full waits for more deliveries, counted from its first one. Default 50 ms.
	//
	// A batch does not wait when no more can arrive, because all of MaxInFlight, or of the consumer's max_ack_pending, is in
	// the batch or being handled. It never waits longer than half of the time that its leases leave.
	Wait time.Duration
	// Workers is how many batches may be handled at once. While all workers are busy the next batch grows. Default 1.
	Workers int

	BackoffMin, BackoffMax time.Duration
	DeadLetter             *DeadLetter
	OnError                func(Delivery, error)
}

// The defaults of BatchHandlerConfig.
const (
	defaultSize = 100
	defaultWait = 50 * time.Millisecond // too short for a person to notice
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

// HandleBatch is Handle for several deliveries at once: those that have arrived, up to Size. A delivery that the handler
// settles itself stays as it is. The others are acked or nacked by what the handler returns. The handler's ctx ends with
// the first of their leases.
//
// A message that has failed is handled in batches with others that have failed, half the size after each failure, and in a
// batch of its own before it becomes a dead letter. One bad message therefore does not make the others fail.
//
// HandleBatch starts one goroutine more than Handle, which collects the batches. The errors are Handle's.
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
	c := newCollector(p, cfg)
	go c.run()
	return p.run(ctx, func() {
		for batch := range c.batches {
			p.serve(batch)
		}
	})
}
