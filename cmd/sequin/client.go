package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/target"
)

// session is what a command has that talks to a server.
type session struct {
	world
	target target.Target
	client *sequin.Client
	json   bool // print JSON, for programs
}

// online makes cmd a command that talks to a server: it gets the flags that choose the server, and --json. act gets a ctx that
// ends with the first signal.
func online(w world, cmd *cobra.Command, act func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	var flags target.Flags
	s := &session{world: w}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&s.json, "json", false, "print JSON, for programs")
	flags.Register(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, args []string) (err error) {
		if s.target, err = flags.Find(w.lookup); err != nil {
			return err
		}
		if s.client, err = s.target.Client(w.transport); err != nil {
			return err
		}
		defer s.client.Close()
		ctx, stop := untilSignal(w)
		defer stop()
		err = act(ctx, s, args)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return errors.New("stopped by a signal")
		}
		return err
	}
	completeNames(w, cmd, &flags)
	return cmd
}
