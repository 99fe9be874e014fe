package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/sequin-go/sequin/examples/internal/command"
)

// options are the command's arguments.
type options struct {
	url              string
	stream, consumer string
	workers          int
	inFlight         int
	each, grace      time.Duration
}

var errHelp = flag.ErrHelp

var worker = command.Command{Name: "worker", Usage: "-stream NAME -consumer NAME [options]", About: `Prints each message of the consumer as a line with its key, a tab and its data,
and acks it. ctrl-C or SIGTERM drains: messages that were started are finished
and acked, and the others are returned to the server at once. An output that
fails, such as a full disk or a closed pipe, drains, too. The token of the
server is read from $SEQUIN_TOKEN.

Exit codes: 0 every message that was started is settled, 1 something was left
or failed, 2 wrong usage.
`}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("worker", flag.ContinueOnError)
	f.StringVar(&o.url, "url", "", "the `URL` of the server (default $SEQUIN_URL, then http://localhost:7376)")
	f.StringVar(&o.stream, "stream", "", "the `NAME` of the stream")
	f.StringVar(&o.consumer, "consumer", "", "the `NAME` of the consumer, or its id")
	f.IntVar(&o.workers, "workers", 8, "work with `N` goroutines")
	f.IntVar(&o.inFlight, "in-flight", 0, "have at most `N` messages in flight (default 1,000)")
	f.DurationVar(&o.each, "each", 0, "work on each message for this `TIME`")
	f.DurationVar(&o.grace, "grace", 10*time.Second, "wait for this `TIME` at a stop for messages that were started")
	if err := worker.Parse(f, args, stderr); err != nil {
		return o, err
	}
	var err error
	switch {
	case o.stream == "" || o.consumer == "":
		err = errors.New("-stream and -consumer must be given")
	case o.workers < 1:
		err = fmt.Errorf("-workers is %d, must be at least 1", o.workers)
	case o.each < 0 || o.grace <= 0:
		err = fmt.Errorf("-each %v and -grace %v: -each must not be negative, -grace must be positive", o.each, o.grace)
	}
	if err != nil {
		return o, worker.Refuse(stderr, err)
	}
	return o, nil
}
