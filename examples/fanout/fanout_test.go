package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/clocks"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestEveryRecordIsAccountedFor(t *testing.T) {
	all, err := clocks.Records()
	require.NoError(t, err)
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		for name, faults := range map[string][]sequintest.Fault{
			"without faults": nil,
			"with faults": {
				{Op: sequintest.Send, Status: 503, Skip: 5, Count: 4},
				{Op: sequintest.Send, CutAfter: true, Skip: 12, Count: 3},
				{Op: sequintest.Receive, CutAfter: true, Skip: 10, Count: 3},
				{Op: sequintest.Ack, Status: 503, Skip: 4, Count: 5},
				{Op: sequintest.Ack, CutBefore: true, Skip: 20, Count: 1},
				{Op: sequintest.Ack, CutAfter: true, Skip: 25, Count: 1},
			},
		} {
			t.Run(compat.String()+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := sequintest.NewServer(t, sequintest.Config{Compat: compat})
					var hits []*sequintest.FaultHandle
					for _, f := range faults {
						hits = append(hits, srv.Fault(f))
					}
					client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
					require.NoError(t, err)
					file := filepath.Join(t.TempDir(), "europe.ndjson")
					got, err := fanOut(t.Context(), client, all, file)
					require.NoError(t, err)
					require.NoError(t, got.check())
					require.Positive(t, got.rows[2].dead)
					for _, r := range got.rows {
						require.Greater(t, r.matching, uint64(1000), r.name)
						require.GreaterOrEqual(t, r.acked+r.unknown, r.matching, r.name)
					}
					written, err := os.ReadFile(file)
					require.NoError(t, err)
					require.GreaterOrEqual(t, bytes.Count(written, []byte("\n")), int(got.rows[1].matching))
					left := slices.DeleteFunc(srv.Streams(), func(name string) bool { return name == "default" }) // the 2024 server has it
					require.Empty(t, left, "the streams are deleted")
					for i, h := range hits {
						require.NoError(t, h.Wait(t.Context(), 1), "fault %d", i)
					}
				})
			})
		}
	}
}

func TestABranchThatCannotStartStopsTheOthers(t *testing.T) {
	all, err := clocks.Records()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		srv.Fault(sequintest.Fault{Op: sequintest.CreateConsumer, Skip: 2, Status: 422, Body: `{"summary":"no more"}`})
		srv.Fault(sequintest.Fault{Op: sequintest.DeleteStream, Status: 403, Body: `{"summary":"no"}`}) // or the deletion would stop them
		_, err = fanOut(t.Context(), client, all, filepath.Join(t.TempDir(), "europe.ndjson"))
		require.ErrorIs(t, err, sequin.ErrValidation)
		requests := srv.Count(sequintest.Any)
		time.Sleep(time.Hour)
		require.Equal(t, requests, srv.Count(sequintest.Any), "no branch receives any more")
	})
}

func TestWrongSumsAreReported(t *testing.T) {
	for what, wrong := range map[string]table{
		"lost before the stream":    {records: 10, published: 9},
		"lost in a branch":          {records: 10, published: 10, rows: []row{{matching: 6, done: 4, dead: 1}}, unmatched: 4},
		"lost between the branches": {records: 10, published: 10, rows: []row{{matching: 6, done: 5, dead: 1}}, unmatched: 3},
		"more than were sent":       {records: 10, published: 10, rows: []row{{matching: 6, done: 7}}, unmatched: 4},
	} {
		require.Error(t, wrong.check(), what)
	}
	require.NoError(t, table{records: 10, published: 10, rows: []row{{matching: 6, done: 5, dead: 1}}, unmatched: 4}.check())
}
