package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sequin-go/sequin/examples/internal/command"
)

var producer = command.Command{Name: "producer", Usage: "-stream NAME [options] [FILE]", Files: 1, About: `Sends the records of a file to a Sequin stream.

    producer -stream orders -key 'orders.{customer}.{id}' orders.ndjson
    producer -stream orders -key 'orders.{id}' -create -spool unsent orders.csv
    tail -F app.log | producer -stream logs -format lines -key 'web1.{uuid}'

The token of the server is read from $SEQUIN_TOKEN. The input is a file, or
standard input if none is given. Its format follows from its name, or from
-format:

    ndjson   one JSON object per line; the data is the unchanged line
    csv      a table whose first row names the columns; the data is the row as a
             JSON object of strings
    lines    anything else; the data is the line

The key of a message is made from a template. {name} is a field of the record,
{a.b} a field inside an object, {line} the number of the record from 1, and
{uuid} a new UUID; {{ and }} are braces. The value of a field becomes part of
one token of the key. A record is rejected if the value is missing or empty, or
contains a dot, a space or another character that a token must not contain.
With -sanitize each such character is replaced by '_'; different values may
then make the same key.

Messages are sent in batches, in the background. While the server is
unavailable they are sent again, and reading waits. On ctrl-C, and when the
server refuses everything (because the stream is mistyped or the token is
wrong), reading ends, and what was read is sent for at most -grace. What
remains, and what failed after -retry-for, is written to the -spool file, which
is sent first at the next start. A record is rejected only if it can never be
sent: no key can be made of it, the server calls it invalid, or a later message
of its key was sent. A second ctrl-C ends the program at once and loses what is
unsent.

Exit codes: 0 everything was sent; 1 something was not sent, and the last lines
say what; 2 the arguments are wrong.
`}

var errHelp = flag.ErrHelp

// options are the command's arguments.
type options struct {
	url, stream     string
	create          bool
	file, format    string
	skip            int64
	key             template
	spool, rejects  string
	retryFor, grace time.Duration
	every           time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var key string
	var sanitize bool
	flags := flag.NewFlagSet("producer", flag.ContinueOnError)
	flags.StringVar(&o.url, "url", "", "the `URL` of the server (default $SEQUIN_URL, then http://localhost:7376)")
	flags.StringVar(&o.stream, "stream", "", "the `NAME` or id of the stream")
	flags.BoolVar(&o.create, "create", false, "create the stream if it does not exist")
	flags.StringVar(&o.format, "format", "", "the `FORMAT`: ndjson, csv or lines (default by the file's name)")
	flags.StringVar(&key, "key", "records.{line}", "the `TEMPLATE` of keys")
	flags.BoolVar(&sanitize, "sanitize", false, "replace characters that a key must not contain by _")
	flags.Int64Var(&o.skip, "skip", 0, "leave out the first `N` records")
	flags.StringVar(&o.spool, "spool", "", "the `FILE` for unsent messages; it is sent first at the next start")
	flags.StringVar(&o.rejects, "rejects", "", "the `FILE` for records that can never be sent (default only stderr)")
	flags.DurationVar(&o.retryFor, "retry-for", 0, "retry for this `TIME` in an outage before spooling (default no limit)")
	flags.DurationVar(&o.grace, "grace", 10*time.Second, "continue for this `TIME` after ctrl-C, or while all is refused")
	flags.DurationVar(&o.every, "every", 5*time.Second, "report progress each `TIME` if stderr is not a terminal")
	if err := producer.Parse(flags, args, stderr); err != nil {
		return o, err
	}
	o.file = flags.Arg(0)
	if o.format == "" {
		o.format = formatOf(o.file)
	}
	var err error
	o.key, err = parseTemplate(key, sanitize)
	if err = cmp.Or(o.check(), err); err != nil {
		return o, producer.Refuse(stderr, err)
	}
	return o, nil
}

// check returns what is wrong with the options.
func (o options) check() error {
	switch {
	case o.stream == "":
		return errors.New("-stream is needed")
	case formats[o.format] == nil:
		return fmt.Errorf("-format is %q, must be ndjson, csv or lines", o.format)
	case o.grace < 0 || o.every <= 0 || o.skip < 0:
		return errors.New("-grace and -skip must not be negative, -every must be positive")
	}
	return nil
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
