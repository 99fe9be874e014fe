package watermillsequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/server"
)

// embedded starts a server in this process, and returns a client for it.
func embedded() (client *sequin.Client, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	web := server.New(server.Config{}).HTTPServer()
	go web.Serve(listener)
	client, err = sequin.NewClient(sequin.Config{BaseURL: "http://" + listener.Addr().String()})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		client.Close()
		web.Shutdown(context.Background())
	}
}

// bill is the handler of the router.
func bill(order *message.Message) ([]*message.Message, error) {
	if string(order.Payload) == "broken" {
		return nil, errors.New("no such order")
	}
	return message.Messages{message.NewMessage(order.UUID, []byte("bill for "+string(order.Payload)))}, nil
}

// A router of Watermill with retries, and with a queue for the messages that cannot be handled.
func Example() {
	client, stop := embedded()
	defer stop()
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client}, nil)
	if err != nil {
		log.Fatal(err)
	}
	sub, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "billing"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		log.Fatal(err)
	}
	poison, err := middleware.PoisonQueue(pub, "poison")
	if err != nil {
		log.Fatal(err)
	}
	router.AddMiddleware(poison, middleware.Retry{MaxRetries: 2, InitialInterval: time.Millisecond}.Middleware)
	router.AddHandler("bill", "orders", sub, "bills", pub, bill)
	ctx, cancel := context.WithCancel(context.Background())
	router.AddConsumerHandler("show", "bills", sub, func(m *message.Message) error {
		fmt.Printf("%s\n", m.Payload)
		cancel() // one bill is enough here
		return nil
	})
	go func() {
		<-router.Running()
		if err := pub.Publish("orders", message.NewMessage("1", []byte("broken")), message.NewMessage("2", []byte("4 books"))); err != nil {
			log.Fatal(err)
		}
	}()
	if err := router.Run(ctx); err != nil {
		log.Fatal(err)
	}
	dead, err := client.ListMessages(context.Background(), "poison", sequin.ListOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("poison:", len(dead))
	fmt.Println(errors.Join(sub.Close(), pub.Close()))
	// Output:
	// bill for 4 books
	// poison: 1
	// <nil>
}

// Messages of one customer are handled one after the other, and those of others meanwhile. The delivery of a message says how often it
// was tried.
func ExampleEnvelopeMarshaler() {
	client, stop := embedded()
	defer stop()
	byCustomer := watermillsequin.EnvelopeMarshaler{Key: func(_ string, m *message.Message) string { return m.Metadata.Get("customer") }}
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client, Marshaler: byCustomer}, nil)
	if err != nil {
		log.Fatal(err)
	}
	cfg := watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "billing", Handler: sequin.HandlerConfig{Workers: 8}}
	sub, err := watermillsequin.NewSubscriber(cfg, nil)
	if err != nil {
		log.Fatal(err)
	}
	messages, err := sub.Subscribe(context.Background(), "orders")
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"4 apples", "no apples after all"} {
		order := message.NewMessage(watermill.NewUUID(), []byte(text))
		order.Metadata.Set("customer", "ann")
		if err := pub.Publish("orders", order); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		m := <-messages
		d, _ := watermillsequin.DeliveryFromCtx(m.Context())
		fmt.Printf("%s wants %s, attempt %d\n", d.Key, m.Payload, d.Attempt)
		m.Ack()
	}
	fmt.Println(errors.Join(sub.Close(), pub.Close()))
	// Output:
	// ann wants 4 apples, attempt 1
	// ann wants no apples after all, attempt 1
	// <nil>
}
