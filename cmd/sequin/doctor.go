package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// roundTrips is how many requests the doctor makes. The quickest one has met the fewest other delays.
const roundTrips = 5

// diagnosis is what the doctor has found.
type diagnosis struct {
	URL         string   `json:"url"`
	URLFrom     string   `json:"url_from"`
	TokenFrom   string   `json:"token_from,omitempty"`
	Kind        string   `json:"kind"`
	Extensions  []string `json:"extensions"`
	Streams     *int     `json:"streams"` // null if the token may not list them
	RoundTripMS float64  `json:"round_trip_ms"`
	// ClockMS is how much the server's clock is ahead of this machine's. It is 0 within a second, which is the resolution.
	ClockMS int64 `json:"clock_offset_ms"`
}

func newDoctor(w world) *cobra.Command {
	return orDatabase(w, online(w, &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Test the connection to the server, or a Postgres database",
		Long: `Test the connection to the server: whether it can be reached and takes the token,
which kind of server it is and which extensions it has, how long a round trip
takes, and whether the clocks agree.

With --postgres it looks at the database of "sequin serve --postgres" instead:
its version, rights, connections and settings, whether its tables are up to date,
and what they take. Each line with a fault or a warning says what to do. It
changes nothing, and exits with 1 when there is a fault.`,
		Args: arguments(0),
	}, func(ctx context.Context, s *session, _ []string) error {
		d, err := diagnose(ctx, s)
		if err != nil {
			return err
		}
		if s.json {
			return cli.JSON(s.out, d)
		}
		return d.print(s)
	}))
}

// diagnose pings the server several times, and keeps the quickest answer.
func diagnose(ctx context.Context, s *session) (*diagnosis, error) {
	network, closeNetwork := s.network()
	defer closeNetwork()
	client, err := s.target.Client(network)
	if err != nil {
		return nil, err
	}
	var best *sequin.ServerInfo
	for range roundTrips {
		info, err := client.Ping(ctx)
		if err != nil {
			return nil, err
		}
		if best == nil || info.RoundTrip < best.RoundTrip {
			best = info
		}
	}
	d := &diagnosis{URL: s.target.URL, URLFrom: s.target.From, TokenFrom: s.target.TokenFrom, Kind: kinds[best.Kind],
		Extensions:  append([]string{}, best.Extensions...),
		RoundTripMS: float64(best.RoundTrip.Microseconds()) / 1000, ClockMS: best.ClockOffset.Milliseconds()}
	if best.Streams >= 0 {
		d.Streams = &best.Streams
	}
	return d, nil
}

// kinds are the kinds of servers in words.
var kinds = map[sequin.ServerKind]string{
	sequin.ServerExtended:   "a server with extensions, such as sequin serve",
	sequin.ServerDocumented: "a server with the documented API, without extensions",
	sequin.Server2024:       "the server of August 2024, or one that behaves like it",
	sequin.ServerStreams:    "a server without extensions; with a stream one could see whether it is that of August 2024",
	sequin.ServerSinks:      "a server of sinks, without streams, such as Sequin v0.6.0 and later",
}

func (d *diagnosis) print(s *session) error {
	token, extensions, streams, clock := "none", "none", "not listed for this token", "agrees with this machine's, within a second"
	if d.TokenFrom != "" {
		token = "accepted, from " + d.TokenFrom
	}
	if len(d.Extensions) > 0 {
		extensions = strings.Join(d.Extensions, ", ")
	}
	if d.Streams != nil {
		streams = fmt.Sprint(*d.Streams)
	}
	if offset := time.Duration(d.ClockMS) * time.Millisecond; offset > 0 {
		clock = fmt.Sprintf("%v ahead of this machine's: set one of them", offset.Round(time.Second))
	} else if offset < 0 {
		clock = fmt.Sprintf("%v behind this machine's: set one of them", -offset.Round(time.Second))
	}
	return cli.Fields(s.out, [][2]string{
		{"server", fmt.Sprintf("%s, from %s", d.URL, d.URLFrom)},
		{"token", token},
		{"kind", d.Kind},
		{"extensions", extensions},
		{"streams", streams},
		{"round trip", fmt.Sprintf("%.1f ms", d.RoundTripMS)},
		{"clock", clock},
	})
}
