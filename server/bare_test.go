package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestABareReceiveLeavesOutTheStreamAndTheHash(t *testing.T) {
	all := []string{"key", "stream_id", "data_hash", "data", "seq", "inserted_at", "updated_at"}
	without := []string{"key", "data", "seq", "inserted_at", "updated_at"}
	for _, row := range []struct {
		cfg    server.Config
		params string
		want   []string
	}{
		{server.Config{}, `{}`, all},
		{server.Config{}, `{"bare":false}`, all},
		{server.Config{}, `{"bare":"false"}`, all},
		{server.Config{}, `{"bare":true}`, without},
		{server.Config{}, `{"bare":"true","wait_for":1000}`, without},
		{server.Config{WithoutExtensions: []string{"bare"}}, `{"bare":true}`, all},
		{server.Config{WithoutExtensions: []string{"bare"}}, `{"bare":7}`, all},
		{server.Config{Compat: server.Aug2024}, `{"bare":true}`, all},
	} {
		a := newAPI(t, row.cfg).withStream("", "")
		a.send("a=1")
		var got struct {
			Data []struct{ Message map[string]any }
		}
		require.NoError(t, json.Unmarshal([]byte(a.ok("POST", receiveRoute, row.params)), &got))
		require.Len(t, got.Data, 1)
		members := []string{}
		for name := range got.Data[0].Message {
			members = append(members, name)
		}
		require.ElementsMatch(t, row.want, members, row.params)
		require.Equal(t, []any{"a", "1"}, []any{got.Data[0].Message["key"], got.Data[0].Message["data"]})
	}
}

func TestABareThatIsNoBooleanIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1")
	for _, bad := range []string{`7`, `"yes"`, `null`, `{}`} {
		got := a.call("POST", receiveRoute, `{"bare":`+bad+`}`)
		require.Equal(t, http.StatusBadRequest, got.status, bad)
		require.Contains(t, got.body, "Invalid `bare`. Must be true or false")
	}
	require.Equal(t, 1, a.receive(`{}`)[0].DeliverCount, "nothing was leased")
}

func TestABareReceiveSaysTheSizeOfLargeDataInWhichNothingIsEscaped(t *testing.T) {
	plain := strings.Repeat("é0123456789", 30)
	for _, row := range []struct {
		data, params string
		want         any
	}{
		{plain, `{"bare":true}`, float64(len(plain))}, {plain, `{}`, nil}, {"short", `{"bare":true}`, nil},
		{plain + `\n`, `{"bare":true}`, nil}, {`\u0041` + plain, `{"bare":true}`, nil},
	} {
		a := newAPI(t, server.Config{}).withStream("", "")
		a.ok("POST", "/api/streams/s/messages", `{"messages":[{"key":"k","data":"`+row.data+`"}]}`)
		var got struct {
			Data []struct{ Message map[string]any }
		}
		require.NoError(t, json.Unmarshal([]byte(a.ok("POST", receiveRoute, row.params)), &got))
		require.Equal(t, row.want, got.Data[0].Message["size"], row.params)
		var want string
		require.NoError(t, json.Unmarshal([]byte(`"`+row.data+`"`), &want))
		require.Equal(t, want, got.Data[0].Message["data"])
	}
}
