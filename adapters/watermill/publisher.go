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

// PublisherConfig configures a Publisher. Only Client is required.
type PublisherConfig struct {
	// Client is used and not closed.
	Client *sequin.Client
	// Marshaler makes the messages that are stored. Default EnvelopeMarshaler{}.
	Marshaler Marshaler
	// StreamName returns the stream of a topic. Default: the topic.
	StreamName func(topic string) string
	// Stream has the options of a stream that the Publisher creates.
	Stream sequin.StreamOptions
	// DoNotCreate keeps Publish from creating streams. By default the first Publish to a topic calls EnsureStream.
	DoNotCreate bool
	// Publisher configures the sequin.Publisher that each topic has. Lanes defaults to 1, which keeps the order of a topic. Linger
	// defaults to 1 ms, so that the messages of an idle topic leave together; Publish never waits for it.
	Publisher sequin.PublisherConfig
	// CloseTimeout is how long Close sends what Publish still waits for. Default that of Publisher, or 10 s.
	CloseTimeout time.Duration
}

// Publisher is a message.Publisher. Its methods may be called concurrently. It starts no goroutine before the first Publish.
type Publisher struct {
	cfg    PublisherConfig
	logger watermill.LoggerAdapter

	mu      sync.Mutex // not held during a request
	topics  map[string]*topicPublisher
	closing context.Context // ended by Close, while mu is held
	end     context.CancelFunc

	closeOnce sync.Once
	closeErr  error
}

// topicPublisher sends the messages of one topic.
type topicPublisher struct {
	turn chan struct{}     // has room for the one call that makes pub, so that calls which run at once make it once
	pub  *sequin.Publisher // guarded by Publisher.mu; nil before the stream exists
}

// NewPublisher returns a Publisher. It makes no request. A nil logger is silent.
func NewPublisher(cfg PublisherConfig, logger watermill.LoggerAdapter) (*Publisher, error) {
	if cfg.Client == nil {
		return nil, fmt.Errorf("%w: PublisherConfig.Client is nil", sequin.ErrInvalidConfig)
	}
	if cfg.CloseTimeout < 0 {
		return nil, fmt.Errorf("%w: PublisherConfig.CloseTimeout is %v, and must not be negative", sequin.ErrInvalidConfig, cfg.CloseTimeout)
	}
	if cfg.Marshaler == nil {
		cfg.Marshaler = EnvelopeMarshaler{}
	}
	cfg.Publisher.CloseTimeout = cmp.Or(cfg.CloseTimeout, cfg.Publisher.CloseTimeout, 10*time.Second)
	cfg.Publisher.Lanes = cmp.Or(cfg.Publisher.Lanes, 1)
	cfg.Publisher.Linger = cmp.Or(cfg.Publisher.Linger, time.Millisecond)
	probe, err := cfg.Client.NewPublisher("probe", cfg.Publisher) // it makes no request: a bad config is told here
	if err != nil {
		return nil, err
	}
	if err := probe.Close(context.Background()); err != nil {
		return nil, err
	}
	p := &Publisher{cfg: cfg, logger: orSilent(logger), topics: make(map[string]*topicPublisher)}
	p.closing, p.end = context.WithCancel(context.Background())
	return p, nil
}

func orSilent(logger watermill.LoggerAdapter) watermill.LoggerAdapter {
	if logger == nil {
		return watermill.NopLogger{}
	}
	return logger
}

// Publish sends the messages of one topic, and returns when the server has stored them. Calls that run at once share requests.
// The context of each message bounds the wait for it: when it ends, the message may still be stored.
//
// At the first message that is not accepted Publish sends no more, and waits for those before it. The error joins that of each
// message that was not stored; its text has the message's UUID. After Close it is ErrClosed.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	pub, err := p.topic(messages[0].Context(), topic)
	if err != nil {
		return err
	}
	var errs []error
	receipts := make([]sequin.Receipt, 0, len(messages))
	for _, msg := range messages {
		receipt, err := p.send(pub, topic, msg)
		if err != nil {
			errs = append(errs, failed(msg, err))
			break
		}
		receipts = append(receipts, receipt)
	}
	for i, receipt := range receipts {
		if err := receipt.Wait(messages[i].Context()); err != nil {
			errs = append(errs, failed(messages[i], err))
		}
	}
	return errors.Join(errs...)
}

func (p *Publisher) send(pub *sequin.Publisher, topic string, msg *message.Message) (sequin.Receipt, error) {
	m, err := p.cfg.Marshaler.Marshal(topic, msg)
	if err != nil {
		return sequin.Receipt{}, err
	}
	return pub.SendReceipt(msg.Context(), m)
}

// failed returns the error of one message.
func failed(msg *message.Message, err error) error {
	if errors.Is(err, sequin.ErrClosed) {
		err = ErrClosed
	}
	return fmt.Errorf("message %s: %w", msg.UUID, err)
}

// topic returns the sequin.Publisher of a topic. The first call makes it, and others wait for that as long as their ctx allows; when
// that call gives up, the next one tries.
func (p *Publisher) topic(ctx context.Context, topic string) (*sequin.Publisher, error) {
	t, pub, err := p.lookUp(topic)
	if pub != nil || err != nil {
		return pub, err
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the stream of topic %s: %w", topic, ctx.Err())
	case <-p.closing.Done():
		return nil, ErrClosed
	}
	if _, pub, err := p.lookUp(topic); pub != nil || err != nil {
		return pub, err
	}
	return p.open(ctx, t, topic)
}

// lookUp returns what is known of a topic. pub is nil before its stream exists.
func (p *Publisher) lookUp(topic string) (t *topicPublisher, pub *sequin.Publisher, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil {
		return nil, nil, ErrClosed
	}
	t = p.topics[topic]
	if t == nil {
		t = &topicPublisher{turn: make(chan struct{}, 1)}
		p.topics[topic] = t
	}
	return t, t.pub, nil
}

// open creates the stream of a topic, and makes its sequin.Publisher. Close ends it.
func (p *Publisher) open(ctx context.Context, t *topicPublisher, topic string) (*sequin.Publisher, error) {
	stream := streamName(p.cfg.StreamName, topic)
	if !p.cfg.DoNotCreate {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(p.closing, cancel)
		defer stop()
		if _, err := p.cfg.Client.EnsureStream(ctx, stream, p.cfg.Stream); err != nil && p.closing.Err() == nil {
			return nil, fmt.Errorf("create the stream of topic %s: %w", topic, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil {
		return nil, ErrClosed
	}
	pub, err := p.cfg.Client.NewPublisher(stream, p.cfg.Publisher)
	t.pub = pub
	return pub, err
}

func streamName(name func(string) string, topic string) string {
	if name == nil {
		return topic
	}
	return name(topic)
}

// Close refuses further messages, and sends those that Publish waits for, within CloseTimeout. The error counts what was left.
// A Publish that is still creating its stream ends with ErrClosed. Every call returns the same value.
func (p *Publisher) Close() error {
	p.closeOnce.Do(func() { p.closeErr = p.close() })
	return p.closeErr
}

func (p *Publisher) close() error {
	p.mu.Lock()
	p.end()
	p.mu.Unlock() // topics and their Publishers do not change any more
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for topic, t := range p.topics {
		if t.pub == nil {
			continue
		}
		wg.Go(func() {
			if err := t.pub.Close(context.Background()); err != nil {
				p.logger.Error("Could not send all messages", err, watermill.LogFields{"topic": topic})
				mu.Lock()
				errs = append(errs, fmt.Errorf("topic %s: %w", topic, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
