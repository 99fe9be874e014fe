package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// announces reports whether the server has an extension. A server without one behaves as if nobody had asked for it.
func (s *session) announces(extension string) bool {
	s.Helper()
	header := s.call("GET", s.path(), "").header.Get("Sequin-Extensions")
	return slices.Contains(strings.Split(header, ", "), extension)
}

// with returns the ids with another member of the body.
func (d deliveries) with(member string) string {
	return strings.TrimSuffix(d.ids(), "}") + "," + member + "}"
}

var extensionCases = []sessionCase{
	{"a nack with delay_ms keeps the message back, or has no delay without nack-delay", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		got := s.receiveAll(c, 1)
		nack := s.path("consumers", c, "nack")
		if !s.announces("nack-delay") {
			s.object("POST", nack, got.with(`"delay_ms":60000`))
			got = s.receiveAll(c, 1)
			require.Equal(s, []string{"a=1"}, got.pairs())
			s.object("POST", nack, got.with(`"delay_ms":"x"`))
			return
		}
		for _, invalid := range []string{"-1", "604800001", "1.5", `"1"`, "null"} {
			s.refused(http.StatusBadRequest, "Invalid `delay_ms`", "POST", nack, got.with(`"delay_ms":`+invalid))
		}
		s.object("POST", nack, got.with(`"delay_ms":1000`))
		require.Empty(s, s.receive(c, 10))
		time.Sleep(1300 * time.Millisecond)
		require.Equal(s, []string{"a=1"}, s.receiveAll(c, 1).pairs())
	}},
	{"an extended lease ends later, or there is no such route without extend", func(s *session) {
		c := s.consumer(">", ackWait)
		s.send("a=1", "b=2")
		got := s.receiveAll(c, 2)
		path, body := s.path("consumers", c, "extend"), got[:1].with(`"ack_wait_ms":10000`)
		if !s.announces("extend") {
			require.Equal(s, http.StatusNotFound, s.call("POST", path, body).status)
			waitForLeaseEnd()
			require.ElementsMatch(s, got.pairs(), s.receiveAll(c, 2).pairs())
			return
		}
		s.refused(http.StatusBadRequest, "Invalid `ack_wait_ms`", "POST", path, got.ids())
		s.refused(http.StatusBadRequest, "Invalid `ack_wait_ms`", "POST", path, got.with(`"ack_wait_ms":0`))
		s.refused(http.StatusBadRequest, "Invalid ack_ids", "POST", path, `{"ack_wait_ms":10000}`)
		extended := func(a map[string]any) any { return a["data"].(map[string]any)["extended"] }
		require.Equal(s, []any{got[0].AckID}, extended(s.object("POST", path, body)))
		waitForLeaseEnd()
		require.Equal(s, got[1:].pairs(), s.receiveAll(c, 1).pairs(), "the other lease has ended")
		require.Empty(s, s.receive(c, 10))
		require.Equal(s, []any{}, extended(s.object("POST", path, got[1:].with(`"ack_wait_ms":10000`))), "nothing has this lease")
		s.settle("ack", c, got[:1])
	}},
	{"a receive that waits can be ended, or there is no such route without end-receive", func(s *session) {
		c := s.consumer(">", "")
		path, id := s.path("consumers", c, "end_receive"), uuid.NewString()
		if !s.announces("end-receive") {
			require.Equal(s, http.StatusNotFound, s.call("POST", path, `{"request_id":"`+id+`"}`).status)
			return
		}
		s.refused(http.StatusBadRequest, "Invalid `request_id`", "POST", path, `{}`)
		end := func(id string) any {
			return s.object("POST", path, `{"request_id":"`+id+`"}`)["data"].(map[string]any)["ended"]
		}
		require.Equal(s, false, end(uuid.NewString()), "no such receive waits")
		done := make(chan answer, 1)
		go func() {
			got, _ := s.try("POST", s.path("consumers", c, "receive"), `{"wait_for":60000}`, "X-Request-Id", id)
			done <- got
		}()
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			require.Less(s, time.Since(began), 10*time.Second)
			if end(id) == true || len(done) > 0 { // a receive that arrives after the request does not wait
				break
			}
			s.Client.CloseIdleConnections() // another connection may lead to another server on the same store
		}
		require.JSONEq(s, `{"data":[]}`, (<-done).body)
	}},
	{"after_seq and before_seq bound a list and a peek, or are ignored without paging", func(s *session) {
		c := s.consumer(">", "")
		var seqs []int64
		for _, pair := range []string{"a=1", "b=2", "c=3"} {
			s.send(pair)
			seqs = append(seqs, int64(s.object("GET", s.path("messages", pair[:1]), "")["seq"].(float64)))
		}
		s.receiveAll(c, 3) // so that the consumer of a 2024 server has them
		messages, peek := s.path("messages"), s.path("consumers", c, "messages")
		all := []string{"a", "b", "c"}
		for query, want := range map[string][]string{
			fmt.Sprint("?after_seq=", seqs[0]): {"b", "c"}, fmt.Sprint("?before_seq=", seqs[1]): {"a"},
			fmt.Sprint("?sort=seq_asc&after_seq=", seqs[0], "&before_seq=", seqs[2]): {"b"}, fmt.Sprint("?after_seq=", seqs[2]): {},
		} {
			if !s.announces("paging") {
				want = all
			}
			require.ElementsMatch(s, want, s.keys(messages+query), query)
			require.ElementsMatch(s, want, s.keys(peek+strings.Replace(query, "sort=seq_asc&", "", 1)), query)
		}
		for _, path := range []string{messages, peek} {
			if s.announces("paging") {
				s.refused(http.StatusBadRequest, "Invalid `after_seq`", "GET", path+"?after_seq=-1", "")
			} else {
				require.ElementsMatch(s, all, s.keys(path+"?after_seq=-1"))
			}
		}
	}},
	{"a purge removes messages, or there is no such route without purge", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2", "c=3")
		purge := s.path("purge")
		if !s.announces("purge") {
			require.Equal(s, http.StatusNotFound, s.call("POST", purge, `{"all":true}`).status)
			require.ElementsMatch(s, []string{"a", "b", "c"}, s.keys(s.path("messages")))
			return
		}
		for _, refused := range []string{"", `{}`, `{"all":true,"before_seq":2}`, `{"before_seq":0}`, `{"before":2}`, `{"all":true,"all":true}`} {
			require.Equal(s, http.StatusBadRequest, s.call("POST", purge, refused).status, refused)
		}
		purged := func(body string) any { return s.object("POST", purge, body)["data"].(map[string]any)["purged"] }
		require.EqualValues(s, 1, purged(`{"key_pattern":"b"}`))
		require.Equal(s, []string{"a=1", "c=3"}, s.receiveAll(c, 2).pairs())
		require.EqualValues(s, 2, purged(`{"all":true}`))
		require.Empty(s, s.keys(s.path("messages")))
	}},
	{"start_from leaves out earlier messages, or is ignored without start", func(s *session) {
		s.send("a=1", "b=2")
		for i, from := range []string{`"beginning"`, `"end"`, `2`, `"2999-01-01T00:00:00Z"`} {
			c := s.consumer(">", `,"start_from":`+from)
			k := s.object("GET", s.path("consumers", c), "")
			want := []float64{1, 3, 2, 3}[i]
			if !s.announces("start") {
				require.NotContains(s, k, "start_seq")
				want = 1
			} else {
				require.Equal(s, want, k["start_seq"], from)
			}
			require.Len(s, s.receiveAll(c, int(3-want)), int(3-want), from)
		}
	}},
	{"headers are delivered as sent, or ignored without headers", func(s *session) {
		c := s.consumer(">", "")
		s.object("POST", s.path("messages"), `{"messages":[{"key":"a","data":"1","headers":{"b":"2","a":"\u00e9"}}]}`)
		m := s.object("GET", s.path("messages", "a"), "")
		d := s.object("POST", s.path("consumers", c, "receive"), `{}`)["data"].([]any)[0].(map[string]any)["message"].(map[string]any)
		if !s.announces("headers") {
			require.NotContains(s, m, "headers")
			require.NotContains(s, d, "headers")
			return
		}
		require.Equal(s, map[string]any{"a": "é", "b": "2"}, m["headers"])
		require.Equal(s, m["headers"], d["headers"])
		for _, invalid := range []string{`[]`, `{"a":1}`, `{"":""}`, `{"a b":""}`, `{"a":"1","a":"2"}`} {
			s.refused(http.StatusBadRequest, "Invalid message headers", "POST", s.path("messages"), `{"messages":[{"key":"b","data":"1","headers":`+invalid+`}]}`)
		}
		s.refused(http.StatusNotFound, "", "GET", s.path("messages", "b"), "")
	}},
}

// keys returns the keys of a list of messages, or of a peek.
func (s *session) keys(path string) []string {
	s.Helper()
	keys := []string{}
	for _, row := range s.object("GET", path, "")["data"].([]any) {
		m := row.(map[string]any)
		if inner, ok := m["message"].(map[string]any); ok {
			m = inner
		}
		keys = append(keys, m["key"].(string))
	}
	return keys
}
