package server_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// poll is a receive that waits, in a goroutine of its own.
type poll struct {
	cancel context.CancelFunc
	done   chan reply
	took   time.Duration // valid when done
}

// poll starts a long poll and returns when it waits or is answered.
func (a *api) poll(params string) *poll {
	ctx, cancel := context.WithCancel(context.Background())
	p := &poll{cancel: cancel, done: make(chan reply, 1)}
	start := time.Now()
	go func() {
		defer cancel()
		got := a.callContext(ctx, "POST", "/api/streams/s/consumers/c/receive", params)
		p.took = time.Since(start)
		p.done <- got
	}()
	synctest.Wait()
	return p
}

func (p *poll) answered() bool { return len(p.done) > 0 }

func (p *poll) pairs(t *testing.T) []string {
	t.Helper()
	got := <-p.done
	require.Equalf(t, http.StatusOK, got.status, "%s", got.body)
	return parseDeliveries(t, got.body).pairs()
}

// TestAnEventEndsALongPoll covers everything that makes a message available or the wait pointless.
func TestAnEventEndsALongPoll(t *testing.T) {
	tests := []struct {
		name     string
		consumer string // options
		prepare  func(a *api) deliveries
		event    func(a *api, before deliveries)
		want     []string
		status   int
		after    time.Duration
	}{
		{name: "a message is sent", want: []string{"a=1"},
			event: func(a *api, _ deliveries) { a.send("a=1") }},
		{name: "a message is nacked", want: []string{"a=1"},
			prepare: func(a *api) deliveries { a.send("a=1"); return a.receive("{}") },
			event:   func(a *api, before deliveries) { a.nack(before) }},
		{name: "a lease ends", want: []string{"a=1"}, after: 10 * time.Second,
			prepare: func(a *api) deliveries { a.send("a=1"); return a.receive("{}") },
			event:   func(*api, deliveries) {}},
		{name: "an ack makes room", consumer: `,"max_ack_pending":1`, want: []string{"b=2"},
			prepare: func(a *api) deliveries { a.send("a=1", "b=2"); return a.receive("{}") },
			event:   func(a *api, before deliveries) { a.ack(before) }},
		{name: "an ack makes the next message of its key available", want: []string{"a=2"},
			prepare: func(a *api) deliveries { a.send("a=1", "a=2"); return a.receive("{}") },
			event:   func(a *api, before deliveries) { a.ack(before) }},
		{name: "a raised max_ack_pending makes room", consumer: `,"max_ack_pending":1`, want: []string{"b=2"},
			prepare: func(a *api) deliveries { a.send("a=1", "b=2"); return a.receive("{}") },
			event: func(a *api, _ deliveries) {
				a.ok("PUT", "/api/streams/s/consumers/c", `{"max_ack_pending":2}`)
			}},
		{name: "the consumer is deleted", status: http.StatusNotFound,
			event: func(a *api, _ deliveries) { a.ok("DELETE", "/api/streams/s/consumers/c", "") }},
		{name: "the stream is deleted", status: http.StatusNotFound,
			event: func(a *api, _ deliveries) { a.ok("DELETE", "/api/streams/s", "") }},
		{name: "the server is closed", want: []string{},
			event: func(a *api, _ deliveries) { a.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, "", tt.consumer, func(t *testing.T, a *api) {
				var before deliveries
				if tt.prepare != nil {
					before = tt.prepare(a)
				}
				p := a.poll(`{"batch_size":10,"wait_for":"1m"}`)
				require.False(t, p.answered())
				tt.event(a, before)
				if tt.status != 0 {
					require.Equal(t, tt.status, (<-p.done).status)
				} else {
					require.Equal(t, tt.want, p.pairs(t))
				}
				require.Equal(t, tt.after, p.took)
			})
		})
	}
}

func TestALongPollWithoutMessagesIsAnsweredEmptyAfterItsWait(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`500`: 500 * time.Millisecond, `"2000"`: 2 * time.Second, `"1500ms"`: 1500 * time.Millisecond,
		`"20s"`: 20 * time.Second, `"5m"`: 5 * time.Minute, `300000`: 5 * time.Minute,
	} {
		t.Run(text, func(t *testing.T) {
			inBubble(t, "", "", func(t *testing.T, a *api) {
				p := a.poll(`{"wait_for":` + text + `}`)
				got := <-p.done
				require.Equal(t, `{"data":[]}`, got.body)
				require.Equal(t, want, p.took)
				require.Equal(t, fmt.Sprint(want.Milliseconds()), got.header.Get("Sequin-Waited-Ms"))
			})
		})
	}
}

func TestALongPollCanBeAGET(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		start := time.Now()
		require.Equal(t, `{"data":[]}`, a.ok("GET", "/api/streams/s/consumers/c/receive?wait_for=3s&batch_size=2", ""))
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestWaitedIsTheTimeFromArrivalToDeliveryRoundedDown(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		p := a.poll(`{"wait_for":5000}`)
		time.Sleep(1234*time.Millisecond + 999*time.Microsecond)
		a.send("a=1")
		require.Equal(t, "1234", (<-p.done).header.Get("Sequin-Waited-Ms"))
		got := a.call("POST", "/api/streams/s/consumers/c/receive", `{}`)
		require.Equal(t, "0", got.header.Get("Sequin-Waited-Ms"))
	})
}

// TestASendWakesAsManyPollsAsItHasMessagesFor also checks that polls are served in the order of their arrival.
func TestASendWakesAsManyPollsAsItHasMessagesFor(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		polls := make([]*poll, 5)
		for i := range polls {
			polls[i] = a.poll(`{"batch_size":2,"wait_for":60000}`)
		}
		require.Equal(t, 5, a.consumer().Waiting)
		a.send("a=1", "b=2", "c=3")
		synctest.Wait()
		require.Equal(t, []string{"a=1", "b=2"}, polls[0].pairs(t))
		require.Equal(t, []string{"c=3"}, polls[1].pairs(t))
		for _, p := range polls[2:] {
			require.False(t, p.answered())
		}
		require.Equal(t, 3, a.consumer().Waiting)
	})
}

// TestAMessageForACanceledPollIsNotLost cancels a poll at the moment when it is called. Either it gets the message or the
// next poll does.
func TestAMessageForACanceledPollIsNotLost(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		first, second := a.poll(`{"wait_for":60000}`), a.poll(`{"wait_for":60000}`)
		a.send("a=1")
		first.cancel()
		synctest.Wait()
		if answer := <-first.done; answer.body == "" {
			require.Equal(t, []string{"a=1"}, second.pairs(t))
			require.Equal(t, 1, a.consumer().Outstanding[0].DeliverCount)
		} else {
			require.Equal(t, []string{"a=1"}, parseDeliveries(t, answer.body).pairs())
			require.False(t, second.answered())
		}
	})
}

func TestACanceledPollMakesRoomForAnother(t *testing.T) {
	inBubble(t, "", `,"max_waiting":2`, func(t *testing.T, a *api) {
		first := a.poll(`{"wait_for":60000}`)
		a.poll(`{"wait_for":60000}`)
		refused := a.call("POST", "/api/streams/s/consumers/c/receive", `{"wait_for":60000}`)
		require.Equal(t, http.StatusTooManyRequests, refused.status)
		require.Contains(t, refused.body, "`max_waiting` is 2")
		require.Empty(t, a.receive(`{}`), "a receive that does not wait is not counted")
		first.cancel()
		synctest.Wait()
		third := a.poll(`{"wait_for":60000}`)
		require.False(t, third.answered())
	})
}

func TestARaisedMaxWaitingAppliesAtOnce(t *testing.T) {
	inBubble(t, "", `,"max_waiting":1`, func(t *testing.T, a *api) {
		a.poll(`{"wait_for":60000}`)
		require.Equal(t, http.StatusTooManyRequests, a.call("POST", "/api/streams/s/consumers/c/receive", `{"wait_for":500}`).status)
		a.ok("PATCH", "/api/streams/s/consumers/c", `{"max_waiting":2}`)
		require.Equal(t, http.StatusOK, a.call("POST", "/api/streams/s/consumers/c/receive", `{"wait_for":500}`).status)
	})
}

// TestNothingRunsAfterALongPoll relies on the bubble, which fails when a goroutine is left at its end.
func TestNothingRunsAfterALongPoll(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.send("a=1")
		a.receive(`{}`)
		p := a.poll(`{"wait_for":500}`) // sets a timer, because a lease is out
		<-p.done
	})
}

func TestManyPollsReceiveEachMessageOnce(t *testing.T) {
	inBubble(t, "", `,"max_waiting":50`, func(t *testing.T, a *api) {
		polls := make([]*poll, 50)
		for i := range polls {
			polls[i] = a.poll(`{"batch_size":3,"wait_for":60000}`)
		}
		pairs := []string{}
		for i := range 100 {
			pairs = append(pairs, fmt.Sprintf("k%d=x", i))
		}
		for i := 0; i < 100; i += 10 {
			a.send(pairs[i : i+10]...)
		}
		synctest.Wait()
		var got []string
		for _, p := range polls {
			if p.answered() {
				got = append(got, p.pairs(t)...)
			}
		}
		require.ElementsMatch(t, pairs, got)
	})
}
