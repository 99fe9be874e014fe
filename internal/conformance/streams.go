package conformance

import (
	"net/http"
	"regexp"

	"github.com/stretchr/testify/require"
)

var (
	secondsText = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
	microsText  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)
	uuidText    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// someID is a valid id that belongs to nothing.
const someID = "7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3b"

var streamCases = []sessionCase{
	{"a stream is found by name and id, and listed, until it is deleted", func(s *session) {
		byName := s.object("GET", s.path(), "")
		require.Equal(s, s.stream, byName["name"])
		require.Regexp(s, uuidText, byName["id"])
		require.Regexp(s, secondsText, byName["inserted_at"])
		require.Contains(s, byName, "stats")
		id := byName["id"].(string)
		require.Equal(s, byName, s.object("GET", "/api/streams/"+id, ""))
		listed := s.object("GET", "/api/streams", "")["data"].([]any)
		require.Contains(s, listed, any(byName))
		require.Equal(s, map[string]any{"id": id, "deleted": true}, s.object("DELETE", s.path(), ""))
		s.refused(http.StatusNotFound, "No `stream` found", "GET", s.path(), "")
		s.refused(http.StatusNotFound, "No `stream` found", "DELETE", s.path(), "")
	}},
	{"a stream's stats count its messages and consumers", func(s *session) {
		s.consumer(">", "")
		s.send("a=1", "b=2")
		stats := s.object("GET", s.path(), "")["stats"].(map[string]any)
		require.EqualValues(s, 2, stats["message_count"])
		require.EqualValues(s, 1, stats["consumer_count"])
		require.IsType(s, float64(0), stats["storage_size"])
	}},
	{"an invalid stream name is refused", func(s *session) {
		for _, body := range []string{`{"name":"a b"}`, `{"name":""}`, `{}`, `{"name":null}`, ``} {
			a := s.refused(http.StatusUnprocessableEntity, "Validation failed", "POST", "/api/streams", body)
			require.Contains(s, a.body, `"validation_errors":{"name":[`)
		}
	}},
	{"a stream name that is taken is refused", func(s *session) {
		a := s.call("POST", "/api/streams", `{"name":"`+s.stream+`"}`)
		require.Equal(s, http.StatusUnprocessableEntity, a.status)
		require.Contains(s, a.body, `"name":["has already been taken"]`)
	}},
	{"a consumer has the documented defaults", func(s *session) {
		id := s.consumer("orders.>", "")
		created := s.object("GET", s.path("consumers", id), "")
		for member, want := range map[string]any{
			"filter_key_pattern": "orders.>", "kind": "pull", "status": "active", "ack_wait_ms": 30000.0,
			"max_ack_pending": 10000.0, "max_deliver": nil, "max_waiting": 20.0, "stream_id": s.object("GET", s.path(), "")["id"],
		} {
			require.Contains(s, created, member)
			require.Equal(s, want, created[member], member)
		}
		require.Equal(s, created, s.object("GET", s.path("consumers", created["name"].(string)), ""), "by name too")
		require.Equal(s, []any{created}, s.object("GET", s.path("consumers"), "")["data"])
	}},
	{"a consumer's limits can be changed, and its name and pattern cannot", func(s *session) {
		id := s.consumer("orders.>", "")
		before := s.object("GET", s.path("consumers", id), "")
		for _, method := range []string{"PUT", "PATCH"} {
			s.object(method, s.path("consumers", id), `{"name":"zzz","filter_key_pattern":"zzz","ack_wait_ms":60000,"max_ack_pending":9,"max_deliver":3,"max_waiting":7}`)
		}
		after := s.object("GET", s.path("consumers", id), "")
		require.Equal(s, []any{before["name"], "orders.>", 60000.0, 9.0, 3.0, 7.0},
			[]any{after["name"], after["filter_key_pattern"], after["ack_wait_ms"], after["max_ack_pending"], after["max_deliver"], after["max_waiting"]})
	}},
	{"invalid consumer options are refused", func(s *session) {
		for body, field := range map[string]string{
			`{"name":"x"}`: "filter_key_pattern",
			`{"name":"a b","filter_key_pattern":">"}`:                    "name",
			`{"name":"x","filter_key_pattern":">","ack_wait_ms":"soon"}`: "ack_wait_ms",
		} {
			a := s.refused(http.StatusUnprocessableEntity, "Validation failed", "POST", s.path("consumers"), body)
			require.Contains(s, a.body, `"`+field+`":[`)
		}
		s.refused(http.StatusNotFound, "No `stream` found", "POST", "/api/streams/"+someID+"/consumers", `{"name":"x","filter_key_pattern":">"}`)
	}},
	{"a deleted consumer is not found", func(s *session) {
		id := s.consumer(">", "")
		require.Equal(s, map[string]any{"id": id, "deleted": true}, s.object("DELETE", s.path("consumers", id), ""))
		s.refused(http.StatusNotFound, "No `consumer` found", "GET", s.path("consumers", id), "")
		s.refused(http.StatusNotFound, "No `consumer` found", "POST", s.path("consumers", id, "receive"), `{}`)
		s.refused(http.StatusNotFound, "No `consumer` found", "POST", s.path("consumers", id, "ack"), `{"ack_ids":["`+someID+`"]}`)
		require.Empty(s, s.object("GET", s.path("consumers"), "")["data"])
	}},
}
