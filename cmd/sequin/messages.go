package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func newMessages(w world) *cobra.Command {
	var opts sequin.ListOptions
	var newest, follow bool
	cmd := &cobra.Command{
		Use:   "messages STREAM [flags]",
		Short: "List the messages of a stream, without leasing them",
		Example: `  sequin messages orders --newest --limit 10
  sequin messages orders --key-pattern 'orders.eu.>' --after 1000 --json
  sequin messages orders --follow`,
		Args: arguments(1),
	}
	listFlags(cmd, &opts, &newest)
	cmd.Flags().BoolVar(&follow, "follow", false, "list the newest messages, or those after --after, and then further ones until ctrl-C")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		if follow && newest {
			return cli.Usage("--newest does nothing with --follow: leave one of them out")
		}
		if follow && opts.BeforeSeq > 0 {
			return cli.Usage("--before does nothing with --follow: leave one of them out")
		}
		if follow {
			return followMessages(ctx, s, args[0], opts, cmd.Flags().Changed("after"))
		}
		messages, err := s.client.ListMessages(ctx, args[0], opts)
		if err != nil {
			return err
		}
		return printMessages(s, messages, "no messages")
	})
}

// patternHelp says what a pattern of keys is.
const patternHelp = "* stands for one token, and > at the end for one or more"

// listFlags adds the flags of a list. opts is complete when the command runs.
func listFlags(cmd *cobra.Command, opts *sequin.ListOptions, newest *bool) {
	cmd.Flags().IntVar(&opts.Limit, "limit", 100, "list at most this `number` of messages, up to 10000")
	cmd.Flags().StringVar(&opts.KeyPattern, "key-pattern", "", "list only the messages whose keys match this `pattern`: "+patternHelp)
	cmd.Flags().Int64Var(&opts.AfterSeq, "after", 0, "list only the messages after this `seq`, such as the last one of the list before")
	// 0 is before the first page, so that a program can begin with it.
	_ = cmd.Flags().SetAnnotation("after", zeroAllowed, nil)
	cmd.Flags().Int64Var(&opts.BeforeSeq, "before", 0, "list only the messages before this `seq`")
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
	return messageTable(s, []string{"SEQ", "KEY", "SENT"}, messages, func(i int) []string {
		return []string{fmt.Sprint(messages[i].Seq), messages[i].Key, cli.Age(s.now(), messages[i].UpdatedAt)}
	}, empty)
}
