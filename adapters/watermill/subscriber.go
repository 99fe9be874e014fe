package watermillsequin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sequin-go/sequin"
)

// SubscriberConfig configures a Subscriber. Client and ConsumerGroup are required.
type SubscriberConfig struct {
	// Client is used and not closed.
	Client *sequin.Client
	// ConsumerGroup is the name of the consumer in each stream. Subscribers of a group share the messages of a topic, and each
	// group gets all of them. A consumer stays when its Subscribers have ended.
	ConsumerGroup string
	// Unmarshaler makes the messages of Watermill. Default EnvelopeMarshaler{}.
	Unmarshaler Unmarshaler
	// StreamName returns the stream of a topic. Default: the topic.
	StreamName func(topic string) string
	// Filter is that of the consumer. Default: that of a consumer which exists, and ">" of one that is created.
	Filter string
	// Stream and Consumer have the options of what the Subscriber creates.
	Stream   sequin.StreamOptions
	Consumer sequin.ConsumerOptions
	// DoNotCreate keeps Subscribe from creating streams and consumers. By default it calls SubscribeInitialize.
	DoNotCreate bool
	// Subscriber configures the sequin.Subscriber of each call of Subscribe. Pollers defaults to 1 if there is one worker, which
	// keeps the order of a topic.
	Subscriber sequin.SubscriberConfig
	// Handler has in Workers how many messages may be out at once, neither acked nor nacked, by default 1. It also has the backoff
	// of nacks, the dead letters, and OnError.
	Handler sequin.HandlerConfig
}

// Subscriber is a message.Subscriber and a message.SubscribeInitializer. Its methods may be called concurrently.
type Subscriber struct {
	cfg    SubscriberConfig
	logger watermill.LoggerAdapter

	mu      sync.Mutex
	closing chan struct{} // closed by Close
	running sync.WaitGroup
}

// errNacked is what a handler returns for a message that the program has nacked.
var errNacked = errors.New("watermillsequin: the message was nacked")

// NewSubscriber returns a Subscriber. It makes no request. A nil logger is silent. What is wrong with Handler is told by Subscribe,
// because it depends on the consumer.
func NewSubscriber(cfg SubscriberConfig, logger watermill.LoggerAdapter) (*Subscriber, error) {
	if cfg.Client == nil {
		return nil, fmt.Errorf("%w: SubscriberConfig.Client is nil", sequin.ErrInvalidConfig)
	}
	if cfg.ConsumerGroup == "" {
		return nil, fmt.Errorf("%w: SubscriberConfig.ConsumerGroup is empty", sequin.ErrInvalidConfig)
	}
	if cfg.Unmarshaler == nil {
		cfg.Unmarshaler = EnvelopeMarshaler{}
	}
	if cmp.Or(cfg.Handler.Workers, 1) == 1 {
		cfg.Subscriber.Pollers = cmp.Or(cfg.Subscriber.Pollers, 1)
	}
	if err := checkSubscriber(cfg); err != nil {
		return nil, err
	}
	return &Subscriber{cfg: cfg, logger: orSilent(logger), closing: make(chan struct{})}, nil
}

// checkSubscriber returns what is wrong with the config of the sequin.Subscriber. Subscribe checks it before it makes a request,
// and makes none when its ctx has ended.
func checkSubscriber(cfg SubscriberConfig) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := cfg.Client.Subscribe(ended, "probe", cfg.ConsumerGroup, cfg.Subscriber); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// SubscribeInitialize creates the stream of a topic and the consumer of the group, if they do not exist. Messages that are
// published afterwards reach the group, also before it subscribes. It also creates the stream for dead letters.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	return s.initialize(context.Background(), topic)
}

func (s *Subscriber) initialize(ctx context.Context, topic string) error {
	stream := streamName(s.cfg.StreamName, topic)
	if _, err := s.cfg.Client.EnsureStream(ctx, stream, s.cfg.Stream); err != nil {
		return fmt.Errorf("create the stream of topic %s: %w", topic, err)
	}
	if _, err := s.cfg.Client.EnsureConsumer(ctx, stream, s.cfg.ConsumerGroup, s.cfg.Filter, s.cfg.Consumer); err != nil {
		return fmt.Errorf("create the consumer of group %s: %w", s.cfg.ConsumerGroup, err)
	}
	if dead := s.cfg.Handler.DeadLetter; dead != nil {
		if _, err := cmp.Or(dead.Client, s.cfg.Client).EnsureStream(ctx, dead.Stream, sequin.StreamOptions{}); err != nil {
			return fmt.Errorf("create the stream for dead letters: %w", err)
		}
	}
	return nil
}

// Subscribe returns the channel of the messages of a topic. At most Handler.Workers of them are out at once: the next one comes
// when one is acked or nacked. A nacked message comes again, after the backoff of Handler.
//
// The context of a message has the values of ctx, and DeliveryFromCtx finds the delivery in it. It ends when the message is
// acked or nacked, when its lease ends, and when the Subscriber stops and its DrainTimeout is over.
//
// The Subscriber stops at the end of ctx, at Close, and when the consumer is deleted. It returns at once what nobody has read
// from the channel, waits up to Subscriber.DrainTimeout for messages that are out, and closes the channel.
//
// A Handler that cannot work is an error, such as sequin.ErrInvalidConfig: see sequin.Subscriber.Handle.
//
// Each Subscribe starts a goroutine for each worker, and those of a sequin.Subscriber.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	sub, err := s.open(ctx, cancel, topic)
	if err != nil {
		cancel()
		s.running.Done()
		return nil, err
	}
	out := make(chan *message.Message)
	ended, err := s.start(ctx, sub, topic, out)
	if err != nil {
		cancel()
		s.running.Done()
		return nil, err
	}
	go func() {
		defer s.running.Done()
		defer close(out)
		defer cancel()
		if err := <-ended; err != nil {
			s.logger.Error("Subscription ended", err, watermill.LogFields{"topic": topic, "consumer_group": s.cfg.ConsumerGroup})
		}
	}()
	return out, nil
}

// start starts the handlers, and returns the channel that gets the error with which they end. It returns an error, and
// closes sub, if Handle refuses to start them.
//
// Handle returns when the handlers have ended, and does not tell when it has started them. But it starts them once: of two calls
// one returns ErrBusy when the other has, and both return what is wrong with the config.
func (s *Subscriber) start(ctx context.Context, sub *sequin.Subscriber, topic string, out chan<- *message.Message) (<-chan error, error) {
	p := subscription{s: s, topic: topic, out: out, stopped: sub.Stopping()}
	cfg := s.handler(topic)
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- sub.Handle(ctx, cfg, p.handle) }()
	}
	err := <-ended
	if errors.Is(err, sequin.ErrBusy) {
		return ended, nil
	}
	_ = sub.CloseNow(ctx)
	// The handlers were started, and have ended. The other call may have come after that, when sub was closed.
	if other := <-ended; err == nil || errors.Is(other, sequin.ErrBusy) {
		ended <- err
		return ended, nil
	}
	return nil, err
}

// enter counts a subscription, unless the Subscriber is closed.
func (s *Subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return false
	default:
		s.running.Add(1)
		return true
	}
}

// open creates what is missing, and subscribes. Close cancels it.
func (s *Subscriber) open(ctx context.Context, cancel context.CancelFunc, topic string) (*sequin.Subscriber, error) {
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	if !s.cfg.DoNotCreate {
		if err := s.initialize(ctx, topic); err != nil {
			return nil, err
		}
	}
	return s.cfg.Client.Subscribe(ctx, streamName(s.cfg.StreamName, topic), s.cfg.ConsumerGroup, s.cfg.Subscriber)
}

// handler returns the config of the handlers, which also log what fails.
func (s *Subscriber) handler(topic string) sequin.HandlerConfig {
	cfg := s.cfg.Handler
	report := cfg.OnError
	cfg.OnError = func(d sequin.Delivery, err error) {
		fields := watermill.LogFields{"topic": topic, "key": d.Key, "seq": d.Seq}
		if errors.Is(err, errNacked) {
			s.logger.Debug("Message nacked", fields)
		} else {
			s.logger.Error("Message not handled", err, fields)
		}
		if report != nil {
			report(d, err)
		}
	}
	return cfg
}

// Close stops all subscriptions as the end of their contexts does, and waits until their channels are closed. It returns nil.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// subscription passes the deliveries of one sequin.Subscriber to a channel.
type subscription struct {
	s       *Subscriber
	topic   string
	out     chan<- *message.Message
	stopped <-chan struct{}
}

// handle passes a delivery to the program, and returns what its ack or nack says.
func (p subscription) handle(ctx context.Context, d sequin.Delivery) error {
	msg, err := p.s.cfg.Unmarshaler.Unmarshal(p.topic, d)
	if err != nil {
		return sequin.Permanent(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	msg.SetContext(&messageContext{ctx, d})
	if !p.offer(d, msg) {
		return d.Release()
	}
	select {
	case <-msg.Acked():
		return nil
	case <-msg.Nacked():
		return errNacked
	case <-ctx.Done():
		return ctx.Err()
	}
}

// offer waits until the program reads the message from the channel. It gives up when the subscription stops, and after half of
// the lease, so that the message can be returned before the lease ends.
func (p subscription) offer(d sequin.Delivery, msg *message.Message) bool {
	select {
	case <-p.stopped:
		return false
	default:
	}
	select {
	case p.out <- msg:
		return true
	default:
	}
	late := time.NewTimer(time.Until(d.Deadline) / 2)
	defer late.Stop()
	select {
	case p.out <- msg:
		return true
	case <-p.stopped:
	case <-late.C:
	}
	return false
}
