package sequin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// A token is accepted whatever it may do. A server may keep the list of its streams from it.
func TestPingSucceedsWithATokenOfAnyRights(t *testing.T) {
	for name, row := range map[string]struct {
		cfg  server.Config
		want sequin.ServerKind
	}{
		"with extensions":    {server.Config{}, sequin.ServerExtended},
		"without extensions": {server.Config{WithoutExtensions: server.Extensions()}, sequin.ServerStreams},
		"of 2024":            {server.Config{Compat: server.Aug2024}, sequin.ServerStreams},
		"of sinks":           {server.Config{SinksOnly: true}, sequin.ServerSinks},
	} {
		for _, rights := range []server.Rights{server.CanSend, server.CanConsume, server.CanAdmin} {
			t.Run(fmt.Sprint(name, ", ", rights), func(t *testing.T) {
				row.cfg.Access = func(token string) server.Rights { return map[string]server.Rights{"known": rights}[token] }
				info, err := ping(t, row.cfg, "known")
				require.NoError(t, err)
				require.Equal(t, row.want, info.Kind)
				streams, extensions := -1, 0
				if row.want == sequin.ServerSinks {
					streams = 0
				}
				if row.want == sequin.ServerExtended {
					extensions = len(server.Extensions())
				}
				require.Equal(t, streams, info.Streams)
				require.Len(t, info.Extensions, extensions)
				require.Positive(t, info.RoundTrip)
				require.Zero(t, info.ClockOffset)
				for _, token := range []string{"unknown", ""} {
					_, err = ping(t, row.cfg, token)
					require.ErrorIs(t, err, sequin.ErrUnauthorized)
				}
			})
		}
	}
}

// ping pings a server of its own.
func ping(t *testing.T, cfg server.Config, token string) (*sequin.ServerInfo, error) {
	t.Helper()
	s := server.New(cfg)
	srv := httptest.NewServer(s)
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, Token: token})
	require.NoError(t, err)
	defer func() { client.Close(); s.Close(); srv.Close() }()
	return client.Ping(t.Context())
}

// A 403 that has nothing to do with the rights of the token is the error of a send, too.
func TestPingFailsWhenMoreThanTheListIsForbidden(t *testing.T) {
	for name, row := range map[string]struct {
		second  sequintest.Fault
		path    string
		foreign bool
	}{
		"another request is forbidden": {sequintest.Fault{Status: 403, Body: ownRefusal}, "/api/streams", false},
		"the token was taken away":     {sequintest.Fault{Status: 401, Body: ownRefusal}, "/api/streams/00000000-0000-4000-8000-000000000000", false},
		"a proxy forbids another":      {sequintest.Fault{Status: 403, Body: "<html>"}, "/api/streams/00000000-0000-4000-8000-000000000000", true},
		"a server without such a path": {sequintest.Fault{Status: 404, Body: `{"errors":{"detail":"Not Found"}}`}, "/api/streams/00000000-0000-4000-8000-000000000000", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.Fault(sequintest.Fault{Status: 403, Body: ownRefusal, Count: 1})
				second := w.Fault(row.second)
				info, err := w.client.Ping(w.ctx)
				require.Nil(t, info)
				var api *sequin.APIError
				require.ErrorAs(t, err, &api)
				require.Equal(t, row.second.Status, api.Status)
				require.Equal(t, row.path, api.Path)
				require.Equal(t, row.foreign, api.Foreign)
				require.Equal(t, 1, second.Hits())
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
