package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// streamFlags adds the flags for the options of a stream.
func streamFlags(flags *pflag.FlagSet, opts *sequin.StreamOptions) {
	flags.BoolVar(&opts.OneMessagePerKey, "one-message-per-key", false, "a message replaces the one with the same key")
	flags.BoolVar(&opts.ProcessUnmodified, "process-unmodified", false, "deliver a message again that is sent again with the same data")
	flags.IntVar(&opts.MaxStorageGB, "max-storage-gb", 0, "drop the oldest messages above this many `gigabytes`; default no limit")
	flags.IntVar(&opts.RetainUpTo, "retain-up-to", 0, "drop the oldest messages above this `number`; default no limit")
	flags.IntVar(&opts.RetainAtLeast, "retain-at-least", 0, "never drop this `number` of newest messages for --max-storage-gb")
}

func newStreamEdit(w world) *cobra.Command {
	var opts sequin.StreamOptions
	cmd := &cobra.Command{
		Use:   "edit STREAM [flags]",
		Short: "Check the options of a stream, which cannot be changed",
		Long: `Check that a stream has the options that are given. A stream keeps the options
with which it was added, because the API of streams cannot change them. When one
differs, the command changes nothing, exits with 1, and says what to do.`,
		Args: arguments(1),
	}
	streamFlags(cmd.Flags(), &opts)
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		stream, err := s.client.GetStream(ctx, args[0])
		if err != nil {
			return err
		}
		given, differ := 0, []string{}
		for _, has := range optionsOf(stream) {
			flag := cmd.Flags().Lookup(has.flag)
			if !flag.Changed {
				continue
			}
			if given++; flag.Value.String() != has.value {
				differ = append(differ, strings.TrimSpace(has.none+"--"+has.flag+" "+has.value))
			}
		}
		switch {
		case given == 0:
			return cli.Usage("there is nothing to check: give one of the options, see %q", cmd.CommandPath()+" --help")
		case len(differ) > 0:
			return fmt.Errorf("stream %q has %s, and cannot be changed: add another stream with \"sequin stream add\", send to that one, "+
				"and remove %[1]q when its consumers have received everything", stream.Name, strings.Join(differ, " and "))
		}
		return printStream(s, stream)
	})
}

// streamOption is an option of a stream, as its flag. none is "no " for one that the stream does not have.
type streamOption struct{ flag, value, none string }

// optionsOf returns the options of a stream. The server of 2024 shows none: its streams keep one message per key.
func optionsOf(s *sequin.Stream) []streamOption {
	limit := func(flag string, n *int) streamOption {
		if n == nil {
			return streamOption{flag: flag, none: "no "}
		}
		return streamOption{flag: flag, value: strconv.Itoa(*n)}
	}
	return []streamOption{
		{"one-message-per-key", strconv.FormatBool(keepsOnePerKey(*s)), ""},
		{"process-unmodified", strconv.FormatBool(s.ProcessUnmodified != nil && *s.ProcessUnmodified), ""},
		limit("max-storage-gb", s.MaxStorageGB),
		limit("retain-up-to", s.RetainUpTo),
		limit("retain-at-least", s.RetainAtLeast),
	}
}

func newStreamPurge(w world) *cobra.Command {
	var opts sequin.PurgeOptions
	cmd := &cobra.Command{
		Use:   "purge STREAM (--before SEQ | --key-pattern PATTERN | --all)",
		Short: "Remove messages of a stream; its consumers stay",
		Long: `Remove messages of a stream for good. They are not delivered any more, also those
that are leased. The consumers, and the seqs of the other messages, stay as they
are. With --before and --key-pattern only the messages to which both apply are
removed.`,
		Example: `  sequin stream purge orders --before 1000
  sequin stream purge orders --key-pattern 'orders.eu.>'
  sequin stream purge orders --all`,
		Args: arguments(1),
	}
	cmd.Flags().Int64Var(&opts.BeforeSeq, "before", 0, "remove the messages before this `seq`")
	cmd.Flags().StringVar(&opts.KeyPattern, "key-pattern", "", "remove the messages whose keys match this `pattern`: "+patternHelp)
	cmd.Flags().BoolVar(&opts.All, "all", false, "remove every message")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		switch bounded := opts.BeforeSeq > 0 || opts.KeyPattern != ""; {
		case opts.All && bounded:
			return cli.Usage("--all removes every message: leave out --before and --key-pattern, or --all")
		case !opts.All && !bounded:
			return cli.Usage("say what to remove with --before, --key-pattern or --all: usage is %q", cmd.UseLine())
		}
		n, err := s.client.PurgeStream(ctx, args[0], opts)
		if err != nil {
			return err
		}
		return done(s, map[string]int64{"purged": n}, "removed %s", cli.Plural(n, "message"))
	})
}
