package postgres_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/jackc/pgx/v5"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/postgres"
)

// An application stores an order and its event in one transaction. A worker gets the event when the transaction commits, and
// never gets that of an order that was rolled back.
func ExampleOutbox() {
	ctx := context.Background()
	st, err := postgres.Open(ctx, postgres.DatabaseURL(), postgres.Options{Schema: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	client, stop := serve(st)
	defer stop()
	if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.EnsureConsumer(ctx, "orders", "mailer", "orders.*", sequin.ConsumerOptions{}); err != nil {
		log.Fatal(err)
	}
	worker, err := client.Subscribe(ctx, "orders", "mailer", sequin.SubscriberConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer worker.Close(ctx)
	conn, err := pgx.Connect(ctx, postgres.DatabaseURL())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create temporary table orders (id int primary key, item text)"); err != nil {
		log.Fatal(err)
	}

	fmt.Println("order 1:", place(ctx, conn, 1, "4 apples"))
	fmt.Println("order 1 again:", place(ctx, conn, 1, "9 apples") != nil)
	fmt.Println("order 2:", place(ctx, conn, 2, "2 pears"))
	fmt.Println(st.Flush(ctx, "orders")) // or a replica sends them within 100 ms
	for range 2 {
		event := <-worker.Deliveries()
		fmt.Println("the worker gets", event.Key, event.Data, event.Ack())
	}
	// Output:
	// order 1: <nil>
	// order 1 again: true
	// order 2: <nil>
	// <nil>
	// the worker gets orders.1 4 apples <nil>
	// the worker gets orders.2 2 pears <nil>
}

// place stores an order and its event. After an error neither is stored.
func place(ctx context.Context, conn *pgx.Conn, id int, item string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		event := sequin.Message{Key: fmt.Sprint("orders.", id), Data: item}
		if err := (postgres.Outbox{Schema: "example"}).SendTx(ctx, tx, "orders", []sequin.Message{event}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "insert into orders values ($1, $2)", id, item)
		return err
	})
}

// serve serves a store to a client.
func serve(st *postgres.Store) (client *sequin.Client, stop func()) {
	srv := server.New(server.Config{Store: st})
	web := httptest.NewServer(srv)
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { client.Close(); srv.Close(); web.Close() }
}

// A deploy makes the tables once, with a role that owns them. The servers then open the store: any number of them, on one database.
func ExampleStore() {
	ctx := context.Background()
	opts := postgres.Options{Schema: "example_open"}
	if _, err := postgres.Migrate(ctx, postgres.DatabaseURL(), opts); err != nil {
		log.Fatal(err)
	}
	version, err := postgres.ReadSchemaVersion(ctx, postgres.DatabaseURL(), opts)
	fmt.Println(version.Found == version.Known, err)
	diagnosis, err := postgres.Diagnose(ctx, postgres.DatabaseURL(), opts)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range diagnosis.Findings {
		if f.Name == "schema" {
			fmt.Println(f.Name, f.Level)
		}
	}

	for i := range 2 {
		st, err := postgres.Open(ctx, postgres.DatabaseURL(), opts)
		if err != nil {
			log.Fatal(err)
		}
		client, stop := serve(st)
		if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
			log.Fatal(err)
		}
		_, err = client.SendMessage(ctx, "orders", fmt.Sprint("orders.", i), "placed")
		messages, listErr := client.ListMessages(ctx, "orders", sequin.ListOptions{})
		fmt.Println(len(messages), err, listErr)
		stop()
		st.Close()
	}
	// Output:
	// true <nil>
	// schema ok
	// 1 <nil> <nil>
	// 2 <nil> <nil>
}
