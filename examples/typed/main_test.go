package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/command"
	"github.com/sequin-go/sequin/server"
)

func TestEachOrderGetsAnInvoice(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	var out strings.Builder
	require.NoError(t, run(t.Context(), 3, &out))
	require.Equal(t, "order 0 costs 2.50\norder 1 costs 5.00\norder 2 costs 7.50\n", out.String())
}

func TestANegativeNumberIsRefused(t *testing.T) {
	var out strings.Builder
	_, err := parse([]string{"-n", "-5"}, &out)
	require.Equal(t, 2, command.ExitCode(err))
	require.Contains(t, out.String(), "typed: -n is -5")
	for args, want := range map[string]int{"": 3, "-n 0": 0, "-n 7": 7} {
		n, err := parse(strings.Fields(args), &out)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

func TestAnotherServerKeepsWhatItWasSent(t *testing.T) {
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	defer func() { srv.Close(); web.Close() }()
	t.Setenv("SEQUIN_URL", web.URL)
	for range 2 { // the second run finds what exists
		var out strings.Builder
		require.NoError(t, run(t.Context(), 100, &out))
		require.Equal(t, 100, strings.Count(out.String(), "\n"))
	}
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	require.NoError(t, err)
	defer client.Close()
	for _, stream := range []string{"typed_orders", "typed_invoices"} {
		left, err := client.PeekMessages(t.Context(), stream, "reader", sequin.ListOptions{})
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
