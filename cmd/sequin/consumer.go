package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func newConsumer(w world) *cobra.Command {
	return group("consumer", "List, add, show, change and remove the consumers of a stream",
		newConsumerList(w), newConsumerAdd(w), newConsumerInfo(w), newConsumerEdit(w), newConsumerRemove(w))
}

// consumerJSON is a consumer as --json prints it, in the words of the API.
type consumerJSON struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	StreamID      string    `json:"stream_id"`
	Filter        string    `json:"filter_key_pattern"`
	AckWaitMS     int64     `json:"ack_wait_ms"`
	MaxAckPending int       `json:"max_ack_pending"`
	MaxDeliver    *int      `json:"max_deliver"` // null for no limit
	MaxWaiting    int       `json:"max_waiting"`
	StartSeq      int64     `json:"start_seq,omitempty"`
	Kind          string    `json:"kind"`
	Status        string    `json:"status"`
	InsertedAt    time.Time `json:"inserted_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

func asJSON(c sequin.Consumer) consumerJSON {
	out := consumerJSON{c.ID, c.Name, c.StreamID, c.Filter, c.AckWait.Milliseconds(), c.MaxAckPending, nil, c.MaxWaiting, c.StartSeq, c.Kind, c.Status, c.InsertedAt, c.UpdatedAt}
	if c.MaxDeliver != sequin.Unlimited {
		out.MaxDeliver = &c.MaxDeliver
	}
	return out
}

func newConsumerList(w world) *cobra.Command {
	return online(w, &cobra.Command{Use: "ls STREAM", Short: "List the consumers of a stream", Args: arguments(1)},
		func(ctx context.Context, s *session, args []string) error {
			consumers, err := s.client.ListConsumers(ctx, args[0])
			if err != nil {
				return err
			}
			list := []consumerJSON{}
			var rows [][]string
			for _, c := range consumers {
				list = append(list, asJSON(c))
				rows = append(rows, []string{c.Name, c.Filter, c.AckWait.String(), fmt.Sprint(c.MaxAckPending), deliveries(c), cli.Age(s.now(), c.InsertedAt)})
			}
			if s.json {
				return cli.JSON(s.out, list)
			}
			return cli.Table(s.out, []string{"NAME", "FILTER", "ACK WAIT", "MAX ACK PENDING", "MAX DELIVER", "CREATED"}, rows,
				`no consumers: add one with "sequin consumer add"`)
		})
}

func deliveries(c sequin.Consumer) string {
	if c.MaxDeliver == sequin.Unlimited {
		return unlimited
	}
	return fmt.Sprint(c.MaxDeliver)
}

// unlimited is the word for a consumer whose messages are delivered until they are acked.
const unlimited = "unlimited"

// maxDeliver is the flag for a number of deliveries.
type maxDeliver int

func (m *maxDeliver) Set(text string) error {
	if text == unlimited {
		*m = sequin.Unlimited
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return fmt.Errorf("want a number from 1, or %s", unlimited)
	}
	*m = maxDeliver(n)
	return nil
}

func (m *maxDeliver) String() string {
	switch *m {
	case 0:
		return ""
	case sequin.Unlimited:
		return unlimited
	}
	return strconv.Itoa(int(*m))
}

func (m *maxDeliver) Type() string { return "number" }

// startFlag is the flag for where a new consumer starts.
type startFlag sequin.Start

func (s *startFlag) Set(text string) error {
	_, notSeq := strconv.ParseUint(text, 10, 63)
	_, notTime := time.Parse(time.RFC3339, text)
	if text != string(sequin.StartBeginning) && text != string(sequin.StartEnd) && notSeq != nil && notTime != nil {
		return errors.New("want beginning, end, a seq, or a time such as 2026-01-31T15:04:05Z")
	}
	*s = startFlag(text)
	return nil
}

func (s *startFlag) String() string { return string(*s) }
func (s *startFlag) Type() string   { return "where" }

// consumerFlags adds the flags for the options of a consumer. Options that are not set are left to the server. unset says what
// an option then is, by its flag.
func consumerFlags(flags *pflag.FlagSet, opts *sequin.ConsumerOptions, unset map[string]string) {
	flags.DurationVar(&opts.AckWait, "ack-wait", 0, "how long a delivered message may wait for its ack, before it is delivered again"+unset["ack-wait"])
	flags.IntVar(&opts.MaxAckPending, "max-ack-pending", 0, "`number` of messages that may wait for their acks"+unset["max-ack-pending"])
	flags.Var((*maxDeliver)(&opts.MaxDeliver), "max-deliver", "largest `number` of deliveries of a message, or unlimited"+unset["max-deliver"])
	flags.IntVar(&opts.MaxWaiting, "max-waiting", 0, "`number` of receives that may wait at once"+unset["max-waiting"])
}

// serverDefaults are the options of a consumer that is added without them.
var serverDefaults = map[string]string{
	"ack-wait": "; default 30s", "max-ack-pending": "; default 10000", "max-deliver": "; default unlimited", "max-waiting": "; default 20",
}

func newConsumerAdd(w world) *cobra.Command {
	var opts sequin.ConsumerOptions
	var filter string
	var ensure bool
	cmd := &cobra.Command{
		Use:   "add STREAM NAME [flags]",
		Short: "Add a consumer to a stream",
		Long: `Add a consumer to a stream. It delivers the messages whose keys match --filter.
Several programs may receive from one consumer: each message goes to one of them.
Programs that are each to get every message need a consumer each.`,
		Example: `  sequin consumer add orders billing
  sequin consumer add orders europe --filter 'orders.eu.>' --ack-wait 5m --start end`,
		Args: arguments(2),
	}
	cmd.Flags().StringVar(&filter, "filter", ">", "`pattern` of the keys to deliver: "+patternHelp)
	cmd.Flags().Var((*startFlag)(&opts.StartFrom), "start", "`where` to start: beginning, end, a seq, or a time such as 2026-01-31T15:04:05Z; default beginning")
	consumerFlags(cmd.Flags(), &opts, serverDefaults)
	cmd.Flags().BoolVar(&ensure, "ensure", false, "succeed also if the consumer exists with this filter and these options")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		create := s.client.CreateConsumer
		if ensure {
			create = s.client.EnsureConsumer
		}
		c, err := create(ctx, args[0], args[1], filter, opts)
		if err != nil {
			return err
		}
		return printConsumer(s, c)
	})
}

func newConsumerInfo(w world) *cobra.Command {
	return online(w, &cobra.Command{Use: "info STREAM CONSUMER", Short: "Show a consumer", Args: arguments(2)},
		func(ctx context.Context, s *session, args []string) error {
			c, err := s.client.GetConsumer(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return printConsumer(s, c)
		})
}

// fixedOptions are the options that a consumer keeps. Edit takes their flags to say so.
var fixedOptions = []string{"filter", "start"}

func newConsumerEdit(w world) *cobra.Command {
	var opts sequin.ConsumerOptions
	cmd := &cobra.Command{
		Use:   "edit STREAM CONSUMER [flags]",
		Short: "Change the options of a consumer; the others stay as they are",
		Args:  arguments(2),
	}
	consumerFlags(cmd.Flags(), &opts, nil)
	for _, fixed := range fixedOptions {
		cmd.Flags().String(fixed, "", "")
		_ = cmd.Flags().MarkHidden(fixed) // it is there
	}
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		for _, fixed := range fixedOptions {
			if cmd.Flags().Changed(fixed) {
				return cli.Usage("the --%s of a consumer cannot be changed: add another consumer with \"sequin consumer add\", and its --start at "+
					"the seq from which it is to receive", fixed)
			}
		}
		if opts == (sequin.ConsumerOptions{}) { // no flag is set, because 0 is refused
			return cli.Usage("there is nothing to change: give one of --ack-wait, --max-ack-pending, --max-deliver and --max-waiting")
		}
		c, err := s.client.UpdateConsumer(ctx, args[0], args[1], opts)
		if err != nil {
			return err
		}
		return printConsumer(s, c)
	})
}

func printConsumer(s *session, c *sequin.Consumer) error {
	if s.json {
		return cli.JSON(s.out, asJSON(*c))
	}
	fields := [][2]string{
		{"name", c.Name},
		{"id", c.ID},
		{"filter", c.Filter},
		{"ack wait", c.AckWait.String()},
		{"max ack pending", fmt.Sprint(c.MaxAckPending)},
		{"max deliver", deliveries(*c)},
		{"max waiting", fmt.Sprint(c.MaxWaiting)},
	}
	if c.StartSeq > 1 {
		fields = append(fields, [2]string{"starts at seq", fmt.Sprint(c.StartSeq)})
	}
	return cli.Fields(s.out, append(fields, [2]string{"created", cli.Age(s.now(), c.InsertedAt)}))
}

func newConsumerRemove(w world) *cobra.Command {
	return online(w, &cobra.Command{Use: "rm STREAM CONSUMER", Short: "Remove a consumer; the messages stay", Args: arguments(2)},
		func(ctx context.Context, s *session, args []string) error {
			if err := s.client.DeleteConsumer(ctx, args[0], args[1]); err != nil {
				return err
			}
			return done(s, map[string]string{"removed": args[1]}, "removed consumer %q", args[1])
		})
}
