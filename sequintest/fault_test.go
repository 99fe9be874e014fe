package sequintest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
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

// calls are the requests that the faults are tried on, with how their answers begin when nothing is wrong.
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

func TestARefusalOfTheServerSurvivesAFault(t *testing.T) {
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

// The server has handed the message out, whatever becomes of its answer.
func TestAReceivedMessageIsLeased(t *testing.T) {
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

func TestAFaultIsFoundWhileAnotherIsRemoved(t *testing.T) {
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

func TestAStatusWithoutABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Status: 204, Body: "not sent"})
		status, answer, err := dial(srv).do("GET", "/api/streams", "")
		require.NoError(t, err)
		require.Equal(t, 204, status)
		require.Empty(t, answer)
	})
}

// effects are what a fault does, seen from both sides.
var effects = []struct {
	name  string
	fault sequintest.Fault
	acted bool
	took  time.Duration
	// What the client gets: the server's own answer when want is "own", a broken one's error, or an answer.
	status int
	want   string
	err    error
}{
	{name: "none, an observer", acted: true, status: 200, want: "own"},
	{name: "a bare status", fault: sequintest.Fault{Status: 500}, status: 500},
	{name: "a status with a body", fault: sequintest.Fault{Status: 502, Body: "<html>"}, status: 502, want: "<html>"},
	{name: "a status after acting", fault: sequintest.Fault{Status: 504, Acted: true, Body: "late"}, acted: true, status: 504, want: "late"},
	{name: "a truncated status", fault: sequintest.Fault{Status: 502, Body: "<html>", Truncate: 2}, status: 502, want: "<h", err: io.ErrUnexpectedEOF},
	{name: "cut before", fault: sequintest.Fault{CutBefore: true}, err: syscall.ECONNRESET},
	{name: "cut after", fault: sequintest.Fault{CutAfter: true}, acted: true, err: syscall.ECONNRESET},
	{name: "truncated", fault: sequintest.Fault{Truncate: 1}, acted: true, status: 200, want: "{", err: io.ErrUnexpectedEOF},
	{name: "garbled", fault: sequintest.Fault{Garble: true}, acted: true, status: 200, want: "{\"data\":[{\"message\":\x00\xff<html>"},
	{name: "delayed", fault: sequintest.Fault{Delay: time.Minute}, acted: true, took: time.Minute, status: 200, want: "own"},
	{name: "delayed after", fault: sequintest.Fault{DelayAfter: time.Minute}, acted: true, took: time.Minute, status: 200, want: "own"},
	{name: "delayed both ways and cut", fault: sequintest.Fault{Delay: time.Minute, DelayAfter: time.Hour, CutAfter: true}, acted: true, took: time.Hour + time.Minute, err: syscall.ECONNRESET},
	{name: "delayed and refused", fault: sequintest.Fault{Delay: time.Second, Status: 429}, took: time.Second, status: 429},
	{name: "delayed and cut", fault: sequintest.Fault{Delay: time.Second, CutBefore: true}, took: time.Second, err: syscall.ECONNRESET},
}

func TestWhatAFaultDoesToEachOperation(t *testing.T) {
	for _, call := range calls {
		for _, effect := range effects {
			t.Run(call.op.String()+"/"+effect.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := newOrders(t, sequintest.Config{})
					fault := effect.fault
					fault.Op, fault.Count = call.op, 1
					handle := srv.Fault(fault)

					begin := time.Now()
					// A new connection each: net/http itself repeats a GET on one that was used before.
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
					require.Equal(t, effect.acted, len(last.Answer) > 0, "the server's own answer is kept")
					require.Equal(t, effect.status, last.Status)
					if call.op == sequintest.Send {
						require.Equal(t, effect.acted, len(stored(t, srv)) == 1)
					}

					status, _, err = dial(srv).do("GET", "/api/streams/orders", "")
					require.NoError(t, err, "one time, one operation")
					require.Equal(t, 200, status)
				})
			})
		}
	}
}

func TestAStatusCarriesItsHeader(t *testing.T) {
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

func TestATruncatedAnswerIsNeverWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newOrders(t, sequintest.Config{})
		srv.Fault(sequintest.Fault{Op: sequintest.Send, Truncate: 1 << 20})
		srv.Fault(sequintest.Fault{Op: sequintest.Ack, Truncate: 1 << 20, Status: 502, Body: "<html>"})
		for path, whole := range map[string]string{sendPath: `{"data":{"published":1}}`, ackPath: "<html>"} {
			resp, err := srv.Client().Post(srv.URL+path, "application/json", strings.NewReader(messages("a.1")))
			require.NoError(t, err)
			defer resp.Body.Close()
			require.EqualValues(t, len(whole), resp.ContentLength, "the header promises all of it")
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

func TestTheFirstFaultThatAppliesIsTheOne(t *testing.T) {
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

func TestRemoveOpensAGate(t *testing.T) {
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

func TestADelayEndsWithItsClient(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sequintest.Fault
		want  []string
	}{
		{"before acting, nothing is done", sequintest.Fault{Delay: time.Hour}, []string{}},
		{"after acting, it stays done", sequintest.Fault{DelayAfter: time.Hour}, []string{"a"}},
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
				require.Equal(t, time.Second, time.Since(begin), "the handler left with the client")
				require.Equal(t, c.want, stored(t, srv))
			})
		})
	}
}

func TestWait(t *testing.T) {
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
		require.NoError(t, twice.Wait(t.Context(), 2), "those hits have been")
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
		require.Error(t, srv.Fault(sequintest.Fault{}).Wait(t.Context(), 1), "nothing comes any more")
	})
}

func TestFaultsThatMakeNoSenseFailTheTest(t *testing.T) {
	type fault = sequintest.Fault
	for want, f := range map[string]fault{
		"Op is none of this package's":                    {Op: 99},
		"Skip is negative":                                {Skip: -1},
		"Count is negative; 0 strikes until Remove":       {Count: -1},
		"Delay is negative":                               {Delay: -1},
		"DelayAfter is negative":                          {DelayAfter: -1},
		"Truncate is negative":                            {Truncate: -1},
		"Status is not in 200..599":                       {Status: 100},
		"Header and Body belong to an answer: set Status": {Body: "x"},
		"Acted says what Status replaces: set Status":     {Acted: true},
		"CutBefore and CutAfter exclude one another":      {CutBefore: true, CutAfter: true},
		"after CutBefore nothing can follow":              {CutBefore: true, DelayAfter: 1},
		"after CutAfter there is no answer":               {CutAfter: true, Status: 500},
		"Garble and Status are two answers":               {Garble: true, Status: 500},
		"DelayAfter follows the server's acting, which Status prevents: use Delay, or set Acted": {Status: 500, DelayAfter: 1},
	} {
		tb := &spy{}
		srv := sequintest.NewServer(tb, sequintest.Config{})
		require.Equal(t, "sequintest: Fault: "+want, fatally(func() { srv.Fault(f) }))
		tb.cleanup()
		require.Empty(t, tb.failures)
	}
}
