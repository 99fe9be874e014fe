package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/progress"
)

// redriven is the result as --json prints it.
type redriven struct {
	Sent       int `json:"sent"`
	Superseded int `json:"superseded"`
	Left       int `json:"left"`
}

func newRedrive(w world) *cobra.Command {
	return online(w, &cobra.Command{
		Use:   "redrive STREAM CONSUMER [flags]",
		Short: "Send dead letters back to the streams that they came from",
		Long: `Receive the dead letters of a stream by a consumer of it, and send the messages in
them to the streams that they came from, until there are no more. A dead letter
that cannot be sent stays. A dead letter is a message that a handler of a program
has given up; see DeadLetter in the package sequin. The command ends when none of
the first 10 messages is one.`,
		Example: `  sequin consumer add orders_dead redrive
  sequin redrive orders_dead redrive`,
		Args: arguments(2),
	}, func(ctx context.Context, s *session, args []string) error {
		network, closeNetwork := s.network()
		defer closeNetwork()
		sends := &countedSends{next: network}
		client, err := s.target.Client(sends)
		if err != nil {
			return err
		}
		bar := progress.Start(s.errors, s.terminal && !s.json, "messages", func() progress.State {
			return progress.State{Count: sends.published.Load(), Part: -1}
		})
		result, err := client.Redrive(ctx, args[0], args[1])
		bar.Stop()
		if err != nil && result == (sequin.Redriven{}) {
			return err
		}
		text := fmt.Sprintf("sent %s", cli.Plural(result.Sent, "message"))
		if result.Superseded > 0 {
			text += fmt.Sprintf(", dropped %d that a later message of their key has replaced", result.Superseded)
		}
		if result.Left > 0 {
			text += fmt.Sprintf(", left %s", cli.Plural(result.Left, "message"))
		}
		return errors.Join(done(s, redriven(result), "%s", text), cli.Failed(err))
	})
}

// countedSends counts the messages that the server says it has stored.
type countedSends struct {
	next      http.RoundTripper
	published atomic.Int64
}

func (c *countedSends) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/messages") || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // an answer to a send has some 30 bytes
	var sent struct {
		Data struct {
			Published int64 `json:"published"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &sent) == nil {
		c.published.Add(sent.Data.Published)
	}
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failed{err}
	}
	resp.Body = readCloser{io.MultiReader(bytes.NewReader(body), rest), resp.Body}
	return resp, nil
}

// failed is a reader that returns an error.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

type readCloser struct {
	io.Reader
	io.Closer
}
