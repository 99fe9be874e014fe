package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const endReceiveRoute = "/api/streams/s/consumers/c/end_receive"

// pollAs starts a long poll of a minute with an X-Request-Id, and returns when it waits or is answered.
func (a *api) pollAs(id string) (done chan reply) {
	done = make(chan reply, 1)
	go func() { done <- a.call("POST", receiveRoute, `{"batch_size":10,"wait_for":60000}`, "X-Request-Id", id) }()
	synctest.Wait()
	return done
}

// ended asks to end the receive with an X-Request-Id.
func (a *api) ended(consumer, id string) string {
	a.t.Helper()
	return a.ok("POST", "/api/streams/s/consumers/"+consumer+"/end_receive", fmt.Sprintf(`{"request_id":%q}`, id))
}

const (
	ended    = `{"data":{"ended":true}}`
	notEnded = `{"data":{"ended":false}}`
)

// requestID returns a valid X-Request-Id.
func requestID(n int) string { return fmt.Sprintf("request-of-the-test-%d", n) }

func TestAReceiveThatWaitsCanBeEnded(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		a.ok("POST", consumersRoute, `{"name":"other","filter_key_pattern":">"}`)
		one, two, again := a.pollAs(requestID(1)), a.pollAs(requestID(2)), a.pollAs(requestID(1))
		require.JSONEq(t, notEnded, a.ended("c", requestID(3)), "nobody has this id")
		require.JSONEq(t, notEnded, a.ended("other", requestID(1)), "it is of another consumer")
		require.Equal(t, 3, a.consumer().Waiting)

		begin := time.Now()
		require.JSONEq(t, ended, a.ended("c", requestID(1)))
		for _, poll := range []chan reply{one, again} {
			got := <-poll
			require.Equal(t, http.StatusOK, got.status)
			require.JSONEq(t, `{"data":[]}`, got.body)
		}
		require.Zero(t, time.Since(begin))
		synctest.Wait()
		require.JSONEq(t, notEnded, a.ended("c", requestID(1)), "it is answered")
		require.Equal(t, 1, a.consumer().Waiting)

		a.send("a=1")
		require.Equal(t, []string{"a=1"}, parseDeliveries(t, (<-two).body).pairs(), "the others wait on")
	})
}

// TestAReceiveThatArrivesAfterItsEndDoesNotWait because the two may take different connections.
func TestAReceiveThatArrivesAfterItsEndDoesNotWait(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		require.JSONEq(t, notEnded, a.ended("c", requestID(1)))
		begin := time.Now()
		require.JSONEq(t, `{"data":[]}`, (<-a.pollAs(requestID(1))).body)
		require.Zero(t, time.Since(begin))
		<-a.pollAs(requestID(1))
		require.Equal(t, time.Minute, time.Since(begin), "one receive was asked to end")

		require.JSONEq(t, notEnded, a.ended("c", requestID(2)))
		time.Sleep(2 * time.Second)
		begin = time.Now()
		<-a.pollAs(requestID(2))
		require.Equal(t, time.Minute, time.Since(begin), "a request that nobody would wait for any more is forgotten")
	})
}

// blockedWriter keeps an answer until it is released.
type blockedWriter struct {
	*httptest.ResponseRecorder
	release chan struct{}
}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w.release
	return w.ResponseRecorder.Write(b)
}

// TestAReceiveThatIsBeingAnsweredIsToldToEnd so that the client waits for its messages.
func TestAReceiveThatIsBeingAnsweredIsToldToEnd(t *testing.T) {
	inBubble(t, "", "", func(t *testing.T, a *api) {
		r := httptest.NewRequest("POST", receiveRoute, strings.NewReader(`{"wait_for":60000}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Request-Id", requestID(1))
		w := blockedWriter{httptest.NewRecorder(), make(chan struct{})}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			a.ServeHTTP(w, r)
		}()
		a.send("a=1")
		synctest.Wait()
		require.Len(t, a.consumer().Outstanding, 1)
		for range 2 {
			require.JSONEq(t, ended, a.ended("c", requestID(1)))
		}
		close(w.release)
		<-answered
		require.Equal(t, []string{"a=1"}, parseDeliveries(t, w.Body.String()).pairs())
		require.JSONEq(t, notEnded, a.ended("c", requestID(1)))
	})
}

func TestTheEndOfAReceiveIsRefusedWithBadInput(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, body := range []string{"", `{}`, `[]`, `null`, `{"request_id":1}`, `{"request_id":null}`, `{"request_id":"short"}`,
		`{"request_id":"` + strings.Repeat("x", 201) + `"}`} {
		got := a.call("POST", endReceiveRoute, body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.body, "Invalid `request_id`. Must be the `X-Request-Id` of a receive: a string of 20 to 200 bytes", body)
	}
	for _, body := range []string{`{`, `{"request_id":"` + requestID(1) + `"} x`} {
		require.Equal(t, http.StatusBadRequest, a.call("POST", endReceiveRoute, body).status, body)
	}
	require.Equal(t, http.StatusNotFound, a.call("POST", "/api/streams/s/consumers/nope/end_receive", fmt.Sprintf(`{"request_id":%q}`, requestID(1))).status)
	require.Equal(t, http.StatusNotFound, a.call("GET", endReceiveRoute, "").status)
}

func TestWithoutEndReceiveThereIsNoSuchRoute(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"switched off": {WithoutExtensions: []string{"end-receive"}}, "2024": {Compat: server.Aug2024},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, cfg).withStream("", "")
			answer, unknown := a.call("POST", endReceiveRoute, fmt.Sprintf(`{"request_id":%q}`, requestID(1))), a.call("POST", endReceiveRoute+"s", `{}`)
			require.Equal(t, http.StatusNotFound, answer.status)
			require.Equal(t, unknown.body, answer.body)
		})
	}
}
