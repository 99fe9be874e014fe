package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
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
	Streams     int      `json:"streams"`
	RoundTripMS float64  `json:"round_trip_ms"`
	// ClockMS is how much the server's clock is ahead of this machine's. It is 0 within a second, which is the resolution.
	ClockMS int64 `json:"clock_offset_ms"`
}

func newDoctor(w world) *cobra.Command {
	return online(w, &cobra.Command{
		Use:   "doctor",
		Short: "Test the connection to the server",
		Long: `Test the connection to the server: whether it can be reached and takes the token,
which kind of server it is and which extensions it has, how long a round trip
takes, and whether the clocks agree.`,
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
	})
}

// diagnose lists the streams several times, and looks at the answers.
func diagnose(ctx context.Context, s *session) (*diagnosis, error) {
	network, closeNetwork := s.network()
	defer closeNetwork()
	watch := &watched{next: network}
	client, err := s.target.Client(watch)
	if err != nil {
		return nil, err
	}
	d := &diagnosis{URL: s.target.URL, URLFrom: s.target.From, TokenFrom: s.target.TokenFrom, Extensions: []string{}}
	var best time.Duration
	for i := range roundTrips {
		streams, err := client.ListStreams(ctx)
		if err != nil {
			return nil, err
		}
		answer := watch.last()
		if i == 0 || answer.took < best {
			best = answer.took
		}
		if list := answer.header.Get("Sequin-Extensions"); list != "" {
			d.Extensions = strings.Split(strings.ReplaceAll(list, " ", ""), ",")
		}
		d.Streams, d.Kind = len(streams), kind(d.Extensions, streams)
		d.ClockMS = clockOffset(answer)
	}
	d.RoundTripMS = float64(best.Microseconds()) / 1000
	return d, nil
}

// kind says which kind of server has announced these extensions and shows these streams.
func kind(extensions []string, streams []sequin.Stream) string {
	switch {
	case len(extensions) > 0:
		return "a server with extensions, such as sequin serve"
	case len(streams) == 0:
		return "a server without extensions; with a stream one could see whether it is that of August 2024"
	case streams[0].OneMessagePerKey == nil:
		return "the server of August 2024, or one that behaves like it"
	}
	return "a server with the documented API, without extensions"
}

// clockOffset returns how far the server's clock is ahead, in milliseconds, or 0 within the resolution of the Date header
// and the time that the request took.
func clockOffset(a answer) int64 {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return 0
	}
	// The header has whole seconds, and the server wrote it while the request ran.
	earliest, latest := date, date.Add(time.Second)
	switch {
	case earliest.After(a.at):
		return earliest.Sub(a.at).Milliseconds()
	case latest.Before(a.at.Add(-a.took)):
		return latest.Sub(a.at.Add(-a.took)).Milliseconds()
	}
	return 0
}

func (d *diagnosis) print(s *session) error {
	token, extensions, clock := "none", "none", "agrees with this machine's, within a second"
	if d.TokenFrom != "" {
		token = "accepted, from " + d.TokenFrom
	}
	if len(d.Extensions) > 0 {
		extensions = strings.Join(d.Extensions, ", ")
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
		{"streams", fmt.Sprint(d.Streams)},
		{"round trip", fmt.Sprintf("%.1f ms", d.RoundTripMS)},
		{"clock", clock},
	})
}

// answer is what watched has seen of a request.
type answer struct {
	header http.Header
	at     time.Time // when the header came
	took   time.Duration
}

// watched keeps the header of the latest answer.
type watched struct {
	next http.RoundTripper

	mu     sync.Mutex // guards latest
	latest answer
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.latest = answer{header: resp.Header, at: now, took: now.Sub(began)}
	return resp, nil
}

func (w *watched) last() answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}
