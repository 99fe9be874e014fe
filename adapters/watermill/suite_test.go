package watermillsequin_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/server"
)

// serve starts an embedded server on loopback and returns a client for it.
func serve(t testing.TB, cfg server.Config) *sequin.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web := server.New(cfg).HTTPServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = web.Serve(listener)
	}()
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://" + listener.Addr().String()})
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		require.NoError(t, web.Shutdown(context.Background()))
		<-done
	})
	return client
}

// profile is one way of using the adapter, which has to pass the suite that Watermill has for all Pub/Subs.
type profile struct {
	features tests.Features
	pub      watermillsequin.PublisherConfig
	sub      watermillsequin.SubscriberConfig
	newGroup bool // for each Subscriber
	// reconnect runs the suite's test of reconnecting alone.
	reconnect bool
}

// run runs the suite. The backoff is short because the suite nacks messages many times in a row, and DrainTimeout because it closes
// fifty Subscribers one after the other, each with a message that nobody acks.
func (p profile) run(t *testing.T, client *sequin.Client) {
	if testing.Short() {
		p.features.ForceShort = true
	}
	p.features.Persistent = true
	p.pub.Client, p.sub.Client = client, client
	p.sub.Handler.BackoffMin, p.sub.Handler.BackoffMax = time.Millisecond, 10*time.Millisecond
	p.sub.Subscriber.DrainTimeout = 100 * time.Millisecond
	withGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		pub, err := watermillsequin.NewPublisher(p.pub, watermill.NopLogger{})
		require.NoError(t, err)
		cfg := p.sub
		cfg.ConsumerGroup = shortName(group)
		sub, err := watermillsequin.NewSubscriber(cfg, watermill.NopLogger{})
		require.NoError(t, err)
		return pub, sub
	}
	construct := func(t *testing.T) (message.Publisher, message.Subscriber) {
		group := "group"
		if p.newGroup {
			group = "group_" + watermill.NewShortUUID()
		}
		return withGroup(t, group)
	}
	if p.reconnect {
		tests.TestReconnect(t, tests.TestContext{TestID: tests.NewTestID(), Features: p.features}, construct)
		return
	}
	tests.TestPubSub(t, p.features, construct, withGroup)
}

// shortName returns a name that the 2024 server takes: without dashes, and not so long that the server cuts it.
func shortName(name string) string { return fmt.Sprintf("n%08x", crc32.ChecksumIEEE([]byte(name))) }

func TestTenWorkersPassTheSuite(t *testing.T) {
	p := profile{features: tests.Features{ConsumerGroups: true}}
	p.sub.Handler.Workers = 10
	p.pub.Publisher.Lanes = 4
	p.run(t, serve(t, server.Config{}))
}

func TestTheDefaultsPassTheSuiteInOrder(t *testing.T) {
	p := profile{features: tests.Features{ConsumerGroups: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true}}
	p.run(t, serve(t, server.Config{}))
}

func TestANewGroupForEachSubscriberPassesTheSuite(t *testing.T) {
	p := profile{newGroup: true, features: tests.Features{GuaranteedOrder: true, NewSubscriberReceivesOldMessages: true}}
	p.run(t, serve(t, server.Config{}))
}

func TestThe2024ServerPassesTheSuite(t *testing.T) {
	p := profile{features: tests.Features{ConsumerGroups: true}}
	p.pub.StreamName, p.sub.StreamName = shortName, shortName
	p.sub.Consumer.MaxAckPending = 1_000_000 // the 2024 server counts acked messages, too
	p.sub.Handler.Workers = 10
	p.run(t, serve(t, server.Config{Compat: server.Aug2024}))
}
