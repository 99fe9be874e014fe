package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

const (
	followEvery = time.Second // between two lists of --follow
	maxList     = 10_000      // messages in a list, the limit of the API
)

func newMessages(w world) *cobra.Command {
	var opts sequin.ListOptions
	var newest, follow bool
	cmd := &cobra.Command{
		Use:   "messages STREAM [flags]",
		Short: "List the messages of a stream, without leasing them",
		Args:  arguments(1),
	}
	listFlags(cmd, &opts, &newest)
	cmd.Flags().BoolVar(&follow, "follow", false, "list the newest messages, and then further ones until ctrl-C")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		if follow && newest {
			return cli.Usage("--newest does nothing with --follow: leave one of them out")
		}
		if follow {
			return followMessages(ctx, s, args[0], opts)
		}
		messages, err := s.client.ListMessages(ctx, args[0], opts)
		if err != nil {
			return err
		}
		return printMessages(s, messages, "no messages")
	})
}

// listFlags adds the flags of a list. opts is complete when the command runs.
func listFlags(cmd *cobra.Command, opts *sequin.ListOptions, newest *bool) {
	cmd.Flags().IntVar(&opts.Limit, "limit", 100, "list at most this `number` of messages, up to 10000")
	cmd.Flags().StringVar(&opts.KeyPattern, "key-pattern", "", "list only the messages whose keys match this `pattern`: * stands for one token, and > at the end for one or more")
	cmd.Flags().BoolVar(newest, "newest", false, "begin with the newest message; default with the oldest")
	cmd.PreRun = func(*cobra.Command, []string) {
		if *newest {
			opts.Sort = sequin.SortDescending
		}
	}
}

func printMessages(s *session, messages []sequin.StoredMessage, empty string) error {
	if s.json {
		for _, m := range messages {
			if err := cli.JSON(s.out, m); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	for _, m := range messages {
		rows = append(rows, []string{fmt.Sprint(m.Seq), m.Key, cli.Age(s.now(), m.UpdatedAt), cli.Cut(m.Data, dataWidth)})
	}
	return cli.Table(s.out, []string{"SEQ", "KEY", "SENT", "DATA"}, rows, empty)
}

// followMessages prints the newest messages, and then those with higher seqs. A message that is replaced between two lists is
// printed once, as it is then.
func followMessages(ctx context.Context, s *session, stream string, opts sequin.ListOptions) error {
	last, first := int64(0), opts.Limit
	opts.Sort = sequin.SortDescending
	for started := false; ; started = true {
		messages, missed, err := after(ctx, s, stream, opts, last, started)
		if ctx.Err() != nil {
			return nil // ctrl-C is how --follow ends
		}
		switch {
		case err != nil && (!started || !sequin.IsTransient(err)):
			return err
		case err != nil:
			fmt.Fprintln(s.errors, cli.Line(err)+": trying again")
		case len(messages) > 0:
			if missed {
				fmt.Fprintf(s.errors, "sequin: more than %d messages came within %v, and older ones were left out\n", maxList, followEvery)
			}
			if err := printMessages(s, messages, ""); err != nil {
				return err
			}
			last, opts.Limit = messages[len(messages)-1].Seq, first
		}
		if !sleep(ctx, followEvery) {
			return nil
		}
	}
}

// after returns the messages after a seq, oldest first. While all messages of a list are new, it asks for more. missed says
// that even the largest list had only new messages.
func after(ctx context.Context, s *session, stream string, opts sequin.ListOptions, last int64, all bool) (messages []sequin.StoredMessage, missed bool, err error) {
	for {
		messages, err = s.client.ListMessages(ctx, stream, opts)
		if err != nil {
			return nil, false, err
		}
		full := len(messages) == opts.Limit && len(messages) > 0 && messages[len(messages)-1].Seq > last+1
		if !all || !full || opts.Limit == maxList {
			missed = all && full
			break
		}
		opts.Limit = min(10*opts.Limit, maxList)
	}
	messages = slices.DeleteFunc(messages, func(m sequin.StoredMessage) bool { return m.Seq <= last })
	slices.Reverse(messages)
	return messages, missed, nil
}
