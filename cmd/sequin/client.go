package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
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
	cmd.Flags().BoolVar(&s.json, "json", false, "print JSON, for programs")
	flags.Register(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if err := aboveZero(cmd.Flags()); err != nil {
			return err
		}
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
		return s.target.Explain(err)
	}
	completeNames(w, cmd, &flags)
	completeContextFlag(w, cmd)
	return cmd
}

// zeroAllowed annotates a flag of which 0 is a value.
const zeroAllowed = "sequin_zero_allowed"

// aboveZero refuses numbers and times below 1 that are given. To the client library 0 means the default, which the user gets
// without the flag. A flag with zeroAllowed is refused below 0.
func aboveZero(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		text := f.Value.String()
		switch f.Value.Type() {
		case "int", "int64", "duration":
			_, fromZero := f.Annotations[zeroAllowed]
			switch zero := text == "0" || text == "0s"; {
			case fromZero && text[0] == '-':
				err = cli.Usage("invalid --%s %s: it must be at least 0", f.Name, text)
			case !fromZero && (zero || text[0] == '-'):
				err = cli.Usage("invalid --%s %s: it must be above 0", f.Name, text)
			}
		}
	})
	return err
}
