package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/target"
)

// completeFor is how long the completion of a name waits for the server. A person waits for it.
const completeFor = 2 * time.Second

// completeNames completes the arguments STREAM and CONSUMER of a command with the names on the server. A server that does not
// answer has no names to offer.
func completeNames(w world, cmd *cobra.Command, flags *target.Flags) {
	words := strings.Fields(cmd.Use)[1:]
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeFor)
		defer cancel()
		return namesFor(ctx, w, flags, words[len(args)], args), cobra.ShellCompDirectiveNoFileComp
	}
}

func namesFor(ctx context.Context, w world, flags *target.Flags, word string, args []string) (names []string) {
	t, err := flags.Find(w.lookup)
	if err != nil {
		return nil
	}
	client, err := t.Client(w.transport)
	if err != nil {
		return nil
	}
	defer client.Close()
	switch word {
	case "STREAM":
		streams, _ := client.ListStreams(ctx)
		for _, s := range streams {
			names = append(names, s.Name)
		}
	case "CONSUMER":
		var consumers []sequin.Consumer
		consumers, _ = client.ListConsumers(ctx, args[0])
		for _, c := range consumers {
			names = append(names, c.Name)
		}
	}
	return names
}
