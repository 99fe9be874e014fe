package sequintest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

const (
	sendPath    = "/api/streams/orders/messages"
	receivePath = "/api/streams/orders/consumers/billing/receive"
	ackPath     = "/api/streams/orders/consumers/billing/ack"
	nackPath    = "/api/streams/orders/consumers/billing/nack"
	someIDs     = `{"ack_ids":["00000000-0000-4000-8000-000000000001"]}`
)

// calls are the requests of the fault tests; want is how the server's own answer begins.
var calls = []struct {
	op                       sequintest.Op
	method, path, body, want string
}{
	{sequintest.Send, "POST", sendPath, messages("a.1"), `{"data":{"published":1}}`},
	{sequintest.Receive, "POST", receivePath, `{"batch_size":10}`, `{"data":[`},
	{sequintest.Ack, "POST", ackPath, someIDs, `{"success":true}`},
	{sequintest.Nack, "POST", nackPath, someIDs, `{"success":true}`},
	{sequintest.CreateStream, "POST", "/api/streams", `{"name":"bills"}`, `{"`},
	{sequintest.GetStream, "GET", "/api/streams/orders", "", `{`},
}

func TestFaultsKeepTheStatusAndBodyOfARefusal(t *testing.T) {
	for _, fault := range []sequintest.Fault{{}, {Delay: time.Second}, {DelayAfter: time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			srv := newOrders(t, sequintest.Config{})
			srv.Fault(fault)
			resp, err := srv.Client().Get(srv.URL + "/api/streams/nowhere")
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, 404, resp.StatusCode)
			require.Contains(t, resp.Header.Get("Content-Type"), "application/json")
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Contains(t, string(body), "summary")
		})
	}
}

func TestAMessageIsLeasedEvenIfTheAnswerIsLost(t *testing.T) {
	for _, fault := range []sequintest.Fault{{}, {CutAfter: true}, {Truncate: 1}, {Garble: true}, {DelayAfter: time.Second}, {Status: 504, Acted: true}} {
		synctest.Test(t, func(t *testing.T) {
			srv := newOrders(t, sequintest.Config{})
			a := dial(srv)
			a.send(t, "a")
			fault.Op = sequintest.Receive
			srv.Fault(fault)
			_, _, _ = a.do("POST", receivePath, `{"batch_size":10}`)
			synctest.Wait()
			state, _ := srv.Stream("orders")
			for _, c := range state.Consumers {
				if c.Name == "billing" {
					require.Len(t, c.Outstanding, 1, "%+v", fault)
				}
			}
			require.Len(t, srv.Requests(sequintest.Receive)[0].Deliveries(), 1)
		})
	}
}

func TestAFaultAppliesWhileAnotherIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		matching := make(chan struct{})
		first := srv.Fault(sequintest.Fault{Match: func(*sequintest.Request) bool { <-matching; return false }})
		srv.Fault(sequintest.Fault{Status: 503})
		answered := make(chan int, 1)
		go func() {
			status, _, _ := dial(srv).do("GET", "/api/streams", "")
			answered <- status
		}()
		synctest.Wait()
		first.Remove()
		close(matching)
		require.Equal(t, 503, <-answered)
	})
}

func TestAStatusThatAllowsNoBodyIsSentWithoutOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Status: 204, Body: "not sent"})
		status, answer, err := dial(srv).do("GET", "/api/streams", "")
		require.NoError(t, err)
		require.Equal(t, 204, status)
		require.Empty(t, answer)
	})
}

// effects is what each kind of fault does, as the server and the client see it.
var effects = []struct {
	name  string
	fault sequintest.Fault
	acted bool
	took  time.Duration
	// What the client gets. want is the body, or "own" for the server's own answer.
	status int
	want   string
	err    error
}{
	{name: "none", acted: true, status: 200, want: "own"},
	{name: "a bare status", fault: sequintest.Fault{Status: 500}, status: 500},
	{name: "a status with a body", fault: sequintest.Fault{Status: 502, Body: "<html>"}, status: 502, want: "<html>"},
	{name: "a status after acting", fault: sequintest.Fault{Status: 504, Acted: true, Body: "late"}, acted: true, status: 504, want: "late"},
	{name: "a truncated status", fault: sequintest.Fault{Status: 502, Body: "<html>", Truncate: 2}, status: 502, want: "<h", err: io.ErrUnexpectedEOF},
	{name: "cut before acting", fault: sequintest.Fault{CutBefore: true}, err: sequintest.ErrReset},
	{name: "cut after acting", fault: sequintest.Fault{CutAfter: true}, acted: true, err: sequintest.ErrReset},
	{name: "truncated", fault: sequintest.Fault{Truncate: 1}, acted: true, status: 200, want: "{", err: io.ErrUnexpectedEOF},
	{name: "garbled", fault: sequintest.Fault{Garble: true}, acted: true, status: 200, want: "{\"data\":[{\"message\":\x00\xff<html>"},
	{name: "delayed", fault: sequintest.Fault{Delay: time.Minute}, acted: true, took: time.Minute, status: 200, want: "own"},
	{name: "delayed after acting", fault: sequintest.Fault{DelayAfter: time.Minute}, acted: true, took: time.Minute, status: 200, want: "own"},
	{name: "delayed before and after acting, and cut", fault: sequintest.Fault{Delay: time.Minute, DelayAfter: time.Hour, CutAfter: true}, acted: true, took: time.Hour + time.Minute, err: sequintest.ErrReset},
	{name: "a slow status", fault: sequintest.Fault{Status: 502, Body: "<html>", BytesPerSecond: 2}, took: 3 * time.Second, status: 502, want: "<html>"},
	{name: "a slow and truncated status", fault: sequintest.Fault{Status: 502, Body: "<html>", BytesPerSecond: 2, Truncate: 2}, took: time.Second, status: 502, want: "<h", err: io.ErrUnexpectedEOF},
	{name: "slow", fault: sequintest.Fault{BytesPerSecond: 1 << 30}, acted: true, took: 1 << 30 / 10 * time.Second / (1 << 30), status: 200, want: "own"},
	{name: "an answer over a limit", fault: sequintest.Fault{MaxAnswer: 1, Status: 502, Acted: true, Body: "<html>"}, acted: true, status: 502, want: "<html>"},
	{name: "delayed and refused", fault: sequintest.Fault{Delay: time.Second, Status: 429}, took: time.Second, status: 429},
	{name: "delayed and cut", fault: sequintest.Fault{Delay: time.Second, CutBefore: true}, took: time.Second, err: sequintest.ErrReset},
}

func TestEachFaultHasItsEffectOnEachOperation(t *testing.T) {
	for _, call := range calls {
		for _, effect := range effects {
			t.Run(call.op.String()+"/"+effect.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := newOrders(t, sequintest.Config{})
					fault := effect.fault
					fault.Op, fault.Count = call.op, 1
					handle := srv.Fault(fault)

					begin := time.Now()
					// A new connection each time, because net/http repeats a GET that fails on a reused connection.
					status, answer, err := dial(srv).do(call.method, call.path, call.body)
					require.Equal(t, effect.took, time.Since(begin))
					require.Equal(t, effect.status, status)
					if effect.err != nil {
						require.ErrorIs(t, err, effect.err)
					} else {
						require.NoError(t, err)
					}
					if effect.want == "own" {
						require.True(t, strings.HasPrefix(answer, call.want), answer)
					} else {
						require.Equal(t, effect.want, answer)
					}

					require.Equal(t, 1, handle.Hits())
					seen := srv.Requests(call.op)
					last := seen[len(seen)-1]
					require.Equal(t, effect.acted, last.Acted)
					require.Equal(t, effect.acted, len(last.Answer) > 0, "the journal keeps the server's own answer")
					require.Equal(t, effect.status, last.Status)
					if call.op == sequintest.Send {
						require.Equal(t, effect.acted, len(stored(t, srv)) == 1)
					}

					status, _, err = dial(srv).do("GET", "/api/streams/orders", "")
					require.NoError(t, err, "the fault applied once, to one operation")
					require.Equal(t, 200, status)
				})
			})
		}
	}
}

func TestAStatusIsSentWithItsHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}})
		resp, err := srv.Client().Get(srv.URL + "/api/streams")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 429, resp.StatusCode)
		require.Equal(t, "7", resp.Header.Get("Retry-After"))
		require.NotEmpty(t, resp.Header.Get("Date"))
	})
}

func TestATruncatedAnswerIsNeverComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Op: sequintest.Send, Truncate: 1 << 20})
		srv.Fault(sequintest.Fault{Op: sequintest.Ack, Truncate: 1 << 20, Status: 502, Body: "<html>"})
		for path, whole := range map[string]string{sendPath: `{"data":{"published":1}}`, ackPath: "<html>"} {
			resp, err := srv.Client().Post(srv.URL+path, "application/json", strings.NewReader(messages("a.1")))
			require.NoError(t, err)
			defer resp.Body.Close()
			require.EqualValues(t, len(whole), resp.ContentLength, "the header promises the whole body")
			answer, err := io.ReadAll(resp.Body)
			require.Equal(t, whole[:len(whole)-1], string(answer))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
	})
}

func TestSkipAndCountChooseTheRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		handle := srv.Fault(sequintest.Fault{
			Op: sequintest.Send, Status: 503, Skip: 1, Count: 2,
			Match: func(r *sequintest.Request) bool { return len(r.Messages()) == 1 },
		})
		var got []int
		for _, body := range []string{messages("a", "b"), messages("c"), messages("d"), messages("e", "f"), messages("g"), messages("h")} {
			status, _, err := dial(srv).do("POST", sendPath, body)
			require.NoError(t, err)
			got = append(got, status)
		}
		require.Equal(t, []int{200, 200, 503, 200, 503, 200}, got)
		require.Equal(t, 2, handle.Hits())
	})
}

func TestARequestMeetsTheFirstFaultThatApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		observer := srv.Fault(sequintest.Fault{})
		first := srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Count: 1})
		second := srv.Fault(sequintest.Fault{Status: 502})
		third := srv.Fault(sequintest.Fault{Status: 500})

		for _, want := range []int{503, 502} {
			status, _, err := dial(srv).do("POST", sendPath, messages("a"))
			require.NoError(t, err)
			require.Equal(t, want, status)
		}
		require.Equal(t, []int{2, 1, 1, 0}, []int{observer.Hits(), first.Hits(), second.Hits(), third.Hits()})
		second.Remove()
		second.Remove()
		status, _, err := dial(srv).do("POST", sendPath, messages("a"))
		require.NoError(t, err)
		require.Equal(t, 500, status)
	})
}

func TestRemoveEndsADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		gate := srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Hour})
		begin := time.Now()
		done := make(chan error, 1)
		go func() {
			_, _, err := dial(srv).do("POST", sendPath, messages("a"))
			done <- err
		}()
		require.NoError(t, gate.Wait(t.Context(), 1))
		require.Empty(t, stored(t, srv))
		time.Sleep(time.Second)
		gate.Remove()
		require.NoError(t, <-done)
		require.Equal(t, time.Second, time.Since(begin))
		require.Equal(t, []string{"a"}, stored(t, srv))
	})
}

func TestADelayEndsWhenItsClientLeaves(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sequintest.Fault
		want  []string
	}{
		{"before acting, the server does not act", sequintest.Fault{Delay: time.Hour}, []string{}},
		{"after acting, the message stays stored", sequintest.Fault{DelayAfter: time.Hour}, []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newOrders(t, sequintest.Config{})
				srv.Fault(c.fault)
				a := dial(srv)
				a.client.Timeout = time.Second
				begin := time.Now()
				_, _, err := a.do("POST", sendPath, messages("a"))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				srv.Close()
				require.Equal(t, time.Second, time.Since(begin), "the handler ended when the client left")
				require.Equal(t, c.want, stored(t, srv))
			})
		})
	}
}

func TestWaitReturnsAtNHitsOrWhenTheyAreImpossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		twice := srv.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Count: 2})
		go func() {
			for range 2 {
				time.Sleep(time.Minute)
				_, _, _ = dial(srv).do("POST", sendPath, messages("a"))
			}
		}()
		begin := time.Now()
		require.NoError(t, twice.Wait(t.Context(), 2))
		require.Equal(t, 2*time.Minute, time.Since(begin))
		require.Len(t, srv.Requests(sequintest.Send), 2)
		require.NoError(t, twice.Wait(t.Context(), 2), "earlier hits count")
		require.EqualError(t, twice.Wait(t.Context(), 3), "sequintest: waiting for 3 hits of a fault with Count 2")

		endless := srv.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 500})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := endless.Wait(ctx, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "sequintest: context deadline exceeded after 0 of 1 hits")

		time.AfterFunc(time.Second, endless.Remove)
		require.EqualError(t, endless.Wait(t.Context(), 1), "sequintest: the fault ended after 0 of 1 hits")

		last := srv.Fault(sequintest.Fault{})
		time.AfterFunc(time.Second, srv.Close)
		require.EqualError(t, last.Wait(t.Context(), 1), "sequintest: the fault ended after 0 of 1 hits")
		srv.Close()
		require.Error(t, srv.Fault(sequintest.Fault{}).Wait(t.Context(), 1), "the server is closed")
	})
}

func TestAnInvalidFaultFailsTheTest(t *testing.T) {
	tb := &spy{}
	srv := sequintest.NewServer(tb, sequintest.Config{})
	message := fatally(func() { srv.Fault(sequintest.Fault{Skip: -1}) })
	require.Equal(t, "sequintest: Fault: Skip is negative", message)
	tb.cleanup()
	require.Empty(t, tb.failures)
}
