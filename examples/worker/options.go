package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// options are the command's arguments.
type options struct {
	url, token       string
	stream, consumer string
	workers          int
	inFlight         int
	each, grace      time.Duration
}

var errHelp = flag.ErrHelp

const usage = `usage: worker -stream NAME -consumer NAME [options]

Prints each message of the consumer as a line with its key, a tab and its data, and acks it.
ctrl-C or SIGTERM drains: messages that were started are finished and acked, and the others
are returned to the server at once. An output that fails, such as a full disk or a closed pipe,
drains, too.

`

const exits = `
exit codes: 0 every message that was started is settled, 1 something was left or failed, 2 wrong usage
`

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("worker", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.url, "url", "", "the server's `URL` (default $SEQUIN_URL, then http://localhost:7376)")
	f.StringVar(&o.token, "token", "", "the server's bearer `token` (default $SEQUIN_TOKEN)")
	f.StringVar(&o.stream, "stream", "", "the stream's `name`")
	f.StringVar(&o.consumer, "consumer", "", "the consumer's `name`, or its id")
	f.IntVar(&o.workers, "workers", 8, "the `number` of goroutines that work")
	f.IntVar(&o.inFlight, "in-flight", 0, "the largest `number` of messages in flight (default 1,000)")
	f.DurationVar(&o.each, "each", 0, "work on each message for this `duration`")
	f.DurationVar(&o.grace, "grace", 10*time.Second, "wait for this `duration` at a stop for messages that were started")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		f.SetOutput(stderr)
		f.PrintDefaults()
		fmt.Fprint(stderr, exits)
		return o, errHelp
	}
	if o.token == "" {
		o.token = os.Getenv("SEQUIN_TOKEN") // not the flag's default, which -h would print
	}
	switch {
	case err != nil:
		return o, err
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q; see -h", f.Arg(0))
	case o.stream == "" || o.consumer == "":
		return o, errors.New("-stream and -consumer must be given; see -h")
	case o.workers < 1:
		return o, fmt.Errorf("-workers is %d, must be at least 1", o.workers)
	case o.each < 0 || o.grace <= 0:
		return o, fmt.Errorf("-each %v and -grace %v: -each must not be negative, -grace must be positive", o.each, o.grace)
	}
	return o, nil
}
