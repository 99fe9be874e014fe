package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/progress"
	"github.com/sequin-go/sequin/server/transfer"
)

const copyLong = `Copy streams from one store to another: from the directory of a server to a
Postgres, back, or between two of them. --from and --to are data directories, or
URLs as that of "sequin serve --postgres". Without names it copies all streams.

A copy of a stream has its messages with their seqs and times, its consumers, and
what they have settled: what was acked is not delivered again. What is on lease
is delivered again. Delays, delivery counts and idempotency keys are kept. The ids
of streams and consumers are new.

The streams of --from are read-only from the beginning of the copy: every server
of that store refuses sends, receives and acks with 503, and clients try again.
They stay so when the copy is complete, so that nobody uses them by mistake. Point
the clients to the new store then. The copies can be used when they are complete.

When the command is stopped or killed, run it again: it goes on. With --cancel it
gives up what is not complete: the streams are writable again, and the incomplete
copies are deleted. --cancel without --to is for a store that is gone: it makes all
streams writable again.

A server that uses a directory must be stopped first. Servers on Postgres go on;
all of them must have the version of this program. A copy from Postgres waits for
the end of the transactions that were open when it began.

A password does not belong on the command line: put the URL into $SEQUIN_FROM or
$SEQUIN_TO.`

// copyFlags are the flags of copy.
type copyFlags struct {
	from, to       string
	asJSON, cancel bool
}

func newCopyStreams(w world) *cobra.Command {
	f := &copyFlags{}
	cmd := &cobra.Command{
		Use:   "copy --from DIR|URL --to DIR|URL [STREAM...]",
		Short: "Copy streams between directories and Postgres databases",
		Long:  copyLong,
		Example: `  sequin copy --from ~/.local/share/sequin --to postgres://sequin@db.example/sequin
  sequin copy --from postgres://db1/sequin --to postgres://db2/sequin orders payments`,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.from, "from", "", "`store` that has the streams: a directory or a URL [$SEQUIN_FROM]")
	flags.StringVar(&f.to, "to", "", "`store` that gets them; it may not exist yet [$SEQUIN_TO]")
	flags.BoolVar(&f.cancel, "cancel", false, "give up a copy that is not complete")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.read(w, cmd); err != nil {
			return err
		}
		ctx, stop := untilSignal(w)
		defer stop()
		err := f.run(ctx, w, args)
		if err != nil && ctx.Err() != nil {
			return errors.New("stopped by a signal: run the command again to go on, or with --cancel to give the copy up")
		}
		return err
	}
	return cmd
}

// read reads the variables of the flags, and checks what was given.
func (f *copyFlags) read(w world, cmd *cobra.Command) error {
	for _, end := range []struct {
		flag  string
		value *string
	}{{"from", &f.from}, {"to", &f.to}} {
		variable := cli.EnvName(end.flag)
		if *end.value != "" {
			if err := refusePassword(*end.value, "--"+end.flag, variable); err != nil {
				return err
			}
		} else {
			*end.value, _ = w.lookup(variable)
		}
	}
	switch {
	case f.from == "":
		return cli.Usage("copy from where? Give --from DIR, or --from URL of a Postgres")
	case f.to == "" && !f.cancel:
		return cli.Usage("copy to where? Give --to DIR, or --to URL of a Postgres")
	case f.from == f.to:
		return cli.Usage("--from and --to are the same: name another store to copy to")
	}
	return nil
}

func (f *copyFlags) run(ctx context.Context, w world, streams []string) (err error) {
	from, err := openEnd(ctx, w, f.from, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	to := &end{}
	if f.to != "" {
		if to, err = openEnd(ctx, w, f.to, false); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, to.close()) }()
	}
	if f.cancel {
		return f.runCancel(ctx, w, from, to, streams)
	}
	p := &copyProgress{}
	bar := progress.Start(w.errors, w.terminal && !f.asJSON, "messages", p.state)
	report, err := transfer.Copy(ctx, from.store, to.store, transfer.Options{Streams: streams, Progress: p.set})
	bar.Stop()
	if err != nil {
		return f.explain(err)
	}
	if f.asJSON {
		return cli.JSON(w.out, report)
	}
	return printCopied(w, from, to, report)
}

func (f *copyFlags) runCancel(ctx context.Context, w world, from, to *end, streams []string) error {
	canceled, err := transfer.Cancel(ctx, from.store, to.store, transfer.Options{Streams: streams})
	if err != nil {
		return f.explain(err)
	}
	if f.asJSON {
		return cli.JSON(w.out, map[string][]string{"writable": canceled})
	}
	text := "no copy had to be given up"
	if len(canceled) > 0 {
		text = "writable again: " + strings.Join(canceled, ", ")
	}
	_, err = fmt.Fprintln(w.out, text)
	return err
}

// explain says what to do about an error of a copy.
func (f *copyFlags) explain(err error) error {
	switch {
	case errors.Is(err, transfer.ErrNoStream):
		return cli.NotFound("%w", err)
	case errors.Is(err, transfer.ErrTaken):
		return fmt.Errorf("%w: delete that one, or copy to another store", err)
	case errors.Is(err, transfer.ErrElsewhere):
		return fmt.Errorf("%w: name that one with --to, or make the stream writable again with --cancel and without --to", err)
	case errors.Is(err, transfer.ErrIncomplete):
		return fmt.Errorf("%w: let that copy end first", err)
	}
	return fmt.Errorf("%w: run the command again to go on, or with --cancel to give the copy up", err)
}

func printCopied(w world, from, to *end, report transfer.Report) error {
	var rows [][]string
	for _, s := range report.Streams {
		note := ""
		if s.Before {
			note = "copied before"
		}
		rows = append(rows, []string{s.Name, fmt.Sprint(s.Messages), cli.Bytes(s.Bytes), fmt.Sprint(s.Consumers), note})
	}
	err := cli.Table(w.out, []string{"STREAM", "MESSAGES", "BYTES", "CONSUMERS", ""}, rows, "there are no streams to copy")
	if err != nil || len(rows) == 0 {
		return err
	}
	_, err = fmt.Fprintf(w.out, "\nThe copy is complete. Point the clients to a server with %s.\nThe streams stay read-only in %s: delete them there when you do not need them any more.\n", to.serve, from.where)
	return err
}

// copyProgress is how far a copy is. The copy sets it, and the progress bar reads it.
type copyProgress struct {
	mu sync.Mutex // guards at
	at transfer.Progress
}

func (p *copyProgress) set(at transfer.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
}

func (p *copyProgress) state() progress.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := -1.0
	if p.at.Total > 0 {
		part = min(1, float64(p.at.Copied)/float64(p.at.Total))
	}
	return progress.State{Count: p.at.Copied, Part: part}
}
