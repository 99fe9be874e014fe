package durable_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
	"github.com/sequin-go/sequin/server/transfer"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A stream moves to another store with what its consumer has acked. A store on Postgres can be either end.
func Example_copy() {
	temporary, err := os.MkdirTemp("", "sequin")
	must(err)
	defer os.RemoveAll(temporary)
	open := func(name string) *durable.Store {
		st, err := durable.Open(filepath.Join(temporary, name), durable.Options{MinFree: -1})
		must(err)
		return st
	}
	from, to := open("old"), open("new")
	defer from.Close()
	defer to.Close()
	ctx := context.Background()
	connect := func(st *durable.Store) (client *sequin.Client, stop func()) {
		srv := server.New(server.Config{Store: st})
		web := httptest.NewServer(srv)
		client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
		must(err)
		return client, func() { client.Close(); srv.Close(); web.Close() }
	}

	client, stop := connect(from)
	_, err = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	must(err)
	_, err = client.EnsureConsumer(ctx, "orders", "billing", ">", sequin.ConsumerOptions{})
	must(err)
	for i := range 3 {
		_, err = client.SendMessage(ctx, "orders", fmt.Sprint("orders.", i), "placed")
		must(err)
	}
	deliveries, err := client.ReceiveMessages(ctx, "orders", "billing", sequin.ReceiveOptions{BatchSize: 2})
	must(err)
	must(client.AckMessage(ctx, "orders", "billing", deliveries[1].AckID))
	stop()

	report, err := transfer.Copy(ctx, from, to, transfer.Options{})
	fmt.Println(report.Streams[0].Messages, "messages", err)
	client, stop = connect(to)
	defer stop()
	deliveries, err = client.ReceiveMessages(ctx, "orders", "billing", sequin.ReceiveOptions{BatchSize: 10})
	for _, d := range deliveries {
		fmt.Println(d.Key, d.Data, err)
	}
	// The old stream is read-only. If the new store is given up, it is used again.
	writable, err := transfer.Cancel(ctx, from, nil, transfer.Options{})
	fmt.Println("writable again:", writable, err)
	// Output:
	// 3 messages <nil>
	// orders.0 placed <nil>
	// orders.2 placed <nil>
	// writable again: [orders] <nil>
}
