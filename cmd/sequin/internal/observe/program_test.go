package observe_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/exp/teatest/v2"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/observe"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/sequintest"
)

// patience is how long the test waits for what should happen at once.
const patience = 30 * time.Second

// TestTheProgramRuns goes down to a message and quits, in a program that Bubble Tea runs.
func TestTheProgramRuns(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
	_, err = client.SendMessage(t.Context(), "orders", "eu.1", `{"qty":4}`)
	require.NoError(t, err)
	metrics := func(context.Context, ...string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("sequin_consumer_backlog_messages{stream=\"orders\",consumer=\"billing\"} 77\n")), nil
	}
	watcher := overview.New(overview.Config{Client: client, Metrics: metrics})
	program := teatest.NewTestModel(t, observe.New(t.Context(), observe.Config{Client: client, Watcher: watcher, URL: srv.URL, Every: time.Second}))
	see := func(text string) {
		t.Helper()
		teatest.WaitFor(t, program.Output(), func(out []byte) bool { return bytes.Contains(out, []byte(text)) }, teatest.WithDuration(patience))
	}
	see("orders")
	program.Send(tea.KeyPressMsg{Code: tea.KeyEnter})
	see("77")
	program.Send(tea.KeyPressMsg{Code: tea.KeyEnter})
	see("eu.1")
	program.Send(tea.KeyPressMsg{Code: tea.KeyEnter})
	see(`"qty"`)
	program.Type("q")
	program.WaitFinished(t, teatest.WithFinalTimeout(patience))
}
