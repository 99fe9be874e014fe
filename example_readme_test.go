package sequin_test

// The code of the README and of doc.go is copied from here, so that it compiles and runs.

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// exampleServer starts the embedded server on loopback, with a stream "orders" that has a consumer "billing".
func exampleServer(ctx context.Context) (client *sequin.Client, stop func()) {
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err == nil {
		_, err = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	}
	if err == nil {
		_, err = client.EnsureConsumer(ctx, "orders", "billing", "orders.>", sequin.ConsumerOptions{})
	}
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { client.Close(); srv.Close(); web.Close() }
}

// cancelWhenAcked cancels once the consumer "billing" has no message of the stream left. A program would wait for a signal
// instead.
func cancelWhenAcked(ctx context.Context, client *sequin.Client, stream string, cancel context.CancelFunc) {
	for ctx.Err() == nil {
		if left, err := client.PeekMessages(ctx, stream, "billing", sequin.ListOptions{}); err == nil && len(left) == 0 {
			cancel()
			return
		}
	}
}

var errDeclined = errors.New("card declined")

// charge stands for the work of a program.
func charge(ctx context.Context, key, data string) error {
	if key == "" {
		return errDeclined
	}
	fmt.Println(key, data)
	return ctx.Err()
}

// handling is the README's first program: it handles messages as they arrive.
func handling(ctx context.Context, client *sequin.Client) error {
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	defer sub.Close(context.WithoutCancel(ctx)) // in case Handle refuses to start; otherwise it has stopped sub
	cfg := sequin.HandlerConfig{Workers: 8, DeadLetter: &sequin.DeadLetter{Stream: "orders_dead", MaxAttempts: 5}}
	return sub.Handle(ctx, cfg, func(ctx context.Context, d sequin.Delivery) error {
		return charge(ctx, d.Key, d.Data)
	})
}

// application is the README's second program: it ranges over the messages.
func application(ctx context.Context, client *sequin.Client) error {
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	for d := range sub.Deliveries() {
		if err := charge(d.Context(), d.Key, d.Data); err != nil {
			d.NackAfter(5 * time.Second) // with Nack, a message that always fails would come back thousands of times a second
			continue
		}
		d.Ack() // queued; acks are sent together
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = sub.Close(closing) // waits for the last acks, and returns undelivered messages to the server
	return errors.Join(sub.Err(), err)
}

func Example_application() {
	for _, consume := range []func(context.Context, *sequin.Client) error{handling, application} {
		ctx, cancel := context.WithCancel(context.Background())
		client, stop := exampleServer(ctx)
		if _, err := client.CreateStream(ctx, "orders_dead", sequin.StreamOptions{}); err != nil {
			log.Fatal(err)
		}
		if _, err := client.SendMessage(ctx, "orders", "orders.cus_a.1", `{"qty":4}`); err != nil {
			log.Fatal(err)
		}
		go cancelWhenAcked(ctx, client, "orders", cancel)
		fmt.Println(consume(ctx, client))
		stop()
	}
	// Output:
	// orders.cus_a.1 {"qty":4}
	// <nil>
	// orders.cus_a.1 {"qty":4}
	// <nil>
}

// pipeline is the README's third program: consume, transform, publish.
func pipeline(ctx context.Context, client *sequin.Client) error {
	pub, err := client.NewPublisher("invoices", sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	defer sub.Close(context.WithoutCancel(ctx)) // in case Pipe refuses to start; otherwise it has stopped sub
	cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "orders_dead", MaxAttempts: 5}}
	err = sub.Pipe(ctx, pub, cfg, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) {
		order, err := sequin.DecodeJSON[Order](d)
		if err != nil {
			return nil, err // a retry cannot help: it becomes a dead letter at once
		}
		return []sequin.Message{{Key: "invoices." + d.Key, Data: invoice(order)}}, nil
	})
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, pub.Close(closing))
}

// Order is what the messages of these examples hold.
type Order struct {
	Qty int `json:"qty"`
}

func invoice(o Order) string { return fmt.Sprintf(`{"pieces":%d}`, o.Qty) }

func Example_pipeline() {
	ctx, cancel := context.WithCancel(context.Background())
	client, stop := exampleServer(ctx)
	defer stop()
	for _, stream := range []string{"invoices", "orders_dead"} {
		if _, err := client.CreateStream(ctx, stream, sequin.StreamOptions{}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{
		{Key: "orders.1", Data: `{"qty":4}`}, {Key: "orders.2", Data: `not JSON`}, {Key: "orders.3", Data: `{"qty":2}`},
	}); err != nil {
		log.Fatal(err)
	}
	go cancelWhenAcked(ctx, client, "orders", cancel)
	fmt.Println(pipeline(ctx, client))
	for _, stream := range []string{"invoices", "orders_dead"} {
		stored, err := client.ListMessages(context.Background(), stream, sequin.ListOptions{})
		fmt.Println(stream, len(stored), err)
	}
	// Output:
	// <nil>
	// invoices 2 <nil>
	// orders_dead 1 <nil>
}

// producer is the README's fourth program: many messages, fast.
func producer(ctx context.Context, client *sequin.Client, readings <-chan sequin.Message) error {
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{
		OnFailure: func(e sequin.MessageError) { slog.Error("not sent", "key", e.Message.Key, "error", e.Err) },
	})
	if err != nil {
		return err
	}
	for m := range readings {
		if err := pub.Send(ctx, m.Key, m.Data); err != nil { // waits only while the buffer is full
			slog.Error("not accepted", "key", m.Key, "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = pub.Close(ctx) // sends what is buffered
	if unsent := new(sequin.UnsentError); errors.As(err, &unsent) {
		return fmt.Errorf("%d messages to spool: %w", len(unsent.Unsent), err)
	}
	return err
}

func Example_producer() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	readings := make(chan sequin.Message)
	go func() {
		defer close(readings)
		for i := range 25_000 {
			readings <- sequin.Message{Key: fmt.Sprintf("orders.%d", i), Data: `{"celsius":21.5}`}
		}
	}()
	fmt.Println(producer(ctx, client, readings))
	stream, err := client.GetStream(ctx, "orders")
	fmt.Println(stream.Stats.MessageCount, err)
	// Output:
	// <nil>
	// 25000 <nil>
}

// After a crash of a worker its messages are redelivered when their leases end: here after 30 s of virtual time.
func TestWorkIsDoneAgainAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		require.NoError(t, err)
		_, err = client.SendMessage(t.Context(), "orders", "orders.1", "{}")
		require.NoError(t, err)

		crashed, err := client.ReceiveMessage(t.Context(), "orders", "billing") // received, never settled
		require.NoError(t, err)
		begin := time.Now()

		srv.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Count: 3}) // the server fails three times, too
		sub, err := client.Subscribe(t.Context(), "orders", "billing", sequin.SubscriberConfig{})
		require.NoError(t, err)
		d := <-sub.Deliveries()
		require.Equal(t, crashed.Key, d.Key)
		require.Equal(t, 2, d.Attempt)
		require.Equal(t, 30*time.Second, time.Since(begin))
		require.NoError(t, d.AckSync(t.Context()))
		require.NoError(t, sub.Close(t.Context()))
	})
}
