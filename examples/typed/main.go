// Typed sends and handles values of Go types instead of keys and texts. It shows sequin.Typed: each kind of message is named once,
// with its type and its key, and the compiler checks what is sent where.
//
//	go run ./examples/typed
//
// Nothing has to be installed: the server of Sequin runs inside the process, unless $SEQUIN_URL names another, with the token of
// $SEQUIN_TOKEN.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/command"
)

// An Order is what a customer wants.
type Order struct {
	ID    int     `json:"id"`
	Qty   int     `json:"qty"`
	Price float64 `json:"price"`
}

// An Invoice is what an order costs.
type Invoice struct {
	Order int     `json:"order"`
	Total float64 `json:"total"`
}

// The kinds of messages.
var (
	orders   = sequin.Typed[Order]{Key: func(o Order) string { return "order." + strconv.Itoa(o.ID) }}
	invoices = sequin.Typed[Invoice]{Key: func(i Invoice) string { return "invoice." + strconv.Itoa(i.Order) }}
)

var typed = command.Command{Name: "typed", Usage: "[-n NUMBER]", About: `Sends orders and turns them into invoices, on the server of $SEQUIN_URL and $SEQUIN_TOKEN, or
on one in this process.
`}

func main() {
	n, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(typed.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, n, os.Stdout) }))
}

// parse returns the number of orders.
func parse(args []string, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("typed", flag.ContinueOnError)
	n := flags.Int("n", 3, "the `NUMBER` of orders")
	err := typed.Parse(flags, args, stderr)
	if err == nil && *n < 0 {
		err = typed.Refuse(stderr, fmt.Errorf("-n is %d, must not be negative", *n))
	}
	return *n, err
}

// run sends n orders, and ends when each has its invoice.
func run(ctx context.Context, n int, out io.Writer) error {
	client, where, err := backend.Connect()
	if err != nil {
		return err
	}
	defer where.Stop()
	for _, stream := range []string{"typed_orders", "typed_invoices"} {
		if _, err := client.EnsureStream(ctx, stream, sequin.StreamOptions{}); err != nil {
			return err
		}
		if _, err := client.EnsureConsumer(ctx, stream, "reader", "", sequin.ConsumerOptions{}); err != nil {
			return err
		}
	}
	if err := order(ctx, client, n); err != nil {
		return err
	}
	return errors.Join(bill(ctx, client, n), show(ctx, client, n, out))
}

// order sends n orders. With one lane they keep their order.
func order(ctx context.Context, client *sequin.Client, n int) error {
	pub, err := client.NewPublisher("typed_orders", sequin.PublisherConfig{Lanes: 1})
	if err != nil {
		return err
	}
	for id := range n {
		if err := orders.Send(ctx, pub, Order{ID: id, Qty: id + 1, Price: 2.5}); err != nil {
			return errors.Join(err, pub.Close(ctx))
		}
	}
	return pub.Close(ctx)
}

// bill sends an invoice for each order, until there are n.
func bill(ctx context.Context, client *sequin.Client, n int) error {
	pub, err := client.NewPublisher("typed_invoices", sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	return errors.Join(handle(ctx, client, "typed_orders", n, orders.Handler(func(ctx context.Context, o Order, _ sequin.Delivery) error {
		m, err := invoices.Message(Invoice{Order: o.ID, Total: float64(o.Qty) * o.Price})
		if err != nil {
			return err
		}
		return pub.SendSync(ctx, m) // the order is acked when its invoice is stored
	})), pub.Close(context.WithoutCancel(ctx)))
}

// show prints n invoices.
func show(ctx context.Context, client *sequin.Client, n int, out io.Writer) error {
	return handle(ctx, client, "typed_invoices", n, invoices.Handler(func(_ context.Context, i Invoice, _ sequin.Delivery) error {
		_, err := fmt.Fprintf(out, "order %d costs %.2f\n", i.Order, i.Total)
		return err
	}))
}

// handle calls a handler for n deliveries of a stream, one at a time. A program that serves for good would wait for a signal instead.
func handle(ctx context.Context, client *sequin.Client, stream string, n int, handler func(context.Context, sequin.Delivery) error) error {
	if n <= 0 {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sub, err := client.Subscribe(ctx, stream, "reader", sequin.SubscriberConfig{Pollers: 1})
	if err != nil {
		return err
	}
	defer sub.Close(context.WithoutCancel(ctx)) // in case Handle refuses to start
	return sub.Handle(ctx, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) error {
		err := handler(ctx, d)
		if err == nil {
			if n--; n == 0 {
				stop()
			}
		}
		return err
	})
}
