package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/durable"
)

func newBackup(w world) *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backup DIR --to NEW [--json]",
		Short: "Copy the data directory of a server that may be running",
		Long: `Write a copy of a data directory to a new one, and check it. The server may be
running: it goes on, and the copy is what it had at a moment of the command. On
the same volume the copy shares files that do not change any more, so that it
is made at once. A copy on another volume survives the loss of this one.`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if to == "" {
				return cli.Usage("the new directory is missing: usage is %q", cmd.UseLine())
			}
			if err := mustHaveStore(dir); err != nil {
				return err
			}
			ctx, stop := untilSignal(w)
			defer stop()
			report, err := durable.Backup(ctx, dir, to)
			if err != nil {
				return cannot("back up", dir, err)
			}
			if err := printReport(w.out, to, report, asJSON); err != nil || asJSON {
				return err
			}
			_, err = fmt.Fprintf(w.out, "\nThe copy is complete: to use it, start a server with --data %s\n", to)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`directory` for the copy; it must be empty or not exist")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
