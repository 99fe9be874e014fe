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
	"slices"
	"syscall"
	"time"

	"github.com/sequin-go/sequin"
)

// The exit codes, as -h tells them.
const (
	exitSent   = 0
	exitUnsent = 1
	exitUsage  = 2
)

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
	pub, err := client.NewPublisher(o.stream, sequin.PublisherConfig{RetryFor: o.retryFor, OnFailure: lost.failed})
	if err != nil {
		return err
	}
	f, m := &feeder{o: o, pub: pub, rejects: lost}, newMeter()
	shown := showProgress(stderr, live, o.every, func() string { return m.line(pub.Stats(), f.read.Load(), lost.count()) })
	rest, fed := f.feedAll(ctx, spooled, input)
	closed := finish(ctx, o, pub, rest, fed != nil)
	shown.end()
	return errors.Join(fed, closed, lost.close())
}

// finish closes the Publisher, within the grace time once ctx has ended or something else cut the input short, and spools
// what is left, with rest after it.
func finish(ctx context.Context, o options, pub *sequin.Publisher, rest []sequin.Message, cut bool) error {
	closing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	hurry := func() { time.AfterFunc(o.grace, func() { cancel(errors.New("-grace is over")) }) }
	if cut {
		hurry()
	} else {
		defer context.AfterFunc(ctx, hurry)()
	}
	err := pub.Close(closing)
	var unsent *sequin.UnsentError
	left := rest
	if errors.As(err, &unsent) {
		left = slices.Concat(unsent.Unsent, rest)
	}
	switch spooled := o.spoolAway(left); {
	case spooled != nil:
		return errors.Join(err, spooled)
	case len(left) == 0:
		return err
	case o.spool == "":
		return fmt.Errorf("%w; these were lost, from key %q to key %q: -spool would have kept them", err, left[0].Key, left[len(left)-1].Key)
	case err == nil:
		err = errors.New("the spool was not sent")
	}
	return fmt.Errorf("%w; %d messages are in %s and will be sent first at the next start", err, len(left), o.spool)
}
