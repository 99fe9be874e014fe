// Http-outbox is a web service that publishes a message for each request. It shows how an HTTP handler uses a Publisher: handlers
// that run at once share requests to Sequin, and each of them answers when its own message is stored.
//
//	go run ./examples/http-outbox
//	curl -i -d '{"id":"7","qty":4}' http://127.0.0.1:8080/orders
//
// Nothing has to be installed: the server of Sequin runs inside the process. If $SEQUIN_URL is set, that server is used instead,
// with the token of $SEQUIN_TOKEN. With -load the program sends requests to itself, and prints how many it answers a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/command"
)

var outbox = command.Command{Name: "http-outbox", Usage: "[-addr ADDR] [-wait TIME] [-load TIME]", About: `Answers POST /orders when the order is stored in a stream: that of $SEQUIN_URL and
$SEQUIN_TOKEN, or of a server in this process.
`}

// options are the arguments.
type options struct {
	addr string
	wait time.Duration // how long a request waits for its message to be stored
	load time.Duration
}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(outbox.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, o, os.Stdout) }))
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("http-outbox", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "the `ADDR` to listen on")
	flags.DurationVar(&o.wait, "wait", 5*time.Second, "the `TIME` that a request waits at most")
	flags.DurationVar(&o.load, "load", 0, "send requests for that `TIME`, print the rate, and end")
	err := outbox.Parse(flags, args, stderr)
	switch {
	case err != nil:
	case o.wait <= 0:
		err = outbox.Refuse(stderr, fmt.Errorf("-wait is %v, must be more than 0", o.wait))
	case o.load < 0:
		err = outbox.Refuse(stderr, fmt.Errorf("-load is %v, must not be negative", o.load))
	}
	return o, err
}

// run serves until ctx ends, or until the load is over. It answers the requests that run before it returns.
func run(ctx context.Context, o options, out io.Writer) error {
	client, where, err := backend.Connect()
	if err != nil {
		return err
	}
	defer where.Stop()
	if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		return err
	}
	// RetryFor ends the attempts for a message whose request has been answered with an error: its client sends it again.
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{RetryFor: o.wait})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return errors.Join(err, pub.Close(ctx))
	}
	web := &http.Server{Handler: newHandler(pub, o.wait), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	url := "http://" + listener.Addr().String()
	fmt.Fprintf(out, "orders: POST %s/orders, to %s\n", url, where.Where)
	if o.load > 0 {
		err = sendLoad(ctx, url, o.load, out)
	} else {
		select {
		case <-ctx.Done():
		case err = <-served:
		}
	}
	return errors.Join(err, shutDown(web, pub, o.wait))
}

// shutDown lets requests that run end, and sends what they wait for.
func shutDown(web *http.Server, pub *sequin.Publisher, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*wait)
	defer cancel()
	return errors.Join(web.Shutdown(ctx), pub.Close(ctx))
}
