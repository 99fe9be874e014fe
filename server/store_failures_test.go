package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/internal/store"
)

// storeRoutes lists each route with the methods of the store that it calls, by the names of failing_store_test.go.
var storeRoutes = []struct {
	method, path, body string
	calls              []string
}{
	{"GET", "/api/streams", "", []string{"Streams", "Stream.Info"}},
	{"POST", "/api/streams", `{"name":"new"}`, []string{"CreateStream"}},
	{"GET", "/api/streams/s", "", []string{"Stream", "Stream.Info"}},
	{"DELETE", "/api/streams/s", "", []string{"Stream", "Stream.Delete"}},
	{"POST", messagesRoute, sendBody("a=1"), []string{"Stream", "Stream.Send"}},
	{"POST", messagesRoute, `{"messages":[]}`, []string{"Stream", "Probe"}},
	{"GET", messagesRoute, "", []string{"Stream", "Stream.List"}},
	{"GET", messagesRoute + "/k", "", []string{"Stream", "Stream.Get"}},
	{"GET", messagesRoute + "/k/consumer_info", "", []string{"Stream", "Stream.States"}},
	{"GET", "/api/streams/s/consumers", "", []string{"Stream", "Stream.Consumers", "Consumer.Info"}},
	{"POST", "/api/streams/s/consumers", `{"name":"d","filter_key_pattern":">"}`, []string{"Stream", "Stream.CreateConsumer"}},
	{"GET", "/api/streams/s/consumers/c", "", []string{"Stream", "Stream.Consumer", "Consumer.Info"}},
	{"PUT", "/api/streams/s/consumers/c", `{}`, []string{"Stream", "Stream.Consumer", "Consumer.Info", "Consumer.Update"}},
	{"DELETE", "/api/streams/s/consumers/c", "", []string{"Stream", "Stream.Consumer", "Consumer.Delete"}},
	{"POST", receiveRoute, `{}`, []string{"Stream", "Stream.Consumer", "Consumer.Receive"}},
	{"POST", receiveRoute, `{"wait_for":"1s"}`, []string{"Stream", "Stream.Consumer", "Consumer.Queue", "Place.Receive"}},
	{"POST", "/api/streams/s/consumers/c/ack", `{"ack_ids":["7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"]}`, []string{"Stream", "Stream.Consumer", "Consumer.Settle"}},
	{"POST", "/api/streams/s/consumers/c/nack", `{"ack_ids":["7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"]}`, []string{"Stream", "Stream.Consumer", "Consumer.Settle"}},
	{"GET", "/api/streams/s/consumers/c/messages", "", []string{"Stream", "Stream.Consumer", "Consumer.Peek"}},
}

// storeFailures lists what a store may fail with, and what the answer says. A full disk is another answer to a send.
var storeFailures = []struct {
	err     error
	summary string
	unknown bool
}{
	{store.ErrFailed, "The store cannot serve requests: store has failed. Nothing was changed. Repeat the request later", false},
	{fmt.Errorf("%w: input/output error", store.ErrFailed), "store has failed: input/output error. Nothing was changed.", false},
	{&store.DamagedError{File: "00000001.seg", Offset: 4711, Position: 9}, "00000001.seg at offset 4711 (position 9). Nothing was changed. A repeat does not help until the store is repaired", false},
	{store.ErrReadOnly, "The store cannot be written: ", false},
	{store.CopyMark{State: store.CopySource}.Err(), "The stream is read-only: it is being copied to another store. Nothing was changed. Repeat the request later", false},
	{store.ErrClosed, "Server is closed", false},
	{context.DeadlineExceeded, "The request ended before the store answered it: ", false},
	{errors.Join(store.ErrUnknown, store.ErrFailed), "It may have taken place or not. Repeat the request only if it may be carried out twice", true},
	{errors.New("another error"), "The store failed: another error. A change may have taken place or not", true},
}

func TestEveryRouteSaysWhatTheStoreFailedWith(t *testing.T) {
	for _, route := range storeRoutes {
		for _, method := range route.calls {
			for _, tt := range storeFailures {
				t.Run(fmt.Sprint(route.method, " ", route.path, " ", method, " ", tt.err), func(t *testing.T) {
					s := newFailingStore()
					a := newAPI(t, server.Config{Store: s}).withStream("", "")
					a.send("k=1")
					s.fail(method, tt.err)
					got := a.call(route.method, route.path, route.body)
					require.Equal(t, 1, s.failed, "the method was called")
					require.Equal(t, 503, got.status, got.body)
					require.Contains(t, got.body, tt.summary)
					require.Equal(t, tt.unknown, strings.Contains(got.body, `"outcome":"unknown"`), got.body)
				})
			}
		}
	}
}

func TestAFullDiskRefusesSendsOnly(t *testing.T) {
	s := newFailingStore()
	a := newAPI(t, server.Config{Store: s}).withStream("", "")
	a.send("k=1")
	s.fail("Stream.Send", fmt.Errorf("%w: 3 MB of /data", store.ErrDiskFull))
	got := a.call("POST", messagesRoute, sendBody("a=1"))
	require.Equal(t, 409, got.status)
	require.Equal(t, `{"summary":"The disk of the server is full. Nothing was stored, receives and acks still work. Repeat the send when there is room again"}`, got.body)
	a.ack(a.receive(`{}`))

	s.fail("CreateStream", store.ErrDiskFull)
	got = a.call("POST", "/api/streams", `{"name":"new"}`)
	require.Equal(t, 503, got.status)
	require.Contains(t, got.body, "The disk of the server is full: ")
}

// TestACreationThatCannotBeShownIsInDoubt fails what is read after the change.
func TestACreationThatCannotBeShownIsInDoubt(t *testing.T) {
	for method, route := range map[string][2]string{
		"Stream.Info":   {"/api/streams", `{"name":"new"}`},
		"Consumer.Info": {"/api/streams/s/consumers", `{"name":"d","filter_key_pattern":">"}`},
	} {
		s := newFailingStore()
		a := newAPI(t, server.Config{Store: s}).withStream("", "")
		s.fail(method, store.ErrFailed)
		got := a.call("POST", route[0], route[1])
		require.Equal(t, 503, got.status)
		require.Contains(t, got.body, `"outcome":"unknown"`)
	}
}

func TestTooManyWaitingIsToldByAStoreThatFailsNext(t *testing.T) {
	s := newFailingStore()
	a := newAPI(t, server.Config{Store: s}).withStream("", "")
	s.fail("Consumer.Queue", store.ErrTooManyWaiting)
	s.fail("Consumer.Info", store.ErrFailed)
	require.Equal(t, 503, a.call("POST", receiveRoute, `{"wait_for":"1s"}`).status)
}

// TestAReceiveIsStoredWithoutItsClient holds that the leases of a client that is gone can be returned: the store is not
// told that the client is gone.
func TestAReceiveIsStoredWithoutItsClient(t *testing.T) {
	for _, params := range []string{`{}`, `{"wait_for":"1s"}`} {
		s := newFailingStore()
		a := newAPI(t, server.Config{Store: s}).withStream("", "")
		a.send("k=1")
		ctx, cancel := context.WithCancel(t.Context())
		s.before = func(ctx context.Context, method string) {
			if strings.HasSuffix(method, ".Receive") {
				cancel()
			}
			if strings.HasSuffix(method, ".Receive") || method == "Consumer.Settle" {
				require.NoError(t, ctx.Err(), method)
			}
		}
		a.callContext(ctx, "POST", receiveRoute, params)
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		s.before = nil
		again := a.receive(`{}`)
		require.Len(t, again, 1, "the message was returned")
		require.Equal(t, 1, again[0].DeliverCount)
	}
}

func TestFailuresOfTheStoreAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newFailingStore()
		a := newAPI(t, server.Config{Store: s, Logger: slog.New(slog.NewTextHandler(&out, nil))}).withStream("", "")
		for range 3 {
			for range 10 {
				s.fail("Stream.Get", &store.DamagedError{File: "00000001.seg", Offset: 4711})
				a.call("GET", messagesRoute+"/k", "")
			}
			time.Sleep(40 * time.Second)
		}
		require.Equal(t, 2, strings.Count(out.String(), "level=ERROR"), out.String())
		require.Contains(t, out.String(), "00000001.seg at offset 4711")
		require.Contains(t, out.String(), "path=/api/streams/s/messages/k")
	})
}

// TestAGivenStoreIsNotClosed holds that its owner may go on using it, and that the long polls end nevertheless.
func TestAGivenStoreIsNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		a := newAPI(t, server.Config{Store: s}).withStream("", "")
		answer := make(chan reply, 1)
		go func() { answer <- a.call("POST", receiveRoute, `{"wait_for":"5m"}`) }()
		synctest.Wait()
		start := time.Now()
		a.Close()
		got := <-answer
		require.Zero(t, time.Since(start))
		require.Equal(t, reply{200, got.header, `{"data":[]}`}, got)
		require.Equal(t, 503, a.call("GET", "/api/streams", "").status)
		require.NoError(t, s.Probe(t.Context()))
		next := newAPI(t, server.Config{Store: s})
		require.Contains(t, next.ok("GET", "/api/streams/s", ""), `"account_id":"`+s.ID()+`"`)
		require.NoError(t, s.Close())
		require.Equal(t, 503, next.call("POST", receiveRoute, `{}`).status)
	})
}

// TestAPlaceThatIsCalledAtTheEndAnswersAnEmptyList closes the server when the wait has just ended.
func TestAPlaceThatIsCalledAtTheEndAnswersAnEmptyList(t *testing.T) {
	s := newFailingStore()
	a := newAPI(t, server.Config{Store: s}).withStream("", "")
	a.send("k=1")
	s.before = func(_ context.Context, method string) {
		if method == "Place.Receive" {
			a.Close()
		}
	}
	s.fail("Place.Receive", store.ErrClosed)
	got := a.call("POST", receiveRoute, `{"wait_for":"1s"}`)
	require.Equal(t, reply{200, got.header, `{"data":[]}`}, got)
}

func TestAGivenStoreIsNotTheOneOf2024(t *testing.T) {
	require.PanicsWithValue(t, "server: Config.Store cannot be combined with Compat aug2024: leave Store nil, which keeps the streams in memory", func() {
		server.New(server.Config{Store: store.NewMemory(), Compat: server.Aug2024})
	})
}
