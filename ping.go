package sequin

import (
	"context"
	"net/http"
	"strings"
	"time"
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
	// the resolution, or if the server does not say what time it is.
	ClockOffset time.Duration
	// Streams is how many streams the server lists. It is 0 for a server of sinks.
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
	// ServerStreams serves streams without extensions, and has none. Its first stream shows which of the two kinds above it is.
	ServerStreams ServerKind = "streams"
	// ServerSinks serves sinks and no streams, as Sequin v0.6.0 and later. See [Client.SubscribeSink].
	ServerSinks ServerKind = "sinks"
)

// Ping tests whether the server can be reached and accepts the token, and finds out which kind it is. It makes one attempt at a
// list of the streams. For a server that serves no streams it also looks for sinks. Otherwise its error is that which a
// send would have, too.
func (c *Client) Ping(ctx context.Context) (*ServerInfo, error) {
	info := new(ServerInfo)
	var streams data[rows[Stream]]
	sent := time.Now()
	var answered time.Time
	err := c.do(ctx, request{method: http.MethodGet, path: path("api", "streams"), onAnswer: func() { answered = time.Now() }},
		func(h http.Header, body []byte) error {
			info.read(h, sent, answered)
			return decodeJSON(&streams)(h, body)
		})
	switch {
	case err == nil:
		info.Streams = len(*streams.Data)
		info.Kind = kindOf(info.Extensions, *streams.Data)
		return info, nil
	case noRoute(err) && c.servesSinks(ctx):
		return &ServerInfo{Kind: ServerSinks, RoundTrip: answered.Sub(sent)}, nil
	}
	return nil, err
}

// read reads the header of an answer. The request was made at sent, and its answer began at answered.
func (s *ServerInfo) read(h http.Header, sent, answered time.Time) {
	if answered.IsZero() { // by a RoundTripper that calls no trace
		answered = time.Now()
	}
	s.RoundTrip = answered.Sub(sent)
	for _, list := range h["Sequin-Extensions"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				s.Extensions = append(s.Extensions, name)
			}
		}
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	// The header has whole seconds, and the server wrote it between sent and answered.
	switch latest := date.Add(time.Second); {
	case date.After(answered):
		s.ClockOffset = date.Sub(answered)
	case latest.Before(sent):
		s.ClockOffset = latest.Sub(sent)
	}
}

// kindOf returns the kind of a server that lists these streams.
func kindOf(extensions []string, streams []Stream) ServerKind {
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
