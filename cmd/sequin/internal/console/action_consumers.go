package console

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

var createConsumer = action{
	name: "a consumer was created", needs: server.CanAdmin,
	form: func(v *visit) (*form, error) {
		f, _, err := v.ofStream(form{Title: "New consumer", Submit: "Create consumer", Fields: []field{
			{Name: "name", Label: "Name", Kind: "text", Required: true, Help: "Letters, digits, _ and -."},
			{Name: "filter_key_pattern", Label: "Filter", Kind: "text", Value: ">", Required: true, Help: "A pattern of keys: * stands for one token, and > at the end for one or more."},
			{Name: "start_from", Label: "Start", Kind: "select", Options: []fact{
				{string(sequin.StartBeginning), "At the oldest message"}, {string(sequin.StartEnd), "With the next message that is sent"},
			}},
			{Name: "ack_wait_ms", Label: "Ack wait", Kind: "text", Help: "How long a program may take for a message, such as 30s or 5m. Default 30s."},
			{Name: "max_ack_pending", Label: "Max ack pending", Kind: "number", Help: "How many messages may be delivered and not settled at once. Default 10,000."},
			{Name: "max_deliver", Label: "Max deliver", Kind: "number", Help: "How often a message is delivered at most. Leave it empty for no limit."},
			{Name: "max_waiting", Label: "Max waiting", Kind: "number", Help: "How many receives may wait at once. Default 20."},
		}})
		return f, err
	},
	do: func(v *visit) (*done, error) {
		opts := sequin.ConsumerOptions{}
		if start := sequin.Start(v.value("start_from")); start != sequin.StartBeginning {
			opts.StartFrom = start
		}
		if text := strings.TrimSpace(v.value("ack_wait_ms")); text != "" {
			wait, err := time.ParseDuration(text)
			if err != nil || wait <= 0 {
				return nil, &fieldError{"ack_wait_ms", "Write a duration, such as 30s or 5m."}
			}
			opts.AckWait = wait
		}
		for name, to := range map[string]*int{"max_ack_pending": &opts.MaxAckPending, "max_deliver": &opts.MaxDeliver, "max_waiting": &opts.MaxWaiting} {
			if err := v.readInt(name, to); err != nil {
				return nil, err
			}
		}
		name, err := v.required("name")
		if err != nil {
			return nil, err
		}
		stream := v.r.PathValue("stream")
		c, err := v.client.CreateConsumer(v.r.Context(), stream, name, strings.TrimSpace(v.value("filter_key_pattern")), opts)
		if err != nil {
			return nil, err
		}
		return &done{what: "consumer-created", to: consumerURL(stream, c.Name)}, nil
	},
}

// inField makes an error one of a field, if it is of that kind.
func inField(err, kind error, name string) error {
	if errors.Is(err, kind) {
		return &fieldError{name, strings.TrimPrefix(err.Error(), "sequin: ")}
	}
	return err
}

// ofConsumer finds the consumer of the URL, and begins a form about it.
func (v *visit) ofConsumer(f form) (*form, *sequin.Consumer, error) {
	stream := v.r.PathValue("stream")
	c, err := v.client.GetConsumer(v.r.Context(), stream, v.r.PathValue("consumer"))
	if err != nil {
		return nil, nil, err
	}
	f.Cancel = consumerURL(stream, c.Name)
	f.crumbs = []crumb{{"Streams", home}, {stream, streamURL(stream)}, {c.Name, f.Cancel}}
	return &f, c, nil
}

var deleteConsumer = action{
	name: "a consumer was deleted", needs: server.CanAdmin,
	form: func(v *visit) (*form, error) {
		f, c, err := v.ofConsumer(form{Title: "Delete the consumer", Submit: "Delete consumer", Danger: true})
		if err != nil {
			return nil, err
		}
		f.Lead = "The consumer " + c.Name + " forgets what it has settled. Programs that receive from it get an error. The messages stay in the stream. This cannot be undone."
		f.Confirm = c.Name
		return f, nil
	},
	do: func(v *visit) (*done, error) {
		stream := v.r.PathValue("stream")
		return &done{what: "consumer-deleted", to: streamURL(stream)}, v.client.DeleteConsumer(v.r.Context(), stream, v.r.PathValue("consumer"))
	},
}

// maxNacks is how many messages can be nacked from a page: as many as it shows.
const maxNacks = messagesPerPage

var nackMessages = action{
	name: "messages were nacked", needs: server.CanConsume,
	form: func(v *visit) (*form, error) {
		f, c, err := v.ofConsumer(form{Title: "Nack messages", Submit: "Nack messages", Danger: true})
		if err != nil {
			return nil, err
		}
		_ = v.r.ParseForm() // run has done it, and of a GET the URL counts
		ids := v.r.Form["ack_id"]
		if len(ids) == 0 || len(ids) > maxNacks {
			return nil, &problem{http.StatusBadRequest, "No messages are chosen", "Go back, and choose messages that are on lease."}
		}
		f.Lead = plural(int64(len(ids)), "lease of", "leases of") + " " + c.Name + " ends now, and the messages are delivered again at once. " +
			"A program that works on one of them goes on, and its ack does nothing: the message may be handled twice."
		for _, id := range ids {
			f.Fields = append(f.Fields, field{Name: "ack_id", Kind: "hidden", Value: id})
		}
		return f, nil
	},
	do: func(v *visit) (*done, error) {
		stream, consumer, ids := v.r.PathValue("stream"), v.r.PathValue("consumer"), v.r.PostForm["ack_id"]
		return &done{what: "nacked", n: int64(len(ids)), to: consumerURL(stream, consumer)}, v.client.NackMessages(v.r.Context(), stream, consumer, ids)
	},
}

// redriveFor is how long one redrive may take. A browser waits for it.
const redriveFor = 20 * time.Second

var redriveLetters = action{
	name: "dead letters were redriven", needs: server.CanConsume,
	form: func(v *visit) (*form, error) {
		f, c, err := v.ofConsumer(form{Title: "Redrive dead letters", Submit: "Redrive dead letters"})
		if err != nil {
			return nil, err
		}
		f.Lead = "Every dead letter that the consumer " + c.Name + " has not settled is sent to the stream that it came from, under its own key, and is then settled here. " +
			"All consumers of that stream get it. Messages that are not dead letters stay."
		return f, nil
	},
	do: func(v *visit) (*done, error) {
		stream, consumer := v.r.PathValue("stream"), v.r.PathValue("consumer")
		ctx, cancel := context.WithTimeout(v.r.Context(), redriveFor)
		defer cancel()
		result, err := v.client.Redrive(ctx, stream, consumer)
		d := &done{what: "redriven", n: int64(result.Sent), to: consumerURL(stream, consumer)}
		switch {
		case err != nil && ctx.Err() != nil && result.Sent > 0:
			d.what, err = "redrive-goes-on", nil
		case err != nil:
			err = &redriveError{result, err}
		}
		return d, err
	},
}

// redriveError says how far a redrive came that left something.
type redriveError struct {
	result sequin.Redriven
	err    error
}

func (e *redriveError) Error() string {
	return "Sent again: " + overview.Number(e.result.Sent) + ". Left as they are: " + overview.Number(e.result.Left) + ". " + strings.ReplaceAll(e.err.Error(), "sequin: ", "")
}
