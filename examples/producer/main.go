// Producer sends the records of a file, or of standard input, to a stream. It reads NDJSON, CSV and plain lines. It shows
// how an application uses a Publisher: with keys made from the data, back-pressure, the result of each message, and a clean
// stop on ctrl-C.
//
//	go run ./examples/producer -h
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sequin-go/sequin"
)

// The exit codes, as -h lists them.
const (
	exitSent   = 0
	exitUnsent = 1
	exitUsage  = 2
)

var errInterrupted = errors.New("interrupted")

func main() {
	// The first ctrl-C ends reading, a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stderr, isTerminal(os.Stderr)))
}

// run is main with its arguments and files as parameters.
func run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer, live bool) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, errHelp) {
		return exitSent
	}
	if err != nil {
		return exitUsage // parseOptions has printed the reason
	}
	input, closeInput, err := o.open(stdin)
	if err != nil {
		fmt.Fprintf(stderr, "producer: %v\n", err)
		return exitUsage
	}
	defer closeInput()
	if err := produce(ctx, o, input, stderr, live); err != nil {
		fmt.Fprintf(stderr, "producer: %v\n", err)
		return exitUnsent
	}
	return exitSent
}

// produce sends everything. Its error lists what could not be sent.
func produce(ctx context.Context, o options, input io.Reader, stderr io.Writer, live bool) error {
	client, err := sequin.NewClient(sequin.Config{BaseURL: o.url})
	if err != nil {
		return err
	}
	defer client.Close()
	if o.create {
		if _, err := client.EnsureStream(ctx, o.stream, sequin.StreamOptions{}); err != nil {
			return err
		}
	}
	spooled, err := o.readSpool()
	if err != nil {
		return err
	}
	rejected, err := newRejects(o.rejects, stderr, live)
	if err != nil {
		return err
	}
	pub, err := client.NewPublisher(o.stream, sequin.PublisherConfig{RetryFor: o.retryFor})
	if err != nil {
		return errors.Join(err, rejected.close())
	}
	sendCtx := newGraceContext(ctx, o.grace)
	defer sendCtx.cancel(nil)
	readCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errInterrupted) })()
	tracked, m := newTracker(pub, rejected, stop), newMeter()
	f := &feeder{o: o, tracker: tracked, rejects: rejected}
	shown := showProgress(stderr, live, o.every, func() (line, trouble string) {
		stats, failed := pub.Stats(), tracked.failed.Load()
		return m.line(stats, f.read.Load(), failed, rejected.count()), m.trouble(stats, failed)
	})
	fed := f.feedAll(readCtx, sendCtx, spooled, input)
	if fed != nil {
		sendCtx.startGrace()
	}
	closed := sendCtx.closePublisher(pub)
	left := tracked.unsent()
	shown.end()
	fmt.Fprintln(stderr, m.summary(pub.Stats()))
	return errors.Join(fed, closed, o.spoolUnsent(left, f.rest), rejected.close())
}
