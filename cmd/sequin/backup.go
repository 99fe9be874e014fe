package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/durable"
)

func newBackup(w world) *cobra.Command {
	return newCopy(w, "back up", &cobra.Command{
		Use:   "backup DIR --to NEW [--json]",
		Short: "Copy the data directory of a server that may be running",
		Long: `Write a copy of a data directory to a new one, and check it. The server may be
running: it goes on, and the copy is what it had at a moment of the command. On
the same volume the copy shares files that do not change any more, so that it
is made at once. A copy on another volume survives the loss of this one.`,
		Example: `  sequin backup ~/.local/share/sequin --to /backup/2026-01-31`,
	}, "The copy is complete: to use it, start a server with --data %s")
}

func newRestore(w world) *cobra.Command {
	return newCopy(w, "restore", &cobra.Command{
		Use:   "restore BACKUP --to DIR [--json]",
		Short: "Copy a backup to a new data directory",
		Long: `Write a copy of a backup to a new data directory, and check it. The backup stays as
it is, and can be restored again. Messages that were acked after the backup was
made are delivered again.`,
	}, "The backup is restored: start the server with --data %s")
}

// newCopy returns a command that copies a data directory. next says what to do with the copy.
func newCopy(w world, what string, cmd *cobra.Command, next string) *cobra.Command {
	var to string
	var asJSON bool
	cmd.Args = arguments(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir := args[0]
		if to == "" {
			return cli.Usage("--to is missing: usage is %q", cmd.UseLine())
		}
		if err := mustHaveStore(dir); err != nil {
			return err
		}
		ctx, stop := untilSignal(w)
		defer stop()
		report, err := durable.Backup(ctx, dir, to)
		if errors.Is(err, durable.ErrDamaged) {
			err = fmt.Errorf("%w: save what can be read with %q", err, "sequin repair "+dir+" --to OTHER")
		}
		if err != nil {
			return cannot(what, dir, err)
		}
		if err := printReport(w.out, to, report, asJSON); err != nil || asJSON {
			return err
		}
		_, err = fmt.Fprintf(w.out, "\n"+next+"\n", to)
		return err
	}
	cmd.Flags().StringVar(&to, "to", "", "`directory` for the copy; it must be empty or not exist")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
