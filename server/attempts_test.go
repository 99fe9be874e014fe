package server_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestADeliveryTellsHowManyLeasesHaveExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream("", `,"ack_wait_ms":10000`)
		a.send("a=1")
		body := func() string {
			got := a.call("POST", receiveRoute, `{}`)
			require.Equal(t, http.StatusOK, got.status)
			return got.body
		}
		require.NotContains(t, body(), "expired_count", "it is 0")
		time.Sleep(10 * time.Second)
		second := body()
		require.Contains(t, second, `"deliver_count":2,"message"`)
		require.Contains(t, second, `},"expired_count":1}]`)
		a.ok("POST", extendRoute, parseDeliveries(t, second).ids(`,"ack_wait_ms":10000`))
		time.Sleep(10 * time.Second)
		third := body()
		require.Contains(t, third, `"deliver_count":3,"message"`)
		require.Contains(t, third, `},"expired_count":1}]`, "a program had seen it")
	})
}

func TestWithoutAttemptsNothingIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{WithoutExtensions: []string{"attempts"}}).withStream("", `,"ack_wait_ms":10000`)
		a.send("a=1")
		for range 2 {
			got := a.call("POST", receiveRoute, `{}`)
			require.NotContains(t, got.body, "_count")
			a.ok("POST", nackRoute, parseDeliveries(t, got.body).ids(`,"undelivered":true`))
		}
		require.Contains(t, a.ok("GET", "/api/streams/s/consumers/c/messages", ""), `"deliver_count":2`, "the member is not read")
	})
}
