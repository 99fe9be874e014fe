package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

func newStream(w world) *cobra.Command {
	return group("stream", "List, add, show, check, purge and remove streams",
		newStreamList(w), newStreamAdd(w), newStreamInfo(w), newStreamEdit(w), newStreamPurge(w), newStreamRemove(w))
}

func newStreamList(w world) *cobra.Command {
	return online(w, &cobra.Command{Use: "ls", Short: "List the streams", Args: arguments(0)},
		func(ctx context.Context, s *session, _ []string) error {
			streams, err := s.client.ListStreams(ctx)
			if err != nil {
				return err
			}
			if s.json {
				return cli.JSON(s.out, append([]sequin.Stream{}, streams...))
			}
			var rows [][]string
			for _, stream := range streams {
				rows = append(rows, []string{stream.Name, fmt.Sprint(stream.Stats.MessageCount), cli.Bytes(stream.Stats.StorageSize),
					fmt.Sprint(stream.Stats.ConsumerCount), keeps(stream), cli.Age(s.now(), stream.InsertedAt)})
			}
			return cli.Table(s.out, []string{"NAME", "MESSAGES", "SIZE", "CONSUMERS", "KEEPS", "CREATED"}, rows,
				`no streams: add one with "sequin stream add"`)
		})
}

// keeps says what a stream does with messages of one key.
func keeps(s sequin.Stream) string {
	if keepsOnePerKey(s) {
		return "one per key"
	}
	return "all"
}

// keepsOnePerKey is true also for the server of 2024, which shows no such option.
func keepsOnePerKey(s sequin.Stream) bool { return s.OneMessagePerKey == nil || *s.OneMessagePerKey }

func newStreamAdd(w world) *cobra.Command {
	var opts sequin.StreamOptions
	var ensure bool
	cmd := &cobra.Command{
		Use:   "add NAME [flags]",
		Short: "Add a stream",
		Long: `Add a stream. It keeps all messages that are sent to it, or with
--one-message-per-key the latest one of each key, until they are dropped for
--retain-up-to or --max-storage-gb. An ack removes nothing.`,
		Example: `  sequin stream add orders
  sequin stream add prices --one-message-per-key
  sequin stream add log --retain-up-to 1000000`,
		Args: arguments(1),
	}
	streamFlags(cmd.Flags(), &opts)
	cmd.Flags().BoolVar(&ensure, "ensure", false, "succeed also if the stream exists with these options")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		create := s.client.CreateStream
		if ensure {
			create = s.client.EnsureStream
		}
		stream, err := create(ctx, args[0], opts)
		if err != nil {
			return err
		}
		return printStream(s, stream)
	})
}

func newStreamInfo(w world) *cobra.Command {
	return online(w, &cobra.Command{Use: "info STREAM", Short: "Show a stream", Args: arguments(1)},
		func(ctx context.Context, s *session, args []string) error {
			stream, err := s.client.GetStream(ctx, args[0])
			if err != nil {
				return err
			}
			return printStream(s, stream)
		})
}

func printStream(s *session, stream *sequin.Stream) error {
	if s.json {
		return cli.JSON(s.out, stream)
	}
	fields := [][2]string{
		{"name", stream.Name},
		{"id", stream.ID},
		{"messages", fmt.Sprint(stream.Stats.MessageCount)},
		{"size", cli.Bytes(stream.Stats.StorageSize)},
		{"consumers", fmt.Sprint(stream.Stats.ConsumerCount)},
		{"keeps", keeps(*stream)},
	}
	if stream.ProcessUnmodified != nil {
		fields = append(fields, [2]string{"process unmodified", strconv.FormatBool(*stream.ProcessUnmodified)})
	}
	for _, limit := range []struct {
		name  string
		value *int
	}{{"max storage (GB)", stream.MaxStorageGB}, {"retain up to", stream.RetainUpTo}, {"retain at least", stream.RetainAtLeast}} {
		if limit.value != nil {
			fields = append(fields, [2]string{limit.name, fmt.Sprint(*limit.value)})
		}
	}
	return cli.Fields(s.out, append(fields, [2]string{"created", cli.Age(s.now(), stream.InsertedAt)}))
}

func newStreamRemove(w world) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm STREAM [--force]",
		Short: "Remove a stream with its messages and consumers",
		Args:  arguments(1),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it also if it has messages")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		stream, err := s.client.GetStream(ctx, args[0])
		if err != nil {
			return err
		}
		if n := stream.Stats.MessageCount; n > 0 && !force {
			return fmt.Errorf("stream %q has %s: add --force to remove them too", stream.Name, cli.Plural(n, "message"))
		}
		if err := s.client.DeleteStream(ctx, stream.ID); err != nil {
			return err
		}
		return done(s, map[string]string{"removed": stream.Name}, "removed stream %q", stream.Name)
	})
}

// done prints what a command has done: a value for programs, or a sentence for people.
func done(s *session, value any, format string, args ...any) error {
	if s.json {
		return cli.JSON(s.out, value)
	}
	_, err := fmt.Fprintf(s.out, format+"\n", args...)
	return err
}
