// Worker works on a consumer's messages with several goroutines, until ctrl-C or SIGTERM. It shows what an application
// does with a Subscriber: a pool that ranges over the channel, acks after the work and not before, and a stop that
// finishes what was begun, gives back what was not, and says what was left. It stops by itself when its output fails: to
// nack, and be given, what it cannot do would use up deliveries and help nobody.
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

// The exit codes, as -h tells them.
const (
	exitDrained = 0
	exitLeft    = 1
	exitUsage   = 2
)

func main() {
	// A reader that has gone away is an error of the output like any other: by itself it would end the program, and leave
	// what that holds to its leases.
	signal.Ignore(syscall.SIGPIPE)
	// The first signal drains, a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with what it touches passed in.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, errHelp) {
		return exitDrained
	}
	if err != nil {
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return exitUsage
	}
	if err := serve(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return exitLeft
	}
	return exitDrained
}

// serve works until ctx ends, the consumer is gone, or the output fails, and drains.
func serve(ctx context.Context, o options, stdout, stderr io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	client, err := sequin.NewClient(sequin.Config{BaseURL: o.url, Token: o.token})
	if err != nil {
		return err
	}
	defer client.Close()
	sub, err := client.Subscribe(ctx, o.stream, o.consumer, sequin.SubscriberConfig{
		MaxInFlight:  o.inFlight,
		DrainTimeout: o.grace,
		OnAckError: func(d sequin.Delivery, err error) {
			fmt.Fprintf(stderr, "worker: %s may come again: %v\n", d.Key, err)
		},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "working on %s/%s with %d goroutines\n", o.stream, o.consumer, o.workers)
	began := time.Now()
	p := &pool{each: o.each, stop: stop, out: bufio.NewWriter(stdout)}
	failed := p.work(sub, o.workers)
	// The channel is closed and what was begun is done, or DrainTimeout has ended it: the last acks are on their way. Without
	// Close, which awaits them and tells the outcome, the process would end before they have left.
	closing, cancel := context.WithTimeout(context.Background(), o.grace)
	defer cancel()
	left := sub.Close(closing)
	report(stderr, sub.Stats(), time.Since(began))
	return errors.Join(failed, sub.Err(), left)
}

func report(w io.Writer, s sequin.SubscriberStats, took time.Duration) {
	fmt.Fprintf(w, "%d handed out, %d acked, %d nacked, %d came too late, %d of unknown outcome, in %v\n",
		s.HandedOut, s.Acked, s.Nacked, s.RefusedLate, s.UnknownOutcomes, took.Round(time.Millisecond))
}
