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

// sinkServer starts a server whose Sinks deliver what a test commits.
func sinkServer() (srv *server.Server, client *sequin.Client, stop func()) {
	srv = server.New(server.Config{})
	web := httptest.NewServer(srv)
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		log.Fatal(err)
	}
	return srv, client, func() { client.Close(); srv.Close(); web.Close() }
}

// A sink of a released Sequin delivers the changes of the rows of a table. In a test the embedded server has one.
func ExampleClient_SubscribeSink() {
	ctx := context.Background()
	srv, client, stop := sinkServer()
	defer stop()
	type order struct {
		ID  int `json:"id"`
		Qty int `json:"qty"`
	}
	if err := srv.Sink("orders", server.SinkOptions{}).Insert(order{ID: 7, Qty: 4}); err != nil {
		log.Fatal(err)
	}

	sub, err := client.SubscribeSink(ctx, "orders", sequin.SinkConfig{})
	if err != nil {
		log.Fatal(err)
	}
	d := <-sub.Deliveries()
	change, err := sequin.DecodeChange[order](d)
	fmt.Println(change.Action, change.Record, err)
	fmt.Println(d.AckSync(ctx), sub.Close(ctx))
	// Output:
	// insert {7 4} <nil>
	// <nil> <nil>
}

// A program looks at each kind of change. Before tells the row before an update, if the table has REPLICA IDENTITY FULL.
func ExampleChange() {
	type order struct {
		ID  int `json:"id"`
		Qty int `json:"qty"`
	}
	ctx := context.Background()
	srv, client, stop := sinkServer()
	defer stop()
	// The changes of a table of a test. In production Postgres has them.
	sink := srv.Sink("orders", server.SinkOptions{})
	sink.SetReplicaIdentityFull(true)
	err := errors.Join(sink.Insert(order{ID: 7, Qty: 4}), sink.Update(order{ID: 8, Qty: 1}, order{ID: 8, Qty: 2}), sink.Delete(order{ID: 9, Qty: 6}))
	if err != nil {
		log.Fatal(err)
	}

	sub, err := client.SubscribeSink(ctx, "orders", sequin.SinkConfig{})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		d := <-sub.Deliveries()
		change, err := sequin.DecodeChange[order](d)
		if err != nil {
			log.Fatal(err)
		}
		switch change.Action {
		case sequin.ActionInsert, sequin.ActionRead: // a back-fill reads the rows that exist
			fmt.Println("new:", change.Record)
		case sequin.ActionUpdate:
			before, err := change.Before()
			fmt.Println("changed:", before, "to", change.Record, err)
		case sequin.ActionDelete:
			fmt.Println("deleted:", change.Record)
		}
		if err := d.Ack(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(sub.Close(ctx)) // waits for the acks
	// Output:
	// new: {7 4}
	// changed: {8 1} to {8 2} <nil>
	// deleted: {9 6}
	// <nil>
}

// A program looks before it subscribes whether the sink delivers what it needs.
func ExampleSink() {
	ctx := context.Background()
	srv, client, stop := sinkServer()
	defer stop()
	srv.Sink("orders", server.SinkOptions{}) // in production a sink of Sequin

	sink, err := client.GetSink(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sink.Name, sink.Status, sink.Kind, sink.Actions)
	_, err = client.GetSink(ctx, "ordres")
	fmt.Println(errors.Is(err, sequin.ErrNotFound))
	// Output:
	// orders active sequin_stream [insert update delete]
	// true
}
