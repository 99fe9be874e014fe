package conformance

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
)

var messageCases = []sessionCase{
	{"a message is delivered as it was sent", func(s *session) {
		c := s.consumer(">", "")
		for i, data := range []string{"", "x", `{"a":"b"}`, `"\/` + "\b\f\n\r\t", "ä€😀\u2028\ufffd\u0001\u007f", " \n ", strings.Repeat("long ", 40_000)} {
			key := "k." + string(rune('a'+i))
			require.Equal(s, 1, s.send(key+"="+data))
			m := s.object("GET", s.path("messages", key), "")
			hash := sha256.Sum256([]byte(data))
			s.same(data, m["data"].(string), key)
			require.Equal(s, base64.StdEncoding.EncodeToString(hash[:]), m["data_hash"])
			require.Equal(s, s.object("GET", s.path(), "")["id"], m["stream_id"])
			require.Regexp(s, microsText, m["inserted_at"])
			require.Regexp(s, microsText, m["updated_at"])
			got := s.receiveAll(c, 1)
			require.Len(s, got, 1)
			s.same(key+"="+data, got.pairs()[0], "the delivery")
			require.EqualValues(s, m["seq"], got[0].Message.Seq)
			s.settle("ack", c, got)
		}
	}},
	{"keys at the limits are accepted", func(s *session) {
		for _, key := range []string{"a", strings.Repeat("k", 255), "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", `!"#$%&'()+,-/:;<?@[\]^_{|}~` + "`"} {
			require.Equal(s, 1, s.send(key+"=x"), key)
		}
	}},
	{"an invalid key is refused with its whole batch", func(s *session) {
		for _, key := range []string{"", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\x00b", strings.Repeat("k", 256), "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q"} {
			s.refused(http.StatusBadRequest, "Invalid key format: Key ", "POST", s.path("messages"), sendBody("good=x", key+"=x"))
		}
		require.Empty(s, s.object("GET", s.path("messages"), "")["data"])
	}},
	{"invalid messages are refused", func(s *session) {
		for body, text := range map[string]string{
			`{"messages":[{"key":"a"}]}`: "Invalid message format", `{"messages":[{"data":"x"}]}`: "Invalid message format",
			`{"messages":[{"key":"a","data":5}]}`: "Invalid message format", `{"messages":[{"key":5,"data":"x"}]}`: "Invalid message format",
			`{}`: "Missing or invalid messages", `{"messages":"x"}`: "Missing or invalid messages", `[]`: "Missing or invalid messages",
		} {
			s.refused(http.StatusBadRequest, text, "POST", s.path("messages"), body)
		}
		s.refused(http.StatusNotFound, "No `stream` found", "POST", "/api/streams/"+someID+"/messages", sendBody("a=x"))
	}},
	{"a send of no messages succeeds and changes nothing", func(s *session) {
		require.Equal(s, 1, s.send("a=x"))
		before := s.object("GET", s.path("messages"), "")
		for _, body := range []string{`{"messages":[]}`, "{\"messages\":[ \n]}"} {
			require.Equal(s, map[string]any{"published": 0.0}, s.object("POST", s.path("messages"), body)["data"])
		}
		require.Equal(s, before, s.object("GET", s.path("messages"), ""))
	}},
	{"a message replaces the one with its key in a stream with one message per key", func(s *session) {
		s.onePerKey()
		require.Equal(s, 2, s.send("a=1", "b=1"))
		first := s.object("GET", s.path("messages", "a"), "")
		require.Equal(s, 1, s.send("a=2", "b=1"), "unchanged data does not count")
		second := s.object("GET", s.path("messages", "a"), "")
		require.Equal(s, "2", second["data"])
		require.Greater(s, second["seq"], first["seq"])
		require.Equal(s, first["inserted_at"], second["inserted_at"])
		require.Len(s, s.object("GET", s.path("messages"), "")["data"], 2)
	}},
	{"messages are listed by seq, by pattern and up to a limit", func(s *session) {
		s.send("a.1=x")
		s.send("b.1=x")
		s.send("a.2=x")
		list := func(query string) (keys []string) {
			for _, m := range s.object("GET", s.path("messages")+query, "")["data"].([]any) {
				keys = append(keys, m.(map[string]any)["key"].(string))
			}
			return keys
		}
		require.Equal(s, []string{"a.1", "b.1", "a.2"}, list(""))
		require.Equal(s, []string{"a.2", "b.1"}, list("?sort=seq_desc&limit=2"))
		require.Equal(s, []string{"a.1", "a.2"}, list("?key_pattern=a.%3E"))
		require.Empty(s, list("?key_pattern=c.*"))
		for _, query := range []string{"?limit=0", "?limit=10001", "?sort=x", "?key_pattern=a..b"} {
			s.refused(http.StatusBadRequest, "Invalid", "GET", s.path("messages")+query, "")
		}
	}},
	{"an unknown message is not found", func(s *session) {
		s.refused(http.StatusNotFound, "Not found", "GET", s.path("messages", "nope"), "")
	}},
	{"a message's info lists each consumer whose filter matches", func(s *session) {
		all := s.consumer(">", "")
		s.consumer("other.>", "")
		s.send("a=1")
		s.receive(all, 1)
		info := s.object("GET", s.path("messages", "a", "consumer_info"), "")["data"].(map[string]any)
		require.Equal(s, "1", info["message"].(map[string]any)["data"])
		consumers := info["consumer_info"].([]any)
		require.Len(s, consumers, 1)
		require.Equal(s, all, consumers[0].(map[string]any)["consumer_id"])
	}},
	{"a body over 8,000,000 bytes is refused", func(s *session) {
		const frame = `{"messages":[{"key":"big","data":""}]}`
		body := func(n int) string {
			return strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1)
		}
		require.Equal(s, http.StatusOK, s.call("POST", s.path("messages"), body(7_900_000)).status)
		require.Equal(s, http.StatusRequestEntityTooLarge, s.call("POST", s.path("messages"), body(8_100_000), "Expect", "100-continue").status)
	}},
	{"malformed JSON and unknown routes are refused, in plain text or as JSON if the client accepts it", func(s *session) {
		for _, tt := range []struct {
			method, path, body string
			status             int
			text               string
		}{
			{"POST", s.path("messages"), `{"messages":[`, http.StatusBadRequest, "Bad Request"},
			{"GET", "/api/nope", "", http.StatusNotFound, "Not Found"},
			{"DELETE", "/api/streams", "", http.StatusNotFound, "Not Found"},
		} {
			plain := s.call(tt.method, tt.path, tt.body)
			require.Equal(s, tt.status, plain.status)
			require.Equal(s, tt.text, plain.body)
			accepted := s.call(tt.method, tt.path, tt.body, "Accept", "application/json")
			require.Equal(s, tt.status, accepted.status)
			require.Equal(s, `{"errors":{"detail":"`+tt.text+`"}}`, accepted.body)
		}
	}},
}
