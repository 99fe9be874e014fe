package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func Example() {
	if err := run(context.Background(), "", "", "orders-sink", os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// public.orders.1	ann ordered 10
	// public.orders.3	cyd ordered 3
}

// A second process follows the sink from where the first one stopped, and its index has the rows of both.
func TestAnIndexIsRebuiltAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		table := srv.Sink("orders-sink", server.SinkOptions{Table: "public.orders"})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		process := func() string {
			f := &follower{source: client, target: client, sink: "orders-sink", stream: "orders", index: newIndex()}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.run(ctx) }()
			time.Sleep(10 * time.Second)
			stop()
			require.NoError(t, <-done)
			var out strings.Builder
			f.index.print(&out)
			return out.String()
		}
		require.NoError(t, table.Insert(Order{1, "ann", 1}))
		require.Equal(t, "public.orders.1\tann ordered 1\n", process())
		srv.RestartSinks()
		require.NoError(t, table.Insert(Order{2, "bob", 2}))
		require.NoError(t, table.Delete(Order{1, "ann", 1}))
		require.NoError(t, table.Insert(Order{3, "cyd", 3}))
		require.Equal(t, "public.orders.2\tbob ordered 2\npublic.orders.3\tcyd ordered 3\n", process())
		require.Zero(t, table.State())
		state, ok := srv.Stream("orders")
		require.True(t, ok)
		require.Empty(t, state.Consumers, "the consumer of an index goes with it")
	})
}
