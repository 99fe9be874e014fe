package sequinpubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"gocloud.dev/pubsub"

	"github.com/sequin-go/sequin"
	sequinpubsub "github.com/sequin-go/sequin/adapters/gocloud"
	"github.com/sequin-go/sequin/server"
)

// embedded starts a server in this process, with a stream and a consumer, and returns a client for it.
func embedded(ctx context.Context) (client *sequin.Client, stop func()) {
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
	_, errStream := client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	_, errConsumer := client.EnsureConsumer(ctx, "orders", "billing", "", sequin.ConsumerOptions{})
	if err := errors.Join(errStream, errConsumer); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		client.Close()
		web.Shutdown(ctx)
	}
}

// With $SEQUIN_URL, pubsub.OpenTopic(ctx, "sequin://orders?key_name=order") and
// pubsub.OpenSubscription(ctx, "sequin://orders?consumer=billing&key_name=order") open the same.
func Example() {
	ctx := context.Background()
	client, stop := embedded(ctx)
	defer stop()
	topic, err := sequinpubsub.OpenTopic(client, "orders", &sequinpubsub.TopicOptions{KeyName: "order"})
	if err != nil {
		log.Fatal(err)
	}
	subscription, err := sequinpubsub.OpenSubscription(client, "orders", "billing", &sequinpubsub.SubscriptionOptions{KeyName: "order"})
	if err != nil {
		log.Fatal(err)
	}
	err = topic.Send(ctx, &pubsub.Message{Body: []byte(`{"qty":4}`), Metadata: map[string]string{"order": "orders.1", "tenant": "7"}})
	if err != nil {
		log.Fatal(err)
	}
	m, err := subscription.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Metadata, string(m.Body))
	m.Ack()
	fmt.Println(errors.Join(topic.Shutdown(ctx), subscription.Shutdown(ctx)))
	// Output:
	// map[order:orders.1 tenant:7] {"qty":4}
	// <nil>
}

func ExampleURLOpener() {
	ctx := context.Background()
	client, stop := embedded(ctx)
	defer stop()
	mux := new(pubsub.URLMux)
	mux.RegisterTopic(sequinpubsub.Scheme, &sequinpubsub.URLOpener{Client: client})
	topic, err := mux.OpenTopic(ctx, "sequin://orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(topic.Send(ctx, &pubsub.Message{Body: []byte("4 apples")}))
	fmt.Println(topic.Shutdown(ctx))
	// Output:
	// <nil>
	// <nil>
}
