// Producer sends the records of a file, or of standard input, to a stream: NDJSON, CSV, or plain lines. It shows what an
// application does with a Publisher: keys from the data, back-pressure, failures one by one, and a clean end on ctrl-C.
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

// The exit codes, as -h tells them.
const (
	exitSent   = 0
	exitUnsent = 1
	exitUsage  = 2
)

var errInterrupted = errors.New("interrupted")

func main() {
	// The first ctrl-C ends the input, a second one the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stderr, isTerminal(os.Stderr)))
}

// run is main with what it touches passed in.
func run(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer, live bool) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, errHelp) {
		return exitSent
	}
	if err != nil {
		fmt.Fprintf(stderr, "producer: %v\n", err)
		return exitUsage
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

// produce sends everything and says what could not be sent.
func produce(ctx context.Context, o options, input io.Reader, stderr io.Writer, live bool) error {
	client, err := sequin.NewClient(sequin.Config{BaseURL: o.url, Token: o.token})
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
	lost, err := newRejects(o.rejects, stderr, live)
	if err != nil {
		return err
	}
	pub, err := client.NewPublisher(o.stream, sequin.PublisherConfig{RetryFor: o.retryFor})
	if err != nil {
		return err
	}
	sending := newClosing(ctx, o.grace)
	defer sending.cancel(nil)
	reading, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errInterrupted) })()
	sent, m := newLedger(pub, lost, stop), newMeter()
	f := &feeder{o: o, ledger: sent, rejects: lost}
	shown := showProgress(stderr, live, o.every, func() string { return m.line(pub.Stats(), f.read.Load(), sent.failed.Load(), lost.count()) })
	fed := f.feedAll(reading, sending, spooled, input)
	if fed != nil {
		sending.hurry()
	}
	closed := sending.finish(pub)
	left := sent.end()
	shown.end()
	return errors.Join(fed, closed, o.putAway(left, f.rest), lost.close())
}
