package sequinpubsub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/driver"
	"gocloud.dev/pubsub/drivertest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// serve starts an embedded server on loopback, and returns its URL and how to stop it.
func serve(cfg server.Config) (url string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := server.New(cfg).HTTPServer()
	done := make(chan error, 1)
	go func() { done <- web.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() error {
		err := web.Shutdown(context.Background())
		<-done
		return err
	}, nil
}

// harness makes streams and consumers for the conformance tests of the CDK.
type harness struct {
	client *sequin.Client
	stop   func() error
	names  atomic.Int64
}

func newHarness(compat server.Compat) drivertest.HarnessMaker {
	return func(context.Context, *testing.T) (drivertest.Harness, error) {
		url, stop, err := serve(server.Config{Compat: compat})
		if err != nil {
			return nil, err
		}
		client, err := sequin.NewClient(sequin.Config{BaseURL: url})
		return &harness{client: client, stop: stop}, err
	}
}

func (h *harness) name() string { return fmt.Sprintf("n%d", h.names.Add(1)) }

func (h *harness) CreateTopic(ctx context.Context, _ string) (driver.Topic, func(), error) {
	name := h.name()
	if _, err := h.client.CreateStream(ctx, name, sequin.StreamOptions{}); err != nil {
		return nil, nil, err
	}
	t, _, err := newTopic(h.client, name, nil)
	return topicOf{t, name}, func() {}, err
}

// topicOf is a topic that tells its stream.
type topicOf struct {
	driver.Topic
	stream string
}

func (h *harness) MakeNonexistentTopic(context.Context) (driver.Topic, error) {
	t, _, err := newTopic(h.client, "nowhere", nil)
	return t, err
}

func (h *harness) CreateSubscription(ctx context.Context, t driver.Topic, _ string) (driver.Subscription, func(), error) {
	stream, name := t.(topicOf).stream, h.name()
	if _, err := h.client.CreateConsumer(ctx, stream, name, ">", sequin.ConsumerOptions{}); err != nil {
		return nil, nil, err
	}
	s, _, err := newSubscription(h.client, stream, name, nil)
	return s, func() {}, err
}

func (h *harness) MakeNonexistentSubscription(context.Context) (driver.Subscription, func(), error) {
	s, _, err := newSubscription(h.client, "nowhere", "nobody", nil)
	return s, func() {}, err
}

func (h *harness) Close() {
	h.client.Close()
	_ = h.stop()
}

func (h *harness) MaxBatchSizes() (int, int)           { return sequin.MaxBatch, sequin.MaxBatch }
func (h *harness) SupportsMultipleSubscriptions() bool { return true }

// asTest checks the types that the package comment lists.
type asTest struct{}

func (asTest) Name() string { return "sequin" }

func must(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New("As does not support " + what)
}

func (asTest) TopicCheck(t *pubsub.Topic) error {
	var client *sequin.Client
	var pub *sequin.Publisher
	return errors.Join(must(t.As(&client) && client != nil, "*Client"), must(t.As(&pub) && pub != nil, "*Publisher"))
}

func (asTest) SubscriptionCheck(s *pubsub.Subscription) error {
	var client *sequin.Client
	return must(s.As(&client) && client != nil, "*Client")
}

func (asTest) TopicErrorCheck(t *pubsub.Topic, err error) error {
	var answer *sequin.APIError
	return must(t.ErrorAs(err, &answer) && answer.Status == 404, "*APIError")
}

func (asTest) SubscriptionErrorCheck(s *pubsub.Subscription, err error) error {
	var answer *sequin.APIError
	return must(s.ErrorAs(err, &answer) && answer.Status == 404, "*APIError")
}

func (asTest) BeforeSend(as func(any) bool) error {
	var m *sequin.Message
	if err := must(as(&m), "*Message"); err != nil {
		return err
	}
	m.Key = "changed"
	return nil
}

func (asTest) AfterSend(as func(any) bool) error {
	var m sequin.Message
	return must(as(&m) && m.Key == "changed" && strings.HasPrefix(m.Data, `{"envelope":1`), "Message")
}

func (asTest) MessageCheck(m *pubsub.Message) error {
	var d sequin.Delivery
	return must(m.As(&d) && d.Key == "changed", "Delivery")
}

func TestConformance(t *testing.T) {
	for name, compat := range map[string]server.Compat{"documented": server.Documented, "aug2024": server.Aug2024} {
		t.Run(name, func(t *testing.T) {
			drivertest.RunConformanceTests(t, newHarness(compat), []drivertest.AsTest{asTest{}})
		})
	}
}
