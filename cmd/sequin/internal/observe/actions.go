package observe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// typed returns an error unless the user has typed the name of what is removed.
func typed(value, name string) error {
	if value != name {
		return fmt.Errorf("type %s to confirm", name)
	}
	return nil
}

func (m *Model) newStream() tea.Cmd {
	return m.askForm("Make a stream", "It cannot be changed later.", func(v []string) (tea.Cmd, error) {
		name, one := strings.TrimSpace(v[0]), strings.ToLower(strings.TrimSpace(v[1]))
		switch {
		case name == "":
			return nil, errors.New("a stream needs a name")
		case one != "y" && one != "n":
			return nil, errors.New("one per key is y or n")
		}
		return m.act("making the stream", func(ctx context.Context) (string, error) {
			_, err := m.cfg.Client.CreateStream(ctx, name, sequin.StreamOptions{OneMessagePerKey: one == "y"})
			return result(err, "made stream %s", name)
		}), nil
	}, field{"name", ""}, field{"one per key (y/n)", "n"})
}

// result returns what has been done, unless it failed.
func result(err error, format string, args ...any) (string, error) {
	if err != nil {
		return "", err
	}
	return visible(fmt.Sprintf(format, args...)), nil
}

func (m *Model) newConsumer(stream string) tea.Cmd {
	return m.askForm("Make a consumer of "+visible(stream), "", func(v []string) (tea.Cmd, error) {
		name, filter := strings.TrimSpace(v[0]), strings.TrimSpace(v[1])
		wait, err := time.ParseDuration(strings.TrimSpace(v[2]))
		switch {
		case name == "":
			return nil, errors.New("a consumer needs a name")
		case err != nil || wait < time.Millisecond:
			return nil, errors.New("the ack wait is a time such as 30s")
		}
		return m.act("making the consumer", func(ctx context.Context) (string, error) {
			_, err := m.cfg.Client.CreateConsumer(ctx, stream, name, filter, sequin.ConsumerOptions{AckWait: wait})
			return result(err, "made consumer %s", name)
		}), nil
	}, field{"name", ""}, field{"keys", ">"}, field{"ack wait", "30s"})
}

func (m *Model) purge(stream string) tea.Cmd {
	return m.askForm("Purge "+visible(stream), "The messages are removed for all consumers. That cannot be undone.", func(v []string) (tea.Cmd, error) {
		pattern := strings.TrimSpace(v[0])
		if err := typed(strings.TrimSpace(v[1]), stream); err != nil {
			return nil, err
		}
		opts := sequin.PurgeOptions{KeyPattern: pattern}
		if pattern == ">" || pattern == "" {
			opts = sequin.PurgeOptions{All: true}
		}
		return m.act("purging", func(ctx context.Context) (string, error) {
			n, err := m.cfg.Client.PurgeStream(ctx, stream, opts)
			return result(err, "removed %s of %s", cli.Plural(n, "message"), stream)
		}), nil
	}, field{"keys", ">"}, field{"name of the stream", ""})
}

func (m *Model) deleteStream(stream string) tea.Cmd {
	return m.askForm("Delete "+visible(stream), "Its messages and consumers are deleted, too. That cannot be undone.", func(v []string) (tea.Cmd, error) {
		if err := typed(strings.TrimSpace(v[0]), stream); err != nil {
			return nil, err
		}
		return m.act("deleting the stream", func(ctx context.Context) (string, error) {
			return result(m.cfg.Client.DeleteStream(ctx, stream), "deleted stream %s", stream)
		}), nil
	}, field{"name of the stream", ""})
}

func (m *Model) deleteConsumer(stream, consumer string) tea.Cmd {
	return m.confirm("Delete consumer "+visible(consumer)+" of "+visible(stream)+"?", "What it has settled is forgotten, and its programs end. That cannot be undone.", func() tea.Cmd {
		return m.act("deleting the consumer", func(ctx context.Context) (string, error) {
			return result(m.cfg.Client.DeleteConsumer(ctx, stream, consumer), "deleted consumer %s", consumer)
		})
	})
}

func (m *Model) nack(stream, consumer string, p sequin.PeekedMessage) tea.Cmd {
	if p.Info.AckID == "" || p.Info.State != sequin.StateDelivered {
		m.status, m.failed = "only a message that is with a program can be nacked: "+why(p.Info, m.cfg.Now()), true
		return nil
	}
	warning := "It is available again at once, and the program that has it may be working on it."
	return m.confirm("Nack "+visible(p.Message.Key)+", seq "+fmt.Sprint(p.Message.Seq)+"?", warning, func() tea.Cmd {
		return m.act("nacking", func(ctx context.Context) (string, error) {
			return result(m.cfg.Client.NackMessage(ctx, stream, consumer, p.Info.AckID), "nacked %s", p.Message.Key)
		})
	})
}

func (m *Model) redrive(stream, consumer string) tea.Cmd {
	warning := "Its messages must be dead letters. Those in them are sent to the streams that they came from."
	return m.confirm("Redrive what consumer "+visible(consumer)+" of "+visible(stream)+" has not settled?", warning, func() tea.Cmd {
		return m.actLong("redriving", func(ctx context.Context) (string, error) {
			r, err := m.cfg.Client.Redrive(ctx, stream, consumer)
			text := "sent " + cli.Plural(r.Sent, "message")
			if r.Left > 0 {
				text += ", left " + cli.Plural(r.Left, "dead letter")
			}
			return text, err
		})
	})
}

func (m *Model) sendTest(stream string) tea.Cmd {
	return m.askForm("Send a message to "+visible(stream), "All consumers whose filter matches the key get it.", func(v []string) (tea.Cmd, error) {
		key, data := strings.TrimSpace(v[0]), v[1]
		if key == "" {
			return nil, errors.New("a message needs a key")
		}
		return m.act("sending", func(ctx context.Context) (string, error) {
			_, err := m.cfg.Client.SendMessage(ctx, stream, key, data)
			return result(err, "sent %s to %s", key, stream)
		}), nil
	}, field{"key", "test"}, field{"data", `{"test":true}`})
}
