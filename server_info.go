package sequin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// ServerInfo is what Ping finds out about a server.
type ServerInfo struct {
	// Kind is which API the server serves.
	Kind ServerKind
	// Extensions are the names in the answer's Sequin-Extensions header, as the server lists them.
	Extensions []string
	// RoundTrip is the time from the request to the beginning of its answer, with the dial if no connection was idle.
	RoundTrip time.Duration
	// ClockOffset is how much the server's clock is ahead of this machine's. It is 0 if they agree within a second, which is
	// the resolution, or if the server does not say what time it is, or names a time before 1970 or one so far off that a
	// Duration cannot hold it.
	ClockOffset time.Duration
	// Streams is how many streams the server lists. It is 0 for a server of sinks, and -1 if the token may not list streams.
	Streams int
}

// ServerKind is the kind of API that a server serves.
type ServerKind string

// The kinds of servers.
const (
	// ServerExtended serves streams with the documented API and extensions, as package server and the program sequin do.
	ServerExtended ServerKind = "extended"
	// ServerDocumented serves streams with the documented API, without extensions.
	ServerDocumented ServerKind = "documented"
	// Server2024 serves streams and answers as the release of August 2024.
	Server2024 ServerKind = "2024"
	// ServerStreams serves streams without extensions, and lists none, or none to this token. Its first stream shows which of the
	// two kinds above it is.
	ServerStreams ServerKind = "streams"
	// ServerSinks serves sinks and no streams, as Sequin v0.6.0 and later. See [Client.SubscribeSink].
	ServerSinks ServerKind = "sinks"
)

// Ping tests whether the server can be reached and accepts the token, whatever its rights are, and finds out which kind it is. It
// makes one attempt at a list of the streams. If the token may not list them, it also looks for one of them, which each token may do.
// For a server that serves no streams it also looks for sinks. Otherwise its error is that which a send would have, too.
func (c *Client) Ping(ctx context.Context) (*ServerInfo, error) {
	info := new(ServerInfo)
	var streams data[rows[seenStream]]
	sent := time.Now()
	var answered time.Time
	err := c.do(ctx, request{method: http.MethodGet, path: path("api", "streams"),
		onAnswer: func() { answered = time.Now() },
		onHeader: func(h http.Header) { info.read(h, sent, answered) },
	}, decodeJSON(&streams))
	switch {
	case err == nil:
		info.Streams = len(*streams.Data)
		info.Kind = kindOf(info.Extensions, *streams.Data)
		return info, nil
	case isForbidden(err):
		if err := c.findStream(ctx, err); err != nil {
			return nil, err
		}
		info.Streams, info.Kind = -1, kindOf(info.Extensions, nil)
		return info, nil
	case noRoute(err) && c.servesSinks(ctx):
		info.Kind = ServerSinks
		return info, nil
	}
	return nil, err
}

// findStream looks for a stream that does not exist, after a list of the streams was refused. Every token that the server accepts
// may do that. It returns refused if it is forbidden as well: then not the token is at fault, but for instance a Host.
func (c *Client) findStream(ctx context.Context, refused error) error {
	_, err := callOnce[seenStream](ctx, c, path("api", "streams", noID))
	switch {
	case errors.Is(err, ErrNotFound) && !noRoute(err):
		return nil
	case isForbidden(err):
		return refused
	}
	return err
}

// read reads the header of an answer. The request was made at sent, and its answer began at answered.
func (s *ServerInfo) read(h http.Header, sent, answered time.Time) {
	if answered.IsZero() { // by a RoundTripper that calls no trace
		answered = time.Now()
	}
	s.RoundTrip, s.Extensions, s.ClockOffset = answered.Sub(sent), nil, 0
	for _, list := range h["Sequin-Extensions"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				s.Extensions = append(s.Extensions, name)
			}
		}
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Unix() < 0 {
		return
	}
	// The header has whole seconds, and the server wrote it between sent and answered.
	switch latest := date.Add(time.Second); {
	case date.After(answered):
		s.ClockOffset = date.Sub(answered)
	case latest.Before(sent):
		s.ClockOffset = latest.Sub(sent)
	}
	if s.ClockOffset.Abs() == math.MaxInt64 { // as Sub returns what a Duration cannot hold
		s.ClockOffset = 0
	}
}

// kindOf returns the kind of a server that lists these streams.
func kindOf(extensions []string, streams []seenStream) ServerKind {
	switch {
	case len(extensions) > 0:
		return ServerExtended
	case len(streams) == 0:
		return ServerStreams
	case streams[0].OneMessagePerKey == nil:
		return Server2024
	}
	return ServerDocumented
}

// seenStream is what the Client itself reads of a stream, to learn what the server can do.
type seenStream struct {
	ID               string `json:"id"`
	OneMessagePerKey *bool  `json:"one_message_per_key"`
}

func (s *seenStream) complete() error { return wire.RequireField(s.ID != "", "id") }

// unsupported returns the error of a call that needs an extension which the server does not announce.
func unsupported(one wire.Extensions) error {
	return fmt.Errorf("%w: it does not announce the extension %q", ErrUnsupported, one.String())
}

// requireExtension returns ErrUnsupported if the server does not announce an extension. Before the first answer that does, it
// reads the stream to learn what the server announces.
func (c *Client) requireExtension(ctx context.Context, one wire.Extensions, stream string) error {
	if c.extensions().Has(one) {
		return nil
	}
	if err := checkName("stream", stream); err != nil {
		return err
	}
	if _, err := call[seenStream](ctx, c, http.MethodGet, path("api", "streams", stream), nil); err != nil {
		return err
	}
	if !c.extensions().Has(one) {
		return unsupported(one)
	}
	return nil
}

// errHeadersDropped is the error of a send that succeeded at a server which does not announce headers, although another server
// at the same address has announced them.
var errHeadersDropped = fmt.Errorf("%w: the messages were stored without their headers, because the server that answered does not announce headers", ErrUnsupported)

// acceptsDuplicateKeys reports whether the server accepts two messages with the same key in one request. A server whose
// streams have no one_message_per_key is the 2024 one, which answers 500 to such a request; every other server accepts
// it. The Client keeps the result of the first read, because it depends on the server only.
func (c *Client) acceptsDuplicateKeys(ctx context.Context, stream string) (bool, error) {
	if known := c.repeatsKeys.Load(); known != nil {
		return *known, nil
	}
	// The read is part of a send, and is retried like one.
	s, err := decoded[seenStream](ctx, c, request{method: http.MethodGet, path: path("api", "streams", stream), retry: idempotent})
	if err != nil {
		return false, err
	}
	accepted := s.OneMessagePerKey != nil
	c.repeatsKeys.Store(&accepted)
	return accepted, nil
}

// takesAdded reports whether messages are sent with the headers that Send adds. A Client that has had no answer yet reads the stream
// to find out, and sends without them if that fails: they must not keep a message from being sent.
func (c *Client) takesAdded(ctx context.Context, stream string) bool {
	switch {
	case !c.hooks.sends():
		return false
	case c.extensions().Has(wire.Headers):
		return true
	case !c.answered.Load():
		_, _ = callOnce[seenStream](ctx, c, path("api", "streams", stream))
	}
	return c.extensions().Has(wire.Headers)
}

// withAdded returns the messages of a request of size bytes with the headers that Send adds, as far as the request has room for
// them.
func (c *Client) withAdded(ctx context.Context, stream string, messages []Message, size int) []Message {
	if !c.hooks.sends() {
		return messages
	}
	all, taken := slices.Clone(messages), c.takesAdded(ctx, stream)
	for i := range all {
		added, more := c.hooks.addHeaders(ctx, stream, all[i], 0)
		if taken && added != nil && size+more <= MaxRequestBytes {
			all[i].Headers, size = added, size+more
		}
	}
	return all
}

// explainMissingStreams adds to the error of a server without streams what it serves instead.
func (c *Client) explainMissingStreams(ctx context.Context, err error) error {
	if !noRoute(err) {
		return err
	}
	if c.servesSinks(ctx) {
		return fmt.Errorf("sequin: this Sequin serves sinks, not streams: use SubscribeSink: %w", err)
	}
	return fmt.Errorf("sequin: this Sequin has no consumers of streams: Subscribe needs v0.3.0 to v0.3.7, or sequin serve: %w", err)
}

// servesSinks reports whether the server serves sinks. It settles a message that does not exist, of a sink that does not exist. If
// the token may not do that, it reads the sink.
func (c *Client) servesSinks(ctx context.Context) bool {
	err := c.findSink(ctx, noID, neverRetry)
	if isForbidden(err) {
		_, err = callOnce[sinkJSON](ctx, c, path("api", "sinks", noID))
	}
	return err == nil || errors.Is(err, ErrNotFound) && !noRoute(err)
}
