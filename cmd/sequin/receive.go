package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

const (
	// followWait is how long a receive of --follow waits on the server. It is the wait of the official SDKs.
	followWait = 20 * time.Second
	// pollEvery is the pause between two requests of --follow and --wait where the server cannot wait.
	pollEvery = time.Second / 2
)

// received is a message as receive --json prints it.
type received struct {
	AckID        string `json:"ack_id"`
	DeliverCount int    `json:"deliver_count,omitempty"`
	sequin.StoredMessage
}

type receiver struct {
	*session
	stream, consumer string // by id, because the server of 2024 finds consumers of other streams by name
	n                int
	wait             time.Duration
	follow, ack      bool
	cannotWait       bool // the server is that of 2024
}

func newReceive(w world) *cobra.Command {
	var r receiver
	cmd := &cobra.Command{
		Use:   "receive STREAM CONSUMER [flags]",
		Short: "Receive messages of a consumer",
		Long: `Receive messages of a consumer. Each is leased for the consumer's ack wait: ack it
within that time with "sequin ack" or --ack, or it is delivered again. --json
prints one object a line, with the data as it is.`,
		Example: `  sequin receive orders billing --ack
  sequin receive orders billing --follow --ack --json`,
		Args: arguments(2),
	}
	cmd.Flags().IntVarP(&r.n, "number", "n", 10, "receive at most this `number` of messages at once, up to 1000")
	cmd.Flags().DurationVar(&r.wait, "wait", 0, "how long to wait for a message, 500ms to 5m; default not at all, and 20s with --follow")
	cmd.Flags().BoolVar(&r.follow, "follow", false, "go on until ctrl-C")
	cmd.Flags().BoolVar(&r.ack, "ack", false, "ack the messages when they are printed")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		r.session = s
		return r.run(ctx, args[0], args[1])
	})
}

func (r *receiver) run(ctx context.Context, streamName, consumerName string) error {
	stream, err := r.client.GetStream(ctx, streamName)
	if err != nil {
		return err
	}
	consumer, err := r.client.GetConsumer(ctx, streamName, consumerName)
	if err != nil {
		return err
	}
	r.stream, r.consumer, r.cannotWait = stream.ID, consumer.ID, stream.OneMessagePerKey == nil
	if r.follow && r.wait == 0 {
		r.wait = followWait
	}
	for {
		messages, err := r.receive(ctx)
		if ctx.Err() != nil && r.follow {
			return nil // ctrl-C is how --follow ends
		}
		if err == nil {
			err = r.handle(context.WithoutCancel(ctx), messages)
		}
		if !r.follow || err != nil && !sequin.IsTransient(err) {
			return err
		}
		if err != nil {
			fmt.Fprintln(r.errors, cli.Line(err)+": trying again")
			sleep(ctx, time.Second)
		}
	}
}

// receive receives once, and waits for a message. Where the server cannot wait, it asks again and again.
func (r *receiver) receive(ctx context.Context) ([]sequin.ReceivedMessage, error) {
	if !r.cannotWait {
		return r.client.ReceiveMessages(ctx, r.stream, r.consumer, sequin.ReceiveOptions{BatchSize: r.n, WaitFor: r.wait})
	}
	for until := r.now().Add(r.wait); ; {
		messages, err := r.client.ReceiveMessages(ctx, r.stream, r.consumer, sequin.ReceiveOptions{BatchSize: r.n})
		if len(messages) > 0 || err != nil || !r.now().Before(until) {
			return messages, err
		}
		if !sleep(ctx, pollEvery) {
			return nil, ctx.Err()
		}
	}
}

// handle prints the messages and then acks them. It has a ctx of its own, so that ctrl-C does not leave printed messages
// without their acks.
func (r *receiver) handle(ctx context.Context, messages []sequin.ReceivedMessage) error {
	if err := r.print(messages); err != nil || !r.ack || len(messages) == 0 {
		return err
	}
	ids := make([]string, len(messages))
	for i, m := range messages {
		ids[i] = m.AckID
	}
	return r.client.AckMessages(ctx, r.stream, r.consumer, ids)
}

func (r *receiver) print(messages []sequin.ReceivedMessage) error {
	if r.json {
		for _, m := range messages {
			if err := cli.JSON(r.out, received{m.AckID, m.DeliverCount, m.StoredMessage}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(messages) == 0 && r.follow {
		return nil
	}
	stored := make([]sequin.StoredMessage, len(messages))
	for i, m := range messages {
		stored[i] = m.StoredMessage
	}
	return messageTable(r.session, []string{"ACK ID", "SEQ", "DELIVERED", "KEY"}, stored, func(i int) []string {
		m := messages[i]
		return []string{m.AckID, fmt.Sprint(m.Seq), knownCount(m.DeliverCount), m.Key}
	}, "no messages")
}

// knownCount returns how often a message was delivered. The server of 2024 does not say it: then the number is 0.
func knownCount(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
