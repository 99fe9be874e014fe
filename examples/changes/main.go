// Changes follows the changes of a database table. It copies them from a sink of Sequin into a stream, and keeps an index of
// the rows in memory, as a search index would. It can be stopped and started again at any time: the sink delivers again what
// was not acked, and the index is built from the stream, which keeps the latest change of each row.
//
//	go run ./examples/changes
//
// Nothing has to be installed: the sink is emulated inside the process, with the changes of a small table, and the program
// ends when it has followed them. If $SEQUIN_URL is set, the sink of that Sequin is followed instead, with the token of
// $SEQUIN_TOKEN, until ctrl-C. Sequin has no streams, so that the stream is on another server: the one of -target, or one
// inside the process.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/command"
	"github.com/sequin-go/sequin/server"
)

var changes = command.Command{Name: "changes", Usage: "[-sink NAME] [-target URL]", About: `Copies the changes of a table from a sink into a stream, and indexes the rows. The sink is
emulated, or is that of $SEQUIN_URL and $SEQUIN_TOKEN.
`}

func main() {
	flags := flag.NewFlagSet("changes", flag.ContinueOnError)
	sink := flags.String("sink", "orders-sink", "the `NAME` of the sink")
	target := flags.String("target", "", "the `URL` of the server with the stream; default one in this process")
	if err := changes.Parse(flags, os.Args[1:], os.Stderr); err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(changes.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, os.Getenv("SEQUIN_URL"), *target, *sink, os.Stdout) }))
}

// run follows the sink until ctx ends, or until the changes of the emulated table have been followed.
func run(ctx context.Context, sourceURL, targetURL, sinkName string, out io.Writer) error {
	var emulated *server.Sink
	if sourceURL == "" || targetURL == "" {
		srv := server.New(server.Config{})
		defer srv.Close()
		url, stop, err := listen(srv)
		if err != nil {
			return err
		}
		defer stop()
		if sourceURL == "" {
			sourceURL, emulated = url, srv.Sink(sinkName, server.SinkOptions{Table: "public.orders"})
		}
		if targetURL == "" {
			targetURL = url
		}
	}
	source, err := sequin.NewClient(sequin.Config{BaseURL: sourceURL})
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := sequin.NewClient(sequin.Config{BaseURL: targetURL})
	if err != nil {
		return err
	}
	defer target.Close()
	f := &follower{source: source, target: target, sink: sinkName, stream: "orders", index: newIndex()}
	if emulated == nil {
		return f.run(ctx)
	}
	return f.demonstrate(ctx, emulated, out)
}

// listen serves on a free port of the loopback interface.
func listen(srv *server.Server) (url string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := srv.HTTPServer()
	go web.Serve(ln) // ends with web.Close
	return "http://" + ln.Addr().String(), func() { web.Close() }, nil
}

// demonstrate commits the changes of a small table, follows them and prints the index.
func (f *follower) demonstrate(ctx context.Context, table *server.Sink, out io.Writer) error {
	if err := commit(table); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	caughtUp := f.catchUp(ctx, table)
	stop()
	if err := errors.Join(caughtUp, <-done); err != nil {
		return err
	}
	f.index.print(out)
	return nil
}

// commit makes the changes of the demonstration.
func commit(table *server.Sink) error {
	ann, bob, cyd := Order{1, "ann", 1}, Order{2, "bob", 2}, Order{3, "cyd", 3}
	more := ann
	more.Qty = 10
	return errors.Join(table.Insert(ann), table.Insert(bob), table.Insert(cyd), table.Update(ann, more), table.Delete(bob))
}

// catchUp waits until the index has every change of the table.
func (f *follower) catchUp(ctx context.Context, table *server.Sink) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for table.State() != (server.SinkState{}) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	last, err := f.target.ListMessages(ctx, f.stream, sequin.ListOptions{Limit: 1, Sort: sequin.SortDescending})
	if err != nil || len(last) == 0 {
		return err
	}
	return f.index.wait(ctx, last[0].Seq)
}
