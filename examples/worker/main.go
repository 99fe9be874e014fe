// Worker handles the messages of a consumer with several goroutines, until ctrl-C or SIGTERM. It shows how an application
// uses a Subscriber: a pool ranges over the channel and acks each message after the work. A stop finishes the messages that
// were started, returns the others to the server, and reports what was left. The worker also stops when its output fails:
// messages that it cannot print would be nacked and redelivered again and again.
//
//	go run ./examples/worker -h
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sequin-go/sequin"
)

// The exit codes, as -h lists them.
const (
	exitDrained = 0
	exitLeft    = 1
	exitUsage   = 2
)

func main() {
	ignoreClosedPipes()
	// The first signal drains, and a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its arguments and files as parameters.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, errHelp) {
		return exitDrained
	}
	if err != nil {
		return exitUsage // parseOptions has printed the reason
	}
	if err := serve(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return exitLeft
	}
	return exitDrained
}

// serve handles messages until ctx ends, the consumer is deleted or the output fails. Then it drains.
func serve(ctx context.Context, o options, stdout, stderr io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	client, err := sequin.NewClient(sequin.Config{BaseURL: o.url})
	if err != nil {
		return err
	}
	defer client.Close()
	sub, err := client.Subscribe(ctx, o.stream, o.consumer, sequin.SubscriberConfig{
		MaxInFlight:  o.inFlight,
		DrainTimeout: o.grace,
		OnAckError: func(d sequin.Delivery, err error) {
			fmt.Fprintf(stderr, "worker: %s may be redelivered: %v\n", d.Key, err)
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "working on %s/%s with %d goroutines\n", o.stream, o.consumer, o.workers)
	began := time.Now()
	p := &pool{each: o.each, stop: stop, out: bufio.NewWriter(stdout)}
	failed := p.work(sub, o.workers)
	// The channel is closed, and the workers have ended. Close waits for the last acks, which the process would lose if it
	// ended now, and returns what was left.
	closing, cancel := context.WithTimeout(context.Background(), o.grace)
	defer cancel()
	left := sub.Close(closing)
	report(stderr, sub.Stats(), time.Since(began))
	return errors.Join(failed, sub.Err(), left)
}

func report(w io.Writer, s sequin.SubscriberStats, took time.Duration) {
	fmt.Fprintf(w, "%d delivered, %d acked, %d nacked, %d settled too late, %d of unknown outcome, in %v\n",
		s.HandedOut, s.Acked, s.Nacked, s.RefusedLate, s.UnknownOutcomes, took.Round(time.Millisecond))
}
