package sequin_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestPingTellsTheKindOfServer(t *testing.T) {
	for name, row := range map[string]struct {
		cfg     sequintest.Config
		streams int
		want    sequin.ServerKind
	}{
		"with extensions":            {sequintest.Config{}, 0, sequin.ServerExtended},
		"documented":                 {sequintest.Config{WithoutExtensions: server.Extensions()}, 1, sequin.ServerDocumented},
		"of 2024":                    {sequintest.Config{Compat: server.Aug2024}, 2, sequin.Server2024},
		"without extensions, empty":  {sequintest.Config{WithoutExtensions: server.Extensions()}, 0, sequin.ServerStreams},
		"of sinks, without a stream": {sequintest.Config{SinksOnly: true}, 0, sequin.ServerSinks},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, row.cfg, sequin.Config{})
				for i := range row.streams {
					_, err := w.client.CreateStream(w.ctx, fmt.Sprint("s", i), sequin.StreamOptions{})
					require.NoError(t, err)
				}
				info, err := w.client.Ping(w.ctx)
				require.NoError(t, err)
				require.Equal(t, row.want, info.Kind)
				listed := row.streams
				if row.cfg.Compat == server.Aug2024 {
					listed++ // it has a stream from the beginning
				}
				require.Equal(t, listed, info.Streams)
				require.Equal(t, row.want == sequin.ServerExtended, len(info.Extensions) > 0)
				require.Zero(t, info.ClockOffset)
			})
		})
	}
}

func TestPingListsTheExtensions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.Fault(sequintest.Fault{Status: 200, Header: http.Header{"Sequin-Extensions": {"fenced-acks, parts", "of-the-future,"}}, Body: `{"data":[]}`})
		info, err := w.client.Ping(w.ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"fenced-acks", "parts", "of-the-future"}, info.Extensions)
	})
}

func TestPingMeasuresTheRoundTripAndTheClocks(t *testing.T) {
	for name, row := range map[string]struct {
		ahead, least, most time.Duration
	}{
		"agree":  {},
		"ahead":  {ahead: time.Hour, least: time.Hour - 2*time.Second, most: time.Hour},
		"behind": {ahead: -time.Hour, least: -time.Hour, most: -time.Hour + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.Fault(sequintest.Fault{Delay: 300 * time.Millisecond, Status: 200, Body: `{"data":[]}`,
					Header: http.Header{"Date": {time.Now().Add(300*time.Millisecond + row.ahead).UTC().Format(http.TimeFormat)}}})
				info, err := w.client.Ping(w.ctx)
				require.NoError(t, err)
				require.Equal(t, 300*time.Millisecond, info.RoundTrip)
				require.GreaterOrEqual(t, info.ClockOffset, row.least)
				require.LessOrEqual(t, info.ClockOffset, row.most)
			})
		})
	}
}

// Such a time is that of no clock: Go, for instance, writes the year 1 for a time that was never set.
func TestPingIgnoresATimeThatCannotBe(t *testing.T) {
	for date, known := range map[string]bool{
		"Mon, 01 Jan 0001 00:00:00 GMT": false,
		"Fri, 01 Jan 1960 00:00:00 GMT": false,
		"Fri, 31 Dec 9999 23:59:59 GMT": false,
		"yesterday":                     false,
		"Thu, 01 Jan 1970 00:00:00 GMT": true, // of a machine whose clock was not set
	} {
		t.Run(date, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.Fault(sequintest.Fault{Status: 200, Body: `{"data":[]}`, Header: http.Header{"Date": {date}}})
				info, err := w.client.Ping(w.ctx)
				require.NoError(t, err)
				require.Equal(t, known, info.ClockOffset != 0, info.ClockOffset)
			})
		})
	}
}

// The error is that of a send, after one attempt.
func TestPingHasTheErrorOfASend(t *testing.T) {
	for name, row := range map[string]struct {
		fault sequintest.Fault
		want  error
	}{
		"a token that is refused": {sequintest.Fault{Status: 401, Body: `{"summary":"Unauthorized"}`}, sequin.ErrUnauthorized},
		"a proxy's page":          {sequintest.Fault{Status: 503, Body: "<html>"}, nil},
		"a lost answer":           {sequintest.Fault{CutAfter: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				h := w.Fault(row.fault)
				info, err := w.client.Ping(w.ctx)
				require.Nil(t, info)
				require.Error(t, err)
				if row.want != nil {
					require.ErrorIs(t, err, row.want)
				}
				require.Equal(t, 1, h.Hits())
				ctx, cancel := context.WithTimeout(w.ctx, time.Nanosecond)
				defer cancel()
				<-ctx.Done()
				_, err = w.client.Ping(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
			})
		})
	}
}
