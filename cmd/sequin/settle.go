package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func newAck(w world) *cobra.Command {
	return newSettle(w, "ack", "Ack messages: they are not delivered again",
		func(c *sequin.Client) settle { return c.AckMessages })
}

func newNack(w world) *cobra.Command {
	var delay time.Duration
	cmd := newSettle(w, "nack", "Nack messages: they are delivered again at once, or after --delay",
		func(c *sequin.Client) settle {
			if delay == 0 {
				return c.NackMessages
			}
			return func(ctx context.Context, stream, consumer string, ackIDs []string) error {
				return c.NackMessagesAfter(ctx, stream, consumer, delay, ackIDs)
			}
		})
	cmd.Flags().DurationVar(&delay, "delay", 0, "how long the messages are kept back, up to 168h; default not at all")
	return cmd
}

// settle acks or nacks up to 1,000 messages.
type settle func(ctx context.Context, stream, consumer string, ackIDs []string) error

func newSettle(w world, verb, short string, of func(*sequin.Client) settle) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " STREAM CONSUMER ID... [flags]",
		Short: short,
		Long: short + `.

ID is the ack id of a message that "sequin receive" printed. The server ignores
ids that it does not know, such as those of leases that have ended.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return cli.Usage("an argument is missing: usage is %q", cmd.UseLine())
			}
			return nil
		},
	}
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		consumer, err := s.client.GetConsumer(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		ids := args[2:]
		for part := range slices.Chunk(ids, sequin.MaxBatch) {
			if err := of(s.client)(ctx, args[0], consumer.ID, part); err != nil {
				return err
			}
		}
		return done(s, map[string]int{verb + "ed": len(ids)}, "%sed %s", verb, cli.Plural(len(ids), "message"))
	})
}
