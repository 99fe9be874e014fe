package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const help = `producer sends the records of a file to a Sequin stream.

    producer -stream orders -key 'orders.{customer}.{id}' orders.ndjson
    producer -stream orders -key 'orders.{customer}.{id}' -create -spool unsent.ndjson orders.csv
    tail -F app.log | producer -stream logs -format lines -key 'web1.{uuid}'

The input is a file, or standard input when none is named. By its name, or by -format, it is

    ndjson   a JSON object a line; the message's data is the line as it stands
    csv      a table whose first row names the columns; the data is the row as a JSON object of strings
    lines    anything else; the data is the line

The key of a message is made from a template. {name} is a field of the record, {a.b} one inside an object, {line} the
record's number from 1, {uuid} a fresh UUID; {{ and }} are braces. A field's value becomes part of one token of the key: a
record whose value is missing, empty, or holds a dot, a space or another character that a token cannot have is rejected.
With -sanitize each such character becomes '_' instead; note that then different values may make the same key.

Messages are sent in batches in the background. While the server is away they are tried again, and reading waits. On
ctrl-C, and when the server refuses everything (the stream is mistyped, the token wrong), reading ends and what was read
is sent, for -grace at most. What is left, and what failed for -retry-for, goes to the -spool file, which is sent first at
the next start. Only what can never be sent is rejected: no key can be made of it, the server calls it invalid, or a later
message of its key was sent. A second ctrl-C ends the program at once, and loses what is not sent.

Exit code 0: everything was sent. 1: something was not, and the last lines say what. 2: the arguments make no sense.

`

var errHelp = errors.New("help was asked for")

// options are the command's arguments.
type options struct {
	url, token, stream string
	create             bool
	file, format       string
	skip               int64
	key                template
	spool, rejects     string
	retryFor, grace    time.Duration
	every              time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var key string
	var sanitize bool
	flags := flag.NewFlagSet("producer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, help); flags.PrintDefaults() }
	flags.StringVar(&o.url, "url", "", "the server's `address`; default $SEQUIN_URL, then http://localhost:7376")
	flags.StringVar(&o.token, "token", os.Getenv("SEQUIN_TOKEN"), "the server's bearer `token`; default $SEQUIN_TOKEN")
	flags.StringVar(&o.stream, "stream", "", "the stream's `name` or id")
	flags.BoolVar(&o.create, "create", false, "create the stream when there is none")
	flags.StringVar(&o.format, "format", "", "ndjson, csv or lines; default by the file's name")
	flags.StringVar(&key, "key", "records.{line}", "the `template` of keys")
	flags.BoolVar(&sanitize, "sanitize", false, "put _ in place of what a key cannot hold")
	flags.Int64Var(&o.skip, "skip", 0, "pass over so `many` records first")
	flags.StringVar(&o.spool, "spool", "", "the `file` for what could not be sent; it is sent first at the next start")
	flags.StringVar(&o.rejects, "rejects", "", "the `file` for what can never be sent; default stderr alone")
	flags.DurationVar(&o.retryFor, "retry-for", 0, "leave a message to the spool after so `long` an outage; default never")
	flags.DurationVar(&o.grace, "grace", 10*time.Second, "how `long` to go on sending after ctrl-C, or while the server refuses everything")
	flags.DurationVar(&o.every, "every", 5*time.Second, "how `often` to report progress where stderr is no terminal")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, errHelp
	} else if err != nil {
		return o, errors.New("-h explains the arguments")
	}
	o.file = flags.Arg(0)
	if o.format == "" {
		o.format = formatOf(o.file)
	}
	var err error
	o.key, err = parseTemplate(key, sanitize)
	switch {
	case flags.NArg() > 1:
		return o, fmt.Errorf("one file at a time, not %d", flags.NArg())
	case o.stream == "":
		return o, errors.New("-stream is needed")
	case formats[o.format] == nil:
		return o, fmt.Errorf("-format is %q, must be ndjson, csv or lines", o.format)
	case o.grace < 0 || o.every <= 0 || o.skip < 0:
		return o, errors.New("-grace and -skip must not be negative, -every must be positive")
	}
	return o, err
}

func formatOf(file string) string {
	switch ext := strings.ToLower(filepath.Ext(file)); ext {
	case ".ndjson", ".jsonl", ".json":
		return "ndjson"
	case ".csv":
		return "csv"
	default:
		return "lines"
	}
}

// open opens the input; the caller calls done.
func (o options) open(stdin io.Reader) (input io.Reader, done func(), err error) {
	if o.file == "" || o.file == "-" {
		return stdin, func() {}, nil
	}
	f, err := os.Open(o.file)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil // it was only read
}
