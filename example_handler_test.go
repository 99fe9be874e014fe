package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// Payment is the data of the messages in these examples.
type Payment struct {
	Amount int `json:"amount"`
}

// payments starts the embedded server with three payments, the second of which is damaged, and subscribes to them.
func payments(ctx context.Context) (client *sequin.Client, sub *sequin.Subscriber, stop func()) {
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	for _, stream := range []string{"payments", "large", "dead"} {
		if err == nil {
			_, err = client.CreateStream(ctx, stream, sequin.StreamOptions{})
		}
	}
	if err == nil {
		_, err = client.CreateConsumer(ctx, "payments", "billing", ">", sequin.ConsumerOptions{})
	}
	if err == nil {
		_, err = client.SendMessages(ctx, "payments", []sequin.Message{
			{Key: "payments.1", Data: `{"amount":40}`}, {Key: "payments.2", Data: `{"amount`}, {Key: "payments.3", Data: `{"amount":2}`},
		})
	}
	if err == nil {
		sub, err = client.Subscribe(ctx, "payments", "billing", sequin.SubscriberConfig{})
	}
	if err != nil {
		log.Fatal(err)
	}
	return client, sub, func() { client.Close(); srv.Close(); web.Close() }
}

// A handler acks a delivery by returning nil. A message that it can never handle becomes a dead letter in another stream.
func ExampleSubscriber_Handle() {
	ctx, cancel := context.WithCancel(context.Background())
	client, sub, stop := payments(ctx)
	defer stop()
	go cancelWhenAcked(ctx, client, "payments", cancel) // a program would wait for a signal

	err := sub.Handle(ctx, sequin.HandlerConfig{
		DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3},
		OnError:    func(d sequin.Delivery, _ error) { fmt.Println("failed:", d.Key) },
	}, func(_ context.Context, d sequin.Delivery) error {
		p, err := sequin.DecodeJSON[Payment](d)
		if err != nil {
			return err // permanent: the message becomes a dead letter at once
		}
		fmt.Println("charged:", d.Key, p.Amount)
		return nil
	})
	fmt.Println("stopped:", err)

	letters, err := client.ListMessages(context.Background(), "dead", sequin.ListOptions{})
	fmt.Println("dead letters:", len(letters), err)
	// Output:
	// charged: payments.1 40
	// failed: payments.2
	// charged: payments.3 2
	// stopped: <nil>
	// dead letters: 1 <nil>
}

// A range loop has no dead letters of its own. IsPermanent tells it which errors no later try will mend.
func ExampleIsPermanent() {
	for _, data := range []string{`{"amount":40}`, `{"amount`} {
		_, err := sequin.DecodeJSON[Payment](sequin.Delivery{Key: "payments.1", Data: data})
		fmt.Println(sequin.IsPermanent(err))
	}
	fmt.Println(sequin.IsPermanent(errDeclined))
	fmt.Println(sequin.IsPermanent(sequin.Permanent(errDeclined)))
	// Output:
	// false
	// true
	// false
	// true
}

// A batch handler gets the deliveries that have arrived, for example for one insert into a database.
func ExampleSubscriber_HandleBatch() {
	ctx, cancel := context.WithCancel(context.Background())
	_, sub, stop := payments(ctx)
	defer stop()

	err := sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 3}, func(_ context.Context, batch []sequin.Delivery) error {
		fmt.Println("insert", len(batch), "rows")
		cancel() // a program would wait for a signal
		return nil
	})
	fmt.Println("stopped:", err)
	// Output:
	// insert 3 rows
	// stopped: <nil>
}

// A pipeline acks a delivery once its output messages are stored in the target stream.
func ExampleSubscriber_Pipe() {
	ctx, cancel := context.WithCancel(context.Background())
	client, sub, stop := payments(ctx)
	defer stop()
	pub, err := client.NewPublisher("large", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}

	go cancelWhenAcked(ctx, client, "payments", cancel) // a program would wait for a signal
	err = sub.Pipe(ctx, pub, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
		p, err := sequin.DecodeJSON[Payment](d)
		if err != nil || p.Amount < 10 {
			return nil, nil // no messages: the delivery is acked at once
		}
		return []sequin.Message{{Key: "large." + d.Key, Data: d.Data}}, nil
	})
	fmt.Println("stopped:", errors.Join(err, pub.Close(context.Background())))
	fmt.Println("sent:", pub.Stats().Sent, "acked:", sub.Stats().Acked)
	// Output:
	// stopped: <nil>
	// sent: 1 acked: 3
}
