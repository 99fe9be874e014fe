package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestServeGivesEachTokenItsRights(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--token-file", clitest.File(t, "web send s3cret-1\nops admin,read s3cret-2\n"))
	require.Contains(t, p.usage, ": web (send), ops (read,admin)\n")
	require.NotContains(t, p.usage, "s3cret")
	as := func(token, method, path, body string) int {
		status, _ := p.do(method, path, body, "Authorization", "Bearer "+token)
		return status
	}
	require.Equal(t, http.StatusUnauthorized, as("s3cret-3", "GET", "/api/streams", ""))
	require.Equal(t, http.StatusForbidden, as("s3cret-1", "POST", "/api/streams", `{"name":"orders"}`))
	require.Equal(t, http.StatusOK, as("s3cret-2", "POST", "/api/streams", `{"name":"orders"}`))
	require.Equal(t, http.StatusOK, as("s3cret-1", "POST", "/api/streams/orders/messages", `{"messages":[{"key":"a","data":"1"}]}`))
	require.Equal(t, http.StatusForbidden, as("s3cret-1", "GET", "/api/streams/orders/messages", ""))
	require.Equal(t, http.StatusOK, as("s3cret-2", "GET", "/api/streams/orders/messages", ""))
}

// A Publisher reads its stream, and a Subscriber its stream and consumer. A token with the one right is enough for each.
func TestATokenThatMayOnlySendOrConsumeIsEnough(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--token-file", clitest.File(t, "web send s3cret-1\nworker consume s3cret-2\nops admin s3cret-3\n"))
	as := func(token string) *sequin.Client {
		client, err := sequin.NewClient(sequin.Config{BaseURL: p.url, Token: token})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		return client
	}
	ctx := t.Context()
	_, err := as("s3cret-3").CreateStream(ctx, "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = as("s3cret-3").CreateConsumer(ctx, "orders", "billing", ">", sequin.ConsumerOptions{})
	require.NoError(t, err)
	web := as("s3cret-1")
	_, err = web.GetStream(ctx, "orders")
	require.NoError(t, err)
	pub, err := web.NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(t, err)
	require.NoError(t, pub.SendSync(ctx, sequin.Message{Key: "a", Data: "1", Headers: map[string]string{"trace": "1"}}))
	require.NoError(t, pub.Close(ctx))
	sub, err := as("s3cret-2").Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	require.NoError(t, err)
	d := <-sub.Deliveries()
	require.Equal(t, "1", d.Data)
	require.NoError(t, d.AckSync(ctx))
	require.NoError(t, sub.Close(ctx))
}

// The doctor tests whether the server takes the token, not what the token may do.
func TestTheDoctorTakesATokenOfAnyRights(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--token-file", clitest.File(t, "web send s3cret-1\nworker consume s3cret-2\nops read s3cret-3\n"))
	for token, want := range map[string]struct{ shown, json string }{
		"s3cret-1": {"not listed for this token", "null"},
		"s3cret-2": {"not listed for this token", "null"},
		"s3cret-3": {"0", "0"},
	} {
		asked := []string{"doctor", "--url", p.url, "--token-file", clitest.File(t, token)}
		code, out, errors := runNow(clitest.Environment(), asked...)
		require.Equal(t, cli.ExitOK, code, errors)
		require.Contains(t, out, "accepted, from ")
		require.Regexp(t, `(?m)^streams +`+want.shown+"$", out)
		code, out, errors = runNow(clitest.Environment(), append(asked, "--json")...)
		require.Equal(t, cli.ExitOK, code, errors)
		require.Contains(t, out, `"streams":`+want.json)
	}
	code, _, errors := runNow(clitest.Environment(), "doctor", "--url", p.url, "--token-file", clitest.File(t, "s3cret-4"))
	require.NotEqual(t, cli.ExitOK, code)
	require.Contains(t, errors, "401 Unauthorized")
}
