package sequintest

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func request(body int) *Request { return &Request{Op: Send, Body: make([]byte, body)} }

func TestTheJournalChargesWhatItHolds(t *testing.T) {
	j := journal{keep: 2}
	answer := func(e *entry, size int) {
		j.note(e, func(r *Request) { r.Answer = append(r.Answer, make([]byte, size)...) })
	}
	first := j.begin(request(1))
	second := j.begin(request(10))
	answer(first, 40)
	answer(first, 60)
	require.Equal(t, 111, j.bytes)

	third := j.begin(request(1000)) // drops the first
	require.Equal(t, 1010, j.bytes)
	j.begin(request(1)) // drops the second, which runs
	answer(second, 100)
	require.Equal(t, 1001, j.bytes)

	answer(third, maxKeptBytes) // too large to be kept
	require.Equal(t, 1, j.bytes)
	require.Len(t, j.requests(nil), 1)
	require.EqualValues(t, 4, j.counts[Any].Load())
}

func TestAHitJustBeforeTheEndCounts(t *testing.T) {
	for range 100 { // both wake the waiter, and it may look at either first
		synctest.Test(t, func(t *testing.T) {
			var fs faults
			h := fs.add(Fault{})
			waited := make(chan error)
			go func() { waited <- h.Wait(t.Context(), 1) }()
			synctest.Wait()
			h.hit()
			h.Remove()
			require.NoError(t, <-waited)
		})
	}
}

func TestAClientKeepsItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(t, Config{})
		client := srv.Client()
		srv.Fault(Fault{Delay: time.Second}) // so that the requests of a round are under way together
		const together = 50
		for range 3 {
			done := make(chan error)
			for range together {
				go func() {
					resp, err := client.Get(srv.URL + "/api/streams")
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
					done <- err
				}()
			}
			for range together {
				require.NoError(t, <-done)
			}
			synctest.Wait()
		}
		require.Equal(t, together, srv.network.dialed)
		client.Transport.(*http.Transport).CloseIdleConnections()
	})
}
