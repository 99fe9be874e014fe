package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// peer is NATS JetStream, embedded and over loopback like our own server, with one connection. As in its documentation it
// publishes without waiting for each message, and pulls with explicit acks.
type peer struct {
	server *natsserver.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	dir    string
	keyed  bool
}

// inFlightAcks is how many publishes may be unconfirmed at once. It is the default of JetStream, and as many as four lanes of
// a Publisher hold.
const inFlightAcks = 4000

// peerOptions are what differs between the JetStreams that are measured.
type peerOptions struct {
	storage    jetstream.StorageType
	syncAlways bool // sync before each answer, instead of every 2 minutes
	keyed      bool // keep one message per subject
}

func newPeer(ctx context.Context, o peerOptions) (_ *peer, err error) {
	p := &peer{keyed: o.keyed}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.dir, err = tempDir("jetstream"); err != nil {
		return nil, err
	}
	p.server, err = natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true,
		StoreDir: p.dir, NoLog: true, NoSigs: true, SyncAlways: o.syncAlways, JetStreamMaxMemory: 8 << 30, JetStreamMaxStore: 8 << 30})
	if err != nil {
		return nil, err
	}
	p.server.Start()
	if !p.server.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("nats-server did not start")
	}
	return p, p.connect(ctx, p.server.ClientURL(), o)
}

// dialPeer returns a JetStream that another process serves.
func dialPeer(ctx context.Context, url string, o peerOptions) (*peer, error) {
	p := &peer{keyed: o.keyed}
	if err := p.connect(ctx, url, o); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// connect connects to a server and creates the stream and its consumer.
func (p *peer) connect(ctx context.Context, url string, o peerOptions) (err error) {
	if p.conn, err = nats.Connect(url); err != nil {
		return err
	}
	if p.js, err = jetstream.New(p.conn, jetstream.WithPublishAsyncMaxPending(inFlightAcks)); err != nil {
		return err
	}
	config := jetstream.StreamConfig{Name: "stream", Subjects: []string{"sensors.>"}, Storage: o.storage}
	if o.keyed {
		config.MaxMsgsPerSubject = 1
	}
	p.stream, err = p.js.CreateStream(ctx, config)
	if err != nil {
		return err
	}
	_, err = p.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "consumer", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1_000_000})
	return err
}

func (p *peer) close() {
	if p.conn != nil {
		p.conn.Close()
	}
	if p.server != nil {
		p.server.Shutdown()
		p.server.WaitForShutdown()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// patient makes a publish wait for up to a minute when too many are unconfirmed. A busy disk has taken more than the default
// of 200 ms.
var patient = jetstream.WithStallWait(time.Minute)

func (p *peer) publish(ctx context.Context, n, size int) (time.Duration, error) {
	all := samples(n, size, p.keyed)
	began := time.Now()
	err := p.send(ctx, all)
	return time.Since(began), err
}

// send publishes messages. It returns when all are confirmed.
func (p *peer) send(ctx context.Context, all []sample) error {
	for i := range all {
		if _, err := p.js.PublishAsync(all[i].key, all[i].bytes, patient); err != nil {
			return err
		}
	}
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *peer) consume(ctx context.Context, n, _ int) (time.Duration, error) {
	consumer, err := p.stream.Consumer(ctx, "consumer")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for range n {
		m, err := next(messages)
		if err != nil {
			return 0, err
		}
		if err := m.Ack(); err != nil {
			return 0, err
		}
	}
	// JetStream does not answer an ack. The time ends when the server has processed the last one, as it does for sequin.
	if err := p.conn.FlushWithContext(withTimeout(ctx)); err != nil {
		return 0, err
	}
	for {
		info, err := consumer.Info(ctx)
		if err != nil {
			return 0, err
		}
		if info.NumAckPending == 0 {
			return time.Since(began), nil
		}
	}
}

// next returns the next message. It ignores late heartbeats, which come when the machine is busy.
func next(messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for {
		m, err := messages.Next()
		if !errors.Is(err, jetstream.ErrNoHeartbeat) {
			return m, err
		}
	}
}

// withTimeout adds the deadline that FlushWithContext requires.
func withTimeout(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func (p *peer) both(ctx context.Context, n, size int) (time.Duration, error) {
	return atOnce(ctx,
		func(ctx context.Context) error { _, err := p.publish(ctx, n, size); return err },
		func(ctx context.Context) error { _, err := p.consume(ctx, n, size); return err })
}

// idle measures from a publish to the message's arrival, one message at a time.
func (p *peer) idle(ctx context.Context, n int) (took []time.Duration, err error) {
	consumer, err := p.stream.Consumer(ctx, "consumer")
	if err != nil {
		return nil, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	arrived := make(chan time.Time, n) // has room for every message, so that the goroutine ends when a publish fails
	failed := make(chan error, 1)
	go func() {
		for range n {
			m, err := next(messages)
			if err != nil {
				failed <- err
				return
			}
			arrived <- time.Now()
			_ = m.Ack()
		}
	}()
	for i := range n {
		began := time.Now()
		if _, err := p.js.PublishAsync(key(i), []byte(payload(100))); err != nil {
			return nil, err
		}
		select {
		case at := <-arrived:
			took = append(took, at.Sub(began))
		case err := <-failed:
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		pause()
	}
	return took, nil
}

func storageName(s jetstream.StorageType) string { return "JetStream, " + strings.ToLower(s.String()) }
