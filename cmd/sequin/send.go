package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

const sendLong = `Send one message, or with --file the messages in the lines of a file. DATA - is
what the standard input has.

A line is {"key":"…","data":…}, which may have "headers":{"name":"value"}. Data
that is a string is sent as it is, other data as its JSON. The other fields of
what "sequin receive --json" prints are ignored; a line with any other field is
not sent. With --key each line is the data, and the key is made of its fields:
--key 'orders.{{.id}}'.

The messages of a key keep their order. After ctrl-C, or when the server is
away for more than a minute, the same command goes on where it stopped. What was
in flight, at most 8 requests, is sent again: a server that knows idempotency
keys stores it once if that is within 10 minutes. Later, and with another
server, it may be stored twice, and the command says so. Lines that cannot be
sent are listed, and the exit code is 1.`

func newSend(w world) *cobra.Command {
	f := &fileSend{}
	var headers []string
	cmd := &cobra.Command{
		Use:   "send STREAM (KEY DATA | --file FILE)",
		Short: "Send a message, or those of a file",
		Long:  sendLong,
		Example: `  sequin send orders orders.1 '{"qty":4}'
  sequin send orders orders.2 '{"qty":5}' --header trace=7f3a
  sequin send orders notes.1 - <note.txt
  sequin send orders --file orders.ndjson
  sequin send orders --file records.ndjson --key 'orders.{{.country}}.{{.id}}'`,
		Args: func(cmd *cobra.Command, args []string) error {
			want := 3
			if cmd.Flags().Changed("file") {
				want = 1
			}
			return arguments(want)(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&headers, "header", nil, "header of the message, `name=value`; may be repeated")
	flags.StringVar(&f.file, "file", "", "`file` with a JSON object a line; - is the standard input, whose lines are sent as they come, and which cannot go on after ctrl-C")
	flags.StringVar(&f.template, "key", "", "with --file: `template` of the keys, in the syntax of Go's text/template; default the field key of a line")
	flags.IntVar(&f.rate, "rate", 0, "with --file: send at most this `number` of messages a second; default no limit")
	flags.StringVar(&f.refusedFile, "refused", "", "with --file: write the lines that cannot be sent to this new `file`, as JSON, and when the send goes on, add to it; default they are listed")
	flags.BoolVar(&f.restart, "restart", false, "with --file: begin with the first line, also if a part of the file is sent")
	return online(w, cmd, func(ctx context.Context, s *session, args []string) error {
		if f.file != "" && len(headers) > 0 {
			return cli.Usage("--header does nothing with --file: put the headers into the lines")
		}
		if f.file != "" {
			return f.run(ctx, s, args[0])
		}
		for _, only := range []string{"key", "rate", "refused", "restart"} {
			if cmd.Flags().Changed(only) {
				return cli.Usage("--%s does nothing without --file", only)
			}
		}
		m := sequin.Message{Key: args[1], Data: args[2]}
		if err := addHeaders(&m, headers); err != nil {
			return err
		}
		return sendOne(ctx, s, args[0], m)
	})
}

// stdin is the argument that stands for the standard input.
const stdin = "-"

// addHeaders adds headers, which are written name=value, to a message.
func addHeaders(m *sequin.Message, headers []string) error {
	for _, header := range headers {
		name, value, ok := strings.Cut(header, "=")
		if _, twice := m.Headers[name]; !ok || twice {
			return cli.Usage("invalid --header %q: want name=value, and each name once", header)
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[name] = value
	}
	return nil
}

func sendOne(ctx context.Context, s *session, stream string, m sequin.Message) error {
	if m.Data == stdin {
		text, err := readAll(ctx, s.in)
		if err != nil {
			return fmt.Errorf("cannot read the standard input: %w", err)
		}
		m.Data = string(text)
	}
	result, err := s.client.SendMessages(ctx, stream, []sequin.Message{m})
	if err != nil {
		return err
	}
	if result.Published == 0 {
		return done(s, result, "the stream has this message already")
	}
	return done(s, result, "sent 1 message")
}

// readAll reads all of the input, unless ctx ends before. Nothing can end a Read of a pipe or a terminal: its goroutine is left
// behind.
func readAll(ctx context.Context, in io.Reader) ([]byte, error) {
	var all []byte
	var failed error
	read := make(chan struct{})
	go func() {
		defer close(read)
		all, failed = io.ReadAll(in)
	}()
	select {
	case <-read:
		return all, failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
