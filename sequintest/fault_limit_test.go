package sequintest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

// foreign is a body that is not of the API.
const foreign = "<html>unavailable</html>"

// TestAProxyCanAnswerInsteadOfTheServer holds that each operation can get each status with a foreign body, whether the
// server has acted or not.
func TestAProxyCanAnswerInsteadOfTheServer(t *testing.T) {
	for _, call := range calls {
		for _, acted := range []bool{false, true} {
			for _, status := range []int{200, 307, 401, 403, 404, 405, 413, 421, 425, 429, 500, 502, 503, 504, 507, 520, 526} {
				synctest.Test(t, func(t *testing.T) {
					srv := newOrders(t, sequintest.Config{})
					srv.Fault(sequintest.Fault{Op: call.op, Status: status, Body: foreign, Acted: acted})
					got, answer, err := dial(srv).do(call.method, call.path, call.body)
					require.NoError(t, err)
					require.Equal(t, status, got, call.op)
					require.Equal(t, foreign, answer)
					seen := srv.Requests(call.op)
					require.Equal(t, acted, seen[len(seen)-1].Acted)
				})
			}
		}
	}
}

func TestALimitOfTheAnswerAffectsLargerOnes(t *testing.T) {
	const small = `{"data":[]}`
	for name, tt := range map[string]struct {
		fault  sequintest.Fault
		status int
		want   string // the beginning of the answer
		length int
		err    error
	}{
		"cut":      {sequintest.Fault{Truncate: 100}, 200, `{"data":[`, 100, io.ErrUnexpectedEOF},
		"reset":    {sequintest.Fault{CutAfter: true}, 0, "", 0, sequintest.ErrReset},
		"replaced": {sequintest.Fault{Status: 502, Acted: true, Body: foreign}, 502, foreign, len(foreign), nil},
		"slow":     {sequintest.Fault{BytesPerSecond: 1000}, 200, `{"data":[`, 0, nil},
		"late":     {sequintest.Fault{DelayAfter: time.Hour}, 200, `{"data":[`, 0, nil},
		"not JSON": {sequintest.Fault{Garble: true}, 200, `{"data":[{"message":`, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newOrders(t, sequintest.Config{})
				fault := tt.fault
				fault.Op, fault.MaxAnswer = sequintest.Receive, len(small)
				handle := srv.Fault(fault)
				begin := time.Now()
				status, answer, err := dial(srv).do("POST", receivePath, "{}")
				require.NoError(t, err)
				require.Equal(t, 200, status)
				require.Equal(t, small, answer)
				require.Zero(t, time.Since(begin))
				require.Zero(t, handle.Hits(), "an answer of exactly the limit is not affected")

				dial(srv).send(t, strings.Repeat("k", 200))
				status, answer, err = dial(srv).do("POST", receivePath, "{}")
				require.ErrorIs(t, err, tt.err)
				require.Equal(t, tt.status, status)
				require.True(t, strings.HasPrefix(answer, tt.want), answer)
				if tt.length > 0 {
					require.Len(t, answer, tt.length)
				}
				require.Equal(t, 1, handle.Hits())
			})
		})
	}
}

// TestALimitOfTheWaitAffectsLongPolls is a proxy whose read time-out is shorter than a long poll.
func TestALimitOfTheWaitAffectsLongPolls(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  sequintest.Fault
		status int
		err    error
	}{
		"cut":      {sequintest.Fault{CutAfter: true}, 0, sequintest.ErrReset},
		"replaced": {sequintest.Fault{Status: 504, Acted: true, Body: foreign}, 504, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newOrders(t, sequintest.Config{})
				fault := tt.fault
				fault.Op, fault.MaxWait = sequintest.Receive, 5*time.Second
				handle := srv.Fault(fault)
				begin := time.Now()
				status, _, err := dial(srv).do("POST", receivePath, `{"wait_for":"4s"}`)
				require.NoError(t, err)
				require.Equal(t, 200, status)
				require.Equal(t, 4*time.Second, time.Since(begin))
				require.Zero(t, handle.Hits())

				begin = time.Now()
				status, _, err = dial(srv).do("POST", receivePath, `{"wait_for":"20s"}`)
				require.ErrorIs(t, err, tt.err)
				require.Equal(t, tt.status, status)
				require.Equal(t, 5*time.Second, time.Since(begin))
				require.Equal(t, 1, handle.Hits())

				state, _ := srv.Stream("orders")
				require.Zero(t, state.Consumers[0].Waiting, "the server sees that its client has left")
				dial(srv).send(t, "a")
				status, answer, err := dial(srv).do("POST", receivePath, `{"wait_for":"20s"}`)
				require.NoError(t, err)
				require.Equal(t, 200, status)
				require.Contains(t, answer, `"key":"a"`, "nothing is leased to the request that was cut")
			})
		})
	}
}

func TestASlowAnswerArrivesInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		const size = 100_000
		handle := srv.Fault(sequintest.Fault{Status: 200, Body: strings.Repeat("x", size), BytesPerSecond: 10_000})
		get := func() *http.Response {
			resp, err := srv.Client().Get(srv.URL + "/api/streams")
			require.NoError(t, err)
			t.Cleanup(func() { resp.Body.Close() })
			return resp
		}
		begin := time.Now()
		resp := get()
		_, err := io.ReadFull(resp.Body, make([]byte, size/2))
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, time.Since(begin))
		rest, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Len(t, rest, size/2)
		require.Equal(t, 10*time.Second, time.Since(begin))

		begin = time.Now()
		resp = get()
		time.Sleep(time.Second)
		handle.Remove()
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(begin), time.Second+100*time.Millisecond, "Remove ends the slowness")
		require.Equal(t, 2, handle.Hits())
	})
}
