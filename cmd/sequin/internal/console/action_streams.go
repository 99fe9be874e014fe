package console

import (
	"strconv"
	"strings"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/server"
)

var createStream = action{
	name: "a stream was created", needs: server.CanAdmin,
	form: func(v *visit) (*form, error) {
		return &form{
			Title: "New stream", Submit: "Create stream", Cancel: home, crumbs: []crumb{{"Streams", home}},
			Fields: []field{
				{Name: "name", Label: "Name", Kind: "text", Required: true, Help: "Letters, digits, _ and -."},
				{Name: "one_message_per_key", Label: "Keep the newest message of each key only", Kind: "check", Help: "Otherwise every message is kept."},
				{Name: "process_unmodified", Label: "Deliver unmodified messages again", Kind: "check", Help: "Otherwise a message that is sent again with the same data is not delivered again."},
				{Name: "retain_up_to", Label: "Retain up to", Kind: "number", Help: "Messages. The oldest are dropped first. Leave it empty to keep all."},
				{Name: "retain_at_least", Label: "Retain at least", Kind: "number", Help: "Messages that are never dropped for the size of the stream."},
				{Name: "max_storage_gb", Label: "Largest size", Kind: "number", Help: "Gigabytes. Leave it empty for no limit."},
			},
		}, nil
	},
	do: func(v *visit) (*done, error) {
		opts := sequin.StreamOptions{OneMessagePerKey: v.value("one_message_per_key") != "", ProcessUnmodified: v.value("process_unmodified") != ""}
		for name, to := range map[string]*int{"retain_up_to": &opts.RetainUpTo, "retain_at_least": &opts.RetainAtLeast, "max_storage_gb": &opts.MaxStorageGB} {
			if err := v.readInt(name, to); err != nil {
				return nil, err
			}
		}
		name, err := v.required("name")
		if err != nil {
			return nil, err
		}
		s, err := v.client.CreateStream(v.r.Context(), name, opts)
		if err != nil {
			return nil, err
		}
		return &done{what: "stream-created", to: streamURL(s.Name)}, nil
	},
}

// readInt reads a whole number above 0, or nothing.
func (v *visit) readInt(name string, to *int) error {
	text := strings.TrimSpace(v.value(name))
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return &fieldError{name, "Write a whole number above 0, or nothing."}
	}
	*to = n
	return nil
}

// required returns a value that must not be empty.
func (v *visit) required(name string) (string, error) {
	text := strings.TrimSpace(v.value(name))
	if text == "" {
		return "", &fieldError{name, "Fill this in."}
	}
	return text, nil
}

// ofStream finds the stream of the URL, and begins a form about it.
func (v *visit) ofStream(f form) (*form, *sequin.Stream, error) {
	s, err := v.client.GetStream(v.r.Context(), v.r.PathValue("stream"))
	if err != nil {
		return nil, nil, err
	}
	f.Cancel = streamURL(s.Name)
	f.crumbs = []crumb{{"Streams", home}, {s.Name, f.Cancel}}
	return &f, s, nil
}

var deleteStream = action{
	name: "a stream was deleted", needs: server.CanAdmin,
	form: func(v *visit) (*form, error) {
		f, s, err := v.ofStream(form{Title: "Delete the stream", Submit: "Delete stream", Danger: true})
		if err != nil {
			return nil, err
		}
		f.Lead = "The stream " + s.Name + " is deleted with " + plural(s.Stats.MessageCount, "message", "messages") + " and " +
			plural(s.Stats.ConsumerCount, "consumer", "consumers") + ". This cannot be undone."
		f.Confirm = s.Name
		return f, nil
	},
	do: func(v *visit) (*done, error) {
		return &done{what: "stream-deleted", to: home}, v.client.DeleteStream(v.r.Context(), v.r.PathValue("stream"))
	},
}

var purgeStream = action{
	name: "a stream was purged", needs: server.CanAdmin,
	form: func(v *visit) (*form, error) {
		f, s, err := v.ofStream(form{Title: "Purge messages", Submit: "Purge messages", Danger: true, Fields: []field{
			{Name: "key_pattern", Label: "Pattern of the keys", Kind: "text", Help: "Only messages whose key matches: * stands for one token, and > at the end for one or more."},
			{Name: "before_seq", Label: "Before the seq", Kind: "number", Help: "Only messages with a lower seq."},
		}})
		if err != nil {
			return nil, err
		}
		f.Lead = "Messages of " + s.Name + " are removed, and no consumer gets them any more. Leave both fields empty to remove all " +
			overview.Number(s.Stats.MessageCount) + ". This cannot be undone."
		f.Confirm = s.Name
		return f, nil
	},
	do: func(v *visit) (*done, error) {
		opts := sequin.PurgeOptions{KeyPattern: strings.TrimSpace(v.value("key_pattern"))}
		var before int
		if err := v.readInt("before_seq", &before); err != nil {
			return nil, err
		}
		opts.BeforeSeq = int64(before)
		opts.All = opts.KeyPattern == "" && before == 0
		n, err := v.client.PurgeStream(v.r.Context(), v.r.PathValue("stream"), opts)
		return &done{what: "purged", n: n, to: streamURL(v.r.PathValue("stream"))}, inField(err, sequin.ErrInvalidPattern, "key_pattern")
	},
}

var sendMessage = action{
	name: "a message was sent", needs: server.CanSend,
	form: func(v *visit) (*form, error) {
		f, _, err := v.ofStream(form{Title: "Send a message", Submit: "Send message", Fields: []field{
			{Name: "key", Label: "Key", Kind: "text", Required: true, Help: "Tokens with dots between them, such as orders.eu.1. No spaces.", Value: v.r.URL.Query().Get("key")},
			{Name: "data", Label: "Data", Kind: "area", Help: "Text, usually JSON.", Value: `{"test": true}`},
			{Name: "headers", Label: "Headers", Kind: "area", Help: "Optional: one on each line, as Name: value."},
		}})
		return f, err
	},
	do: func(v *visit) (*done, error) {
		key, err := v.required("key")
		if err != nil {
			return nil, err
		}
		// Forms send line ends as two characters. What was typed has one.
		m := sequin.Message{Key: key, Data: strings.ReplaceAll(v.value("data"), "\r\n", "\n")}
		if m.Headers, err = parseHeaders(v.value("headers")); err != nil {
			return nil, err
		}
		result, err := v.client.SendMessages(v.r.Context(), v.r.PathValue("stream"), []sequin.Message{m})
		d := &done{what: "sent", n: 1, to: streamURL(v.r.PathValue("stream"))}
		if result.Published == 0 {
			d.what = "unmodified"
		}
		return d, err
	},
}

// parseHeaders reads lines of a name, a colon and a value.
func parseHeaders(text string) (map[string]string, error) {
	var headers map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, &fieldError{"headers", "Write each header as Name: value."}
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return headers, nil
}
