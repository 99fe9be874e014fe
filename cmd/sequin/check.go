package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server/durable"
)

func newCheck(w world) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check DIR [--json]",
		Short: "Check the data directory of a server that is stopped",
		Long: `Read everything in a data directory and report every fault: bytes that are not
as they were written, files that are missing, a snapshot that does not fit. It
changes nothing. It exits with 1 when there is a fault.`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := mustHaveStore(dir); err != nil {
				return err
			}
			ctx, stop := untilSignal(w)
			defer stop()
			report, err := durable.Check(ctx, dir)
			if err != nil {
				return cannot("check", dir, err)
			}
			if err := printReport(w.out, dir, report, asJSON); err != nil {
				return err
			}
			if n := len(report.Faults); n > 0 {
				return fmt.Errorf("%s has %s: save what can be read with \"sequin repair %s --to NEW\"", dir, cli.Plural(n, "fault"), dir)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func newRepair(w world) *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "repair DIR --to NEW [--json]",
		Short: "Save what can be read of a damaged data directory",
		Long: `Write everything that can be read of a data directory to a new one, and check
that. The old directory is not changed. The report says which messages are lost.
What consumers have settled near them may be lost too: then messages are
delivered again, but none is left out.`,
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
			report, err := durable.Repair(ctx, dir, to)
			if err != nil {
				return cannot("repair", dir, err)
			}
			if err := printReport(w.out, dir, report, asJSON); err != nil || asJSON {
				return err
			}
			_, err = fmt.Fprintf(w.out, "\nWhat can be read is in %s now: start the server with --data %s\n", to, to)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`directory` for what can be read; it must be empty or not exist")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// mustHaveStore returns an error unless there is a directory with a file of a store. Any will do: FORMAT may be what is lost.
func mustHaveStore(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.NotFound("there is no directory %s", dir)
	case err != nil:
		return cannot("read", dir, err)
	case !info.IsDir():
		return cli.NotFound("%s is not a directory", dir)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return cannot("read", dir, err)
	}
	for _, file := range files {
		if name := file.Name(); name == "FORMAT" || filepath.Ext(name) == ".seg" {
			return nil
		}
	}
	return cli.NotFound("there is no store in %s: it has neither a file FORMAT nor a segment", dir)
}

// cannot describes why a command could not do its work.
func cannot(what, dir string, err error) error {
	switch {
	case errors.Is(err, durable.ErrLocked):
		return fmt.Errorf("cannot %s %s: %w: stop that process first, or use a copy: \"sequin backup %s --to NEW\" makes and checks one while it runs", what, dir, err, dir)
	case errors.Is(err, durable.ErrVersion):
		return fmt.Errorf("cannot %s %s: %w: use the version of sequin that wrote it", what, dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot %s %s: %w: run it as the user to whom the directory belongs", what, dir, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped by a signal: %s was not done", what)
	}
	return fmt.Errorf("cannot %s %s: %w", what, dir, err)
}

// untilSignal returns a context that ends with a signal.
func untilSignal(w world) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-w.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
