package server_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// A test of a program that reads a sink needs no Postgres: it commits the changes of the rows itself. A record is anything
// whose JSON is an object with the primary key.
func ExampleSink() {
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	defer func() { srv.Close(); web.Close() }()
	type order struct {
		ID  int `json:"id"`
		Qty int `json:"qty"`
	}
	orders := srv.Sink("orders", server.SinkOptions{Table: "public.orders"})
	if err := orders.Insert(order{ID: 7, Qty: 4}); err != nil {
		log.Fatal(err)
	}
	if err := orders.Update(nil, order{ID: 7, Qty: 5}); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	// A row has one change outstanding at most, so that its changes come one after the other.
	for range 2 {
		messages, err := client.ReceiveSink(ctx, "orders", sequin.ReceiveOptions{BatchSize: 10})
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range messages {
			change, err := sequin.DecodeChange[order](sequin.Delivery{Data: m.Data})
			fmt.Println(change.Metadata.TableName, change.Action, change.Record, err)
			fmt.Printf("%+v\n", orders.State())
			if err := client.AckSink(ctx, "orders", []string{m.AckID}); err != nil {
				log.Fatal(err)
			}
		}
	}
	fmt.Println("all acked:", orders.State() == server.SinkState{})
	// Output:
	// orders insert {7 4} <nil>
	// {Available:0 Blocked:1 Outstanding:1}
	// orders update {7 5} <nil>
	// {Available:0 Blocked:0 Outstanding:1}
	// all acked: true
}
