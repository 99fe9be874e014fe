package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// A handler that wants a message later calls NackAfter. It has not failed: there is no dead letter and no backoff, and the
// server does not count the delivery.
func ExampleDelivery_NackAfter() {
	ctx, cancel := context.WithCancel(context.Background())
	_, sub, stop := payments(ctx)
	defer stop()

	later := true
	err := sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
		switch {
		case d.Key == "payments.1" && later:
			later = false
			fmt.Println(d.Key, "later")
			return d.NackAfter(10 * time.Millisecond)
		case d.Key == "payments.1":
			fmt.Println(d.Key, "delivery", d.Attempt)
			cancel() // a program would wait for a signal
		}
		return nil
	})
	fmt.Println("stopped:", err)
	// Output:
	// payments.1 later
	// payments.1 delivery 1
	// stopped: <nil>
}

// A range loop extends the lease of a message that takes longer than it knew. Handlers do so by themselves.
func ExampleDelivery_Extend() {
	ctx := context.Background()
	_, sub, stop := payments(ctx)
	defer stop()

	d := <-sub.Deliveries()
	fmt.Println(d.Key, "again:", d.Extend(ctx, 10*time.Minute))
	deadline, _ := d.Context().Deadline()
	fmt.Println("ends ten minutes from now:", deadline.Sub(d.Deadline) > 9*time.Minute)
	fmt.Println(d.AckSync(ctx))
	_ = sub.Close(ctx)
	// Output:
	// payments.1 again: <nil>
	// ends ten minutes from now: true
	// <nil>
}

// A program without a Subscriber keeps messages back as well. A server that cannot is told by ErrUnsupported.
func ExampleClient_NackMessagesAfter() {
	ctx := context.Background()
	srv := httptest.NewServer(server.New(server.Config{}))
	defer srv.Close()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CreateStream(ctx, "payments", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	consumer, err := client.CreateConsumer(ctx, "payments", "ledger", ">", sequin.ConsumerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.SendMessage(ctx, "payments", "payments.1", "40 EUR"); err != nil {
		log.Fatal(err)
	}

	m, err := client.ReceiveMessage(ctx, "payments", consumer.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Key)
	fmt.Println(client.NackMessagesAfter(ctx, "payments", consumer.ID, time.Hour, []string{m.AckID}))
	peeked, err := client.PeekMessages(ctx, "payments", consumer.ID, sequin.ListOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(peeked[0].Info.State == sequin.StateDelayed)
	// Output:
	// payments.1
	// <nil>
	// true
}

// AckSync returns when the server has confirmed the ack. A delivery is settled once.
func ExampleDelivery_AckSync() {
	ctx := context.Background()
	_, sub, stop := payments(ctx)
	defer stop()

	d := <-sub.Deliveries()
	fmt.Println(d.AckSync(ctx))
	fmt.Println(errors.Is(d.Nack(), sequin.ErrSettled))
	fmt.Println(sub.Close(ctx), sub.Stats().Acked)
	// Output:
	// <nil>
	// true
	// <nil> 1
}

// refusingAcks starts the embedded server behind a handler that refuses acks, as a server does whose token has expired.
func refusingAcks(ctx context.Context) (client *sequin.Client, stop func()) {
	srv := server.New(server.Config{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/ack") {
			srv.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"summary":"the token has expired"}`)
	}))
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err == nil {
		err = prepare(ctx, client)
	}
	if err == nil {
		_, err = client.SendMessage(ctx, "orders", "orders.1", `{"qty":4}`)
	}
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { client.Close(); srv.Close(); web.Close() }
}

// Ack queues the ack. OnAckError gets what became of it if the server refused it: here because its token has expired.
func ExampleSubscriberConfig_onAckError() {
	ctx := context.Background()
	client, stop := refusingAcks(ctx)
	defer stop()
	refused := make(chan string, 1)
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{
		OnAckError: func(d sequin.Delivery, err error) {
			if errors.Is(err, sequin.ErrUnauthorized) {
				refused <- d.Key
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	d := <-sub.Deliveries()
	fmt.Println(d.Ack())
	_ = sub.Close(ctx) // waits for the last acks
	fmt.Println(<-refused, "may be delivered again")
	// Output:
	// <nil>
	// orders.1 may be delivered again
}

// A stop returns what was not delivered to the server. A DrainError counts what the program left unsettled.
func ExampleDrainError() {
	ctx := context.Background()
	_, sub, stop := payments(ctx)
	defer stop()

	d := <-sub.Deliveries()
	closing, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	err := sub.Close(closing)
	var left *sequin.DrainError
	if errors.As(err, &left) {
		fmt.Println(d.Key, "is one of", left.Unsettled)
	}
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// payments.1 is one of 1
	// true
}
