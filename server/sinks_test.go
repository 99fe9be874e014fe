package server_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

type order struct {
	ID  int    `json:"id"`
	Who string `json:"who"`
}

func newSink(t *testing.T, o server.SinkOptions) (*api, *server.Sink) {
	a := newAPI(t, server.Config{})
	return a, a.Sink("orders", o)
}

// receiveSink returns the messages of an answer and their records.
func (a *api) receiveSink(params string) (got []sinkMessage, rows []string) {
	a.t.Helper()
	var x sinkExchange
	x.Response.Body = a.ok("POST", "/api/sequin_streams/orders/receive", params)
	for _, m := range x.messages() {
		who, _ := m.Data.Record["who"].(string)
		got, rows = append(got, m), append(rows, m.Data.Action+" "+who)
	}
	return got, rows
}

func (a *api) settleSink(operation string, messages ...sinkMessage) {
	a.t.Helper()
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.AckID)
	}
	body, err := json.Marshal(map[string]any{"ack_ids": ids})
	require.NoError(a.t, err)
	a.ok("POST", "/api/sequin_streams/orders/"+operation, string(body))
}

func TestARowOfASinkHasOneChangeOutstandingInTheOrderOfCommits(t *testing.T) {
	a, k := newSink(t, server.SinkOptions{})
	require.NoError(t, k.Insert(order{1, "ann"}))
	require.NoError(t, k.Update(nil, order{1, "anna"}))
	require.NoError(t, k.Read(order{2, "bob"}))
	require.NoError(t, k.Delete(order{1, "anna"}))
	first, rows := a.receiveSink(`{"batch_size":10}`)
	require.Equal(t, []string{"insert ann", "read bob"}, rows)
	require.Equal(t, server.SinkState{Blocked: 2, Outstanding: 2}, k.State())
	a.settleSink("nack", first...)
	again, rows := a.receiveSink(`{"batch_size":10}`)
	require.Equal(t, []string{"insert ann", "read bob"}, rows)
	require.Equal(t, first, again, "a redelivery keeps its ack id")
	a.settleSink("ack", again...)
	next, rows := a.receiveSink(`{"batch_size":10}`)
	require.Equal(t, []string{"update anna"}, rows)
	a.settleSink("ack", next...)
	_, rows = a.receiveSink(`{"batch_size":10}`)
	require.Equal(t, []string{"delete "}, rows, "without REPLICA IDENTITY FULL nothing but the key is known")
}

func TestASinkWaitsOnlyWhileNothingIsOutstanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, k := newSink(t, server.SinkOptions{})
		began := time.Now()
		time.AfterFunc(time.Second, func() { _ = k.Insert(order{1, "ann"}) })
		_, rows := a.receiveSink(`{"wait_for":5000}`)
		require.Equal(t, []string{"insert ann"}, rows)
		require.Equal(t, time.Second, time.Since(began))
		_, rows = a.receiveSink(`{"wait_for":5000}`)
		require.Empty(t, rows)
		require.Equal(t, time.Second, time.Since(began), "it answers at once")
		time.Sleep(30 * time.Second)
		require.Equal(t, server.SinkState{Available: 1}, k.State(), "the lease has ended")
	})
}

func TestARestartRenewsAckIDsAndDeliversAgainWhatWasAckedSecondsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, k := newSink(t, server.SinkOptions{StartUp: time.Second})
		for i, who := range []string{"long ago", "outstanding", "just now"} {
			require.NoError(t, k.Insert(order{i, who}))
		}
		got, _ := a.receiveSink(`{"batch_size":3}`)
		a.settleSink("ack", got[0])
		time.Sleep(11 * time.Second)
		a.settleSink("ack", got[2])
		a.RestartSinks()
		reply := a.call("POST", "/api/sequin_streams/orders/receive", "{}")
		require.Equal(t, 500, reply.status)
		require.Contains(t, reply.body, "SlotMessageStore")
		time.Sleep(time.Second)
		a.settleSink("ack", got[1])
		again, rows := a.receiveSink(`{"batch_size":3}`)
		require.Equal(t, []string{"insert outstanding", "insert just now"}, rows, "an old ack id acks nothing")
		require.NotEqual(t, got[1].AckID, again[0].AckID)
	})
}

func TestUpdatesTellTheOldValuesWithReplicaIdentityFull(t *testing.T) {
	a, k := newSink(t, server.SinkOptions{PrimaryKey: []string{"id", "who"}})
	k.SetReplicaIdentityFull(true)
	require.ErrorContains(t, k.Update(nil, order{1, "x"}), "needs the row before")
	require.NoError(t, k.Update(order{7, "ann"}, order{1, "ann"}))
	got, _ := a.receiveSink("{}")
	require.Equal(t, map[string]any{"id": 7.0}, got[0].Data.Changes)
	require.Contains(t, a.ok("GET", "/api/sinks/"+k.ID(), ""), `"include_tables":["public.orders"]`)
}

func TestASinkRefusesWhatIsNotARow(t *testing.T) {
	_, k := newSink(t, server.SinkOptions{})
	require.ErrorContains(t, k.Insert("text"), "must be an object")
	require.ErrorContains(t, k.Insert(map[string]int{"no": 1}), `has no "id"`)
	require.ErrorContains(t, k.Commit(server.SinkChange{Action: "upsert", Record: order{1, ""}}), "action must be")
	require.Error(t, k.Insert(func() {}))
	require.Zero(t, k.State())
}

func TestSinksAndStreamsAnswerWhereTheyAreServed(t *testing.T) {
	without := newAPI(t, server.Config{})
	require.Equal(t, 404, without.call("POST", "/api/sequin_streams/orders/receive", "{}").status)
	require.Contains(t, without.call("POST", "/api/sequin_streams/orders/receive", "{}", "Accept", "application/json").body, "Not Found")
	both, _ := newSink(t, server.SinkOptions{})
	both.ok("POST", "/api/streams", `{"name":"s"}`)
	only := newAPI(t, server.Config{SinksOnly: true})
	reply := only.call("GET", "/api/streams/s", "", "Accept", "application/json")
	require.Equal(t, 404, reply.status)
	require.Equal(t, `{"errors":{"detail":"Not Found"}}`, reply.body)
	require.Empty(t, reply.header.Get("Sequin-Extensions"))
	require.Contains(t, only.call("POST", "/api/sequin_streams/nope/receive", "{}").body, "No `consumer` found")
}

func TestSinkRefusesValuesAsTheRealServerDoes(t *testing.T) {
	a, _ := newSink(t, server.SinkOptions{})
	for _, row := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"receive", `{"batch_size":null}`, 500, "Internal Server Error"},
		{"receive", `{"batch_size":{}}`, 500, "Internal Server Error"},
		{"receive", `{"batch_size":1001}`, 400, "Invalid `max_batch_size`"},
		{"receive", `{"batch_size":1000.5}`, 400, "Invalid `max_batch_size`"},
		{"receive", `{"wait_for":-1}`, 400, "Must be between"},
		{"receive", `{"wait_for":1e99}`, 400, "Must be between"},
		{"receive", `{"wait_for":"99999999999999999999m"}`, 400, "Must be between"},
		{"receive", `{"wait_for":"1h"}`, 400, "format must be"},
		{"receive", `{"wait_for":null}`, 200, `{"data":[]}`},
		{"receive", `{`, 400, "Bad Request"},
		{"ack", `{"ack_ids":["{00000000-0000-4000-8000-000000000000}"]}`, 400, "Invalid ack_ids"},
		{"nack", `{"ack_ids":null}`, 400, "Invalid ack_ids"},
	} {
		reply := a.call("POST", "/api/sequin_streams/orders/"+row.path, row.body)
		require.Equal(t, row.status, reply.status, row.body)
		require.Contains(t, reply.body, row.says, row.body)
	}
	require.Equal(t, 422, a.call("PATCH", "/api/sinks/orders", `{"status":"paused"}`).status)
	require.Equal(t, 422, a.call("PATCH", "/api/sinks/orders", `{"filter":"x"}`).status)
	require.Panics(t, func() { a.Sink("orders", server.SinkOptions{}) })
	require.Panics(t, func() { newAPI(t, server.Config{Compat: server.Aug2024}).Sink("orders", server.SinkOptions{}) })
}
