package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// peeked is a message as peek --json prints it.
type peeked struct {
	sequin.StoredMessage
	State           string    `json:"state"`
	DeliverCount    int       `json:"deliver_count"`
	LastDeliveredAt time.Time `json:"last_delivered_at,omitzero"`
	NotVisibleUntil time.Time `json:"not_visible_until,omitzero"` // the end of the lease
}

func newPeek(w world) *cobra.Command {
	var opts sequin.ListOptions
	var newest bool
	cmd := &cobra.Command{
		Use:   "peek STREAM CONSUMER [flags]",
		Short: "List the messages that a consumer has not acked, without leasing them",
		Args:  arguments(2),
	}
	listFlags(cmd, &opts, &newest)
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		messages, err := s.client.PeekMessages(ctx, args[0], args[1], opts)
		if err != nil {
			return err
		}
		stored := make([]sequin.StoredMessage, len(messages))
		for i, m := range messages {
			stored[i] = m.Message
			if s.json {
				if err := cli.JSON(s.out, peeked{m.Message, m.Info.State, m.Info.DeliverCount, m.Info.LastDeliveredAt, m.Info.NotVisibleUntil}); err != nil {
					return err
				}
			}
		}
		if s.json {
			return nil
		}
		return messageTable(s, []string{"SEQ", "KEY", "STATE", "DELIVERED", "LEASE"}, stored, func(i int) []string {
			m := messages[i]
			return []string{fmt.Sprint(m.Message.Seq), m.Message.Key, m.Info.State, fmt.Sprint(m.Info.DeliverCount), cli.Left(s.now(), m.Info.NotVisibleUntil)}
		}, "no messages that are not acked")
	})
}
