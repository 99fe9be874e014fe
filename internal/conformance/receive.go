package conformance

import (
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

var receiveCases = []sessionCase{
	{"a new consumer begins with the first message, and gets those that its pattern matches", func(s *session) {
		s.send("a=0", "a.1=1", "a.1.x=2", "b.1=3", "b.1.x=4")
		for pattern, want := range map[string][]string{
			">": {"a=0", "a.1=1", "a.1.x=2", "b.1=3", "b.1.x=4"}, "a.>": {"a.1=1", "a.1.x=2"}, "*.1": {"a.1=1", "b.1=3"},
			"*.1.*": {"a.1.x=2", "b.1.x=4"}, "a": {"a=0"}, "*": {"a=0"}, "b.*.>": {"b.1.x=4"}, "c.>": {},
		} {
			c := s.consumer(pattern, "")
			require.ElementsMatch(s, want, s.receiveAll(c, len(want)).pairs(), pattern)
			require.Empty(s, s.receive(c, 10), pattern)
		}
	}},
	{"a receive returns one message, or up to batch_size", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2", "c=3", "d=4", "e=5")
		path := s.path("consumers", c, "receive")
		require.Len(s, s.parse(s.call("POST", path, "")), 1)
		require.Len(s, s.parse(s.call("POST", path, `{"batch_size":2}`)), 2)
		require.Len(s, s.parse(s.call("GET", path+"?batch_size=1000", "")), 2)
		require.Empty(s, s.receive(c, 10))
		for _, n := range []string{"0", "1001", `"abc"`} {
			s.refused(http.StatusBadRequest, "Invalid `batch_size`", "POST", path, `{"batch_size":`+n+`}`)
		}
	}},
	{"an acked message is not delivered again", func(s *session) {
		c := s.consumer(">", ackWait)
		s.send("a=1", "b=2")
		got := s.receiveAll(c, 2)
		s.settle("ack", c, got[:1])
		waitForLeaseEnd()
		require.Equal(s, got[1:].pairs(), s.receiveAll(c, 1).pairs())
		require.Empty(s, s.receive(c, 10))
		s.settle("ack", c, got[:1]) // a second ack succeeds too
	}},
	{"a nacked message is delivered again at once", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2")
		got := s.receiveAll(c, 2)
		s.settle("nack", c, got[:1])
		require.Equal(s, got[:1].pairs(), s.receiveAll(c, 1).pairs())
		require.Empty(s, s.receive(c, 10))
	}},
	{"a message whose lease ends is delivered again", func(s *session) {
		c := s.consumer(">", ackWait)
		s.send("a=1")
		require.Len(s, s.receiveAll(c, 1), 1)
		require.Empty(s, s.receive(c, 10))
		waitForLeaseEnd()
		require.Len(s, s.receiveAll(c, 1), 1)
	}},
	{"a settle with unknown ids succeeds, and one with an invalid id is refused as a whole", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		got := s.receiveAll(c, 1)
		for _, verb := range []string{"ack", "nack"} {
			path := s.path("consumers", c, verb)
			require.Equal(s, map[string]any{"success": true}, s.object("POST", path, `{"ack_ids":["`+someID+`"]}`))
			for _, body := range []string{`{}`, `{"ack_ids":[]}`, `{"ack_ids":"x"}`, `{"ack_ids":[5]}`, `{"ack_ids":["` + got[0].AckID + `","abc"]}`} {
				s.refused(http.StatusBadRequest, "Invalid ack_ids", "POST", path, body)
			}
		}
		require.Empty(s, s.receive(c, 1), "a valid id next to an invalid one is not nacked")
	}},
	{"no more than max_ack_pending messages are delivered and not acked", func(s *session) {
		c := s.consumer(">", `,"max_ack_pending":2`)
		s.send("a=1", "b=2", "c=3")
		require.Len(s, s.receiveAll(c, 2), 2)
		require.Empty(s, s.receive(c, 10))
	}},
	{"consumers are independent", func(s *session) {
		one, other := s.consumer(">", ""), s.consumer(">", "")
		s.send("a=1")
		s.settle("ack", one, s.receiveAll(one, 1))
		require.Len(s, s.receiveAll(other, 1), 1)
	}},
	{"a new version of a delivered message is delivered only after its ack", func(s *session) {
		c := s.onePerKey().consumer(">", "")
		s.send("a=1")
		old := s.receiveAll(c, 1)
		s.send("a=2")
		require.Empty(s, s.receive(c, 1))
		s.settle("ack", c, old)
		require.Equal(s, []string{"a=2"}, s.receiveAll(c, 1).pairs())
	}},
	{"peek lists messages that are delivered and that are not", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2", "c=3")
		delivered := s.receiveAll(c, 1)
		peek := func(query string) (keys []string) {
			for _, m := range s.object("GET", s.path("consumers", c, "messages")+query, "")["data"].([]any) {
				keys = append(keys, m.(map[string]any)["message"].(map[string]any)["key"].(string))
			}
			return keys
		}
		require.ElementsMatch(s, []string{"a", "b", "c"}, peek(""))
		require.Equal(s, []string{delivered[0].Message.Key}, peek("?visible=false"))
		require.Len(s, peek("?visible=true"), 2)
		require.Len(s, peek("?limit=1"), 1)
		s.refused(http.StatusBadRequest, "Invalid visible parameter", "GET", s.path("consumers", c, "messages")+"?visible=x", "")
	}},
	{"wait_for makes a long poll, or is refused by the 2024 server", func(s *session) {
		c := s.consumer(">", "")
		path, body := s.path("consumers", c, "receive"), `{"batch_size":1,"wait_for":1000}`
		if s.Mode == server.Aug2024 {
			s.refused(http.StatusBadRequest, "doesn't support the `wait_for` param", "POST", path, body)
			return
		}
		began := time.Now()
		require.Empty(s, s.parse(s.call("POST", path, body)))
		require.GreaterOrEqual(s, time.Since(began), time.Second)
		s.send("a=1")
		require.Len(s, s.parse(s.call("POST", path, body)), 1)
	}},
	{"an ack id identifies a delivery, or on the 2024 server a message of a consumer", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		first := s.receiveAll(c, 1)
		s.settle("nack", c, first)
		second := s.receiveAll(c, 1)
		require.Equal(s, s.Mode == server.Aug2024, first[0].AckID == second[0].AckID)
	}},
	{"an ack after a nack has no effect", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		got := s.receiveAll(c, 1)
		s.settle("nack", c, got)
		s.settle("ack", c, got)
		require.Equal(s, got.pairs(), s.receiveAll(c, 1).pairs())
	}},
	{"a batch with a key twice is accepted, or answered with a 500 by the 2024 server", func(s *session) {
		a := s.call("POST", s.path("messages"), sendBody("a=1", "a=2"))
		want := http.StatusOK
		if s.Mode == server.Aug2024 {
			want = http.StatusInternalServerError
		}
		require.Equal(s, want, a.status, a.body)
	}},
	{"a thousand messages are sent, received and acked in one request each", func(s *session) {
		c := s.consumer(">", "")
		var pairs []string
		for i := range 1000 {
			pairs = append(pairs, fmt.Sprintf("bulk.%d=%d", i, i))
		}
		require.Equal(s, 1000, s.send(pairs...))
		got := s.receiveAll(c, 1000)
		require.ElementsMatch(s, pairs, got.pairs())
		s.settle("ack", c, got)
	}},
}

// ackWait is the option of a consumer for a lease of one second.
const ackWait = `,"ack_wait_ms":1000`

// waitForLeaseEnd waits until a lease of ackWait has ended.
func waitForLeaseEnd() { time.Sleep(1300 * time.Millisecond) }
