package conformance

import (
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

var receiveCases = []named{
	{"a new consumer begins at the beginning, and gets what its pattern matches", func(s *session) {
		s.send("a=0", "a.1=1", "a.1.x=2", "b.1=3", "b.1.x=4")
		for pattern, want := range map[string][]string{
			">": {"a=0", "a.1=1", "a.1.x=2", "b.1=3", "b.1.x=4"}, "a.>": {"a.1=1", "a.1.x=2"}, "*.1": {"a.1=1", "b.1=3"},
			"*.1.*": {"a.1.x=2", "b.1.x=4"}, "a": {"a=0"}, "*": {"a=0"}, "b.*.>": {"b.1.x=4"}, "c.>": {},
		} {
			require.ElementsMatch(s, want, s.receive(s.consumer(pattern, ""), 10).pairs(), pattern)
		}
	}},
	{"a receive brings one message, or as many as it asks for", func(s *session) {
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
	{"an acked message does not come again", func(s *session) {
		c := s.consumer(">", ackWait)
		s.send("a=1", "b=2")
		got := s.receive(c, 10)
		s.settle("ack", c, got[:1])
		leaseEnds()
		require.Equal(s, got[1:].pairs(), s.receive(c, 10).pairs())
		s.settle("ack", c, got[:1]) // again, which is as well
	}},
	{"a nacked message comes again at once", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2")
		got := s.receive(c, 10)
		s.settle("nack", c, got[:1])
		require.Equal(s, got[:1].pairs(), s.receive(c, 10).pairs())
	}},
	{"a message whose lease ends comes again", func(s *session) {
		c := s.consumer(">", ackWait)
		s.send("a=1")
		require.Len(s, s.receive(c, 10), 1)
		require.Empty(s, s.receive(c, 10))
		leaseEnds()
		require.Len(s, s.receive(c, 10), 1)
	}},
	{"settles of what is unknown succeed, and of what is no id are refused whole", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		got := s.receive(c, 1)
		for _, verb := range []string{"ack", "nack"} {
			path := s.path("consumers", c, verb)
			require.Equal(s, map[string]any{"success": true}, s.object("POST", path, `{"ack_ids":["`+someID+`"]}`))
			for _, body := range []string{`{}`, `{"ack_ids":[]}`, `{"ack_ids":"x"}`, `{"ack_ids":[5]}`, `{"ack_ids":["` + got[0].AckID + `","abc"]}`} {
				s.refused(http.StatusBadRequest, "Invalid ack_ids", "POST", path, body)
			}
		}
		require.Empty(s, s.receive(c, 1), "the nack of a good id beside a bad one did nothing")
	}},
	{"no more than max_ack_pending are out", func(s *session) {
		c := s.consumer(">", `,"max_ack_pending":2`)
		s.send("a=1", "b=2", "c=3")
		require.Len(s, s.receive(c, 10), 2)
		require.Empty(s, s.receive(c, 10))
	}},
	{"consumers do not take from one another", func(s *session) {
		one, other := s.consumer(">", ""), s.consumer(">", "")
		s.send("a=1")
		s.settle("ack", one, s.receive(one, 1))
		require.Len(s, s.receive(other, 1), 1)
	}},
	{"the new version of a message that is out waits for it", func(s *session) {
		c := s.replacing().consumer(">", "")
		s.send("a=1")
		old := s.receive(c, 1)
		s.send("a=2")
		require.Empty(s, s.receive(c, 1))
		s.settle("ack", c, old)
		require.Equal(s, []string{"a=2"}, s.receive(c, 1).pairs())
	}},
	{"peek shows what is out and what is not", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1", "b=2", "c=3")
		out := s.receive(c, 1)
		peek := func(query string) (keys []string) {
			for _, m := range s.object("GET", s.path("consumers", c, "messages")+query, "")["data"].([]any) {
				keys = append(keys, m.(map[string]any)["message"].(map[string]any)["key"].(string))
			}
			return keys
		}
		require.ElementsMatch(s, []string{"a", "b", "c"}, peek(""))
		require.Equal(s, []string{out[0].Message.Key}, peek("?visible=false"))
		require.Len(s, peek("?visible=true"), 2)
		require.Len(s, peek("?limit=1"), 1)
		s.refused(http.StatusBadRequest, "Invalid visible parameter", "GET", s.path("consumers", c, "messages")+"?visible=x", "")
	}},
	{"wait_for waits, or is refused by the server that does not know it", func(s *session) {
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
	{"an ack id names a delivery, or on the 2024 server a consumer's row", func(s *session) {
		c := s.consumer(">", "")
		s.send("a=1")
		first := s.receive(c, 1)
		s.settle("nack", c, first)
		second := s.receive(c, 1)
		require.Equal(s, s.Mode == server.Aug2024, first[0].AckID == second[0].AckID)
	}},
	{"a key twice in a batch is taken, or crashes the 2024 server", func(s *session) {
		a := s.call("POST", s.path("messages"), sendBody("a=1", "a=2"))
		want := http.StatusOK
		if s.Mode == server.Aug2024 {
			want = http.StatusInternalServerError
		}
		require.Equal(s, want, a.status, a.body)
	}},
	{"a thousand messages go out and come in at once", func(s *session) {
		c := s.consumer(">", "")
		var pairs []string
		for i := range 1000 {
			pairs = append(pairs, fmt.Sprintf("bulk.%d=%d", i, i))
		}
		require.Equal(s, 1000, s.send(pairs...))
		got := s.receive(c, 1000)
		require.ElementsMatch(s, pairs, got.pairs())
		s.settle("ack", c, got)
	}},
}

// ackWait is a short lease, as a member of a consumer's options, and leaseEnds waits until it is over.
const ackWait = `,"ack_wait_ms":1000`

func leaseEnds() { time.Sleep(1300 * time.Millisecond) }
