// Cron-worker runs a command at regular times, once for each time however many cron-workers there are. It shows how an application
// handles jobs that take much longer than a lease: the leases of handlers that run are extended, and Delivery.Attempt counts
// the attempts of all processes, also those that ended with a crash.
//
//	go run ./examples/cron-worker -every 10s -- sh -c 'date; sleep 45'
//
// Nothing has to be installed: the server of Sequin runs inside the process. If $SEQUIN_URL is set, that server is used instead,
// with the token of $SEQUIN_TOKEN.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/command"
)

// anyArguments is more than a command line holds.
const anyArguments = 1 << 20

var cron = command.Command{Name: "cron-worker", Usage: "[-name NAME] [-every TIME] [-limit TIME] [-lease TIME] [-attempts N] [-grace TIME] -- COMMAND [ARGUMENT...]",
	Files: anyArguments, About: `Runs a command at regular times, once for each time in all processes with the same -name, on
the server of $SEQUIN_URL and $SEQUIN_TOKEN, or on one in this process. A command that
fails runs again, up to -attempts times; its time is then in the stream cron_failed.
`}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(cron.Run(os.Stderr, func(ctx context.Context) error {
		ctx, stop := stopAtHangup(ctx)
		defer stop()
		return run(ctx, o, os.Stdout)
	}))
}

// run schedules and works until ctx ends.
func run(ctx context.Context, o options, out io.Writer) error {
	client, where, err := backend.Connect()
	if err != nil {
		return err
	}
	defer where.Stop()
	if err := prepare(ctx, client, o); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	scheduled := make(chan error, 1)
	go func() {
		scheduled <- schedule(ctx, client, o)
		stop()
	}()
	err = work(ctx, client, o, execute(o.command, out), out)
	stop()
	return errors.Join(err, <-scheduled)
}

// errShortJobs is the error of a server that would give a job to a second process after -lease.
var errShortJobs = errors.New("the server cannot extend leases: use sequin serve, or a -lease longer than any run, and -limit below it")

// prepare creates what is missing, and checks that the server keeps leases for as long as a run may take.
func prepare(ctx context.Context, client *sequin.Client, o options) error {
	server, err := client.Ping(ctx)
	if err != nil {
		return err
	}
	if o.limit >= o.lease && !slices.Contains(server.Extensions, "extend") {
		return errShortJobs
	}
	// With one message per key a time that is sent twice is one message.
	_, err = client.EnsureStream(ctx, "cron_jobs", sequin.StreamOptions{OneMessagePerKey: true})
	if err != nil {
		return err
	}
	if _, err := client.EnsureStream(ctx, "cron_failed", sequin.StreamOptions{}); err != nil {
		return err
	}
	return ensureConsumer(ctx, client, o)
}

// ensureConsumer creates the consumer of the job. One that exists gets the lease of o: the process that starts last sets it for all.
func ensureConsumer(ctx context.Context, client *sequin.Client, o options) error {
	filter, opts := o.name+".>", sequin.ConsumerOptions{AckWait: o.lease}
	found, err := client.EnsureConsumer(ctx, "cron_jobs", o.name, filter, opts)
	if !errors.Is(err, sequin.ErrMismatch) || found.Filter != filter {
		return err // a consumer with another filter is none of a cron-worker
	}
	_, err = client.UpdateConsumer(ctx, "cron_jobs", o.name, opts)
	return err
}
