package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const (
	receiveRoute  = "/api/streams/s/consumers/c/receive"
	messagesRoute = "/api/streams/s/messages"
	waitForText   = "Invalid `wait_for`. Must be between 500 and 300,000 milliseconds, or use duration format like '60s', '5m', '1000ms'."
)

// refusals lists refusals of the documented mode that are not in the recording.
var refusals = []struct {
	name, method, path, body string
	status                   int
	want                     string
}{
	{"stream: name taken", "POST", "/api/streams", `{"name":"s"}`, 422, `{"name":["has already been taken"]}`},
	{"stream: name is not a string", "POST", "/api/streams", `{"name":5}`, 422, `{"name":["is invalid"]}`},
	{"stream: name too long", "POST", "/api/streams", `{"name":"` + strings.Repeat("x", 256) + `"}`, 422, `{"name":["should be at most 255 character(s)"]}`},
	{"stream: flag is not a boolean", "POST", "/api/streams", `{"name":"n","one_message_per_key":"maybe"}`, 422, `{"one_message_per_key":["is invalid"]}`},
	{"stream: number is not an integer", "POST", "/api/streams", `{"name":"n","retain_up_to":1.5}`, 422, `{"retain_up_to":["is invalid"]}`},
	{"stream: number is negative", "POST", "/api/streams", `{"name":"n","max_storage_gb":-1}`, 422, `{"max_storage_gb":["must be greater than 0"]}`},
	{"stream: number is huge", "POST", "/api/streams", `{"name":"n","retain_up_to":2147483648}`, 422, `{"retain_up_to":["must be less than or equal to 2147483647"]}`},
	{"stream: retain_at_least above retain_up_to", "POST", "/api/streams", `{"name":"n","retain_up_to":1,"retain_at_least":2}`, 422, `{"retain_at_least":["must be less than or equal to retain_up_to"]}`},
	{"stream: two faults", "POST", "/api/streams", `{"retain_up_to":-1}`, 422, `{"name":["can't be blank"],"retain_up_to":["must be greater than 0"]}`},
	{"consumer: name taken", "POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`, 422, `{"name":["has already been taken"]}`},
	{"consumer: ack_wait_ms is negative", "POST", "/api/streams/s/consumers", `{"name":"n","filter_key_pattern":">","ack_wait_ms":-1}`, 422, `{"ack_wait_ms":["must be greater than 0"]}`},
	{"consumer: max_waiting is null", "POST", "/api/streams/s/consumers", `{"name":"n","filter_key_pattern":">","max_waiting":null}`, 422, `{"max_waiting":["can't be blank"]}`},
	{"consumer: update with a wrong number", "PUT", "/api/streams/s/consumers/c", `{"max_ack_pending":-1}`, 422, `{"max_ack_pending":["must be greater than 0"]}`},
	{"consumer: update of an unknown one", "PUT", "/api/streams/s/consumers/nope", `{}`, 404, "No `consumer` found"},
	{"pattern: > in the middle", "POST", "/api/streams/s/consumers", `{"name":"n","filter_key_pattern":"a.>.b"}`, 422, "`>` as the last token only"},
	{"pattern: star within a token", "POST", "/api/streams/s/consumers", `{"name":"n","filter_key_pattern":"a*.b"}`, 422, "`*` as a whole token only"},
	{"pattern: ends in a dot", "POST", "/api/streams/s/consumers", `{"name":"n","filter_key_pattern":"a."}`, 422, "Key pattern must not start or end with a delimiter"},
	{"pattern: not ASCII", "GET", messagesRoute + "?key_pattern=%C3%A9", "", 400, "Invalid key pattern: Key pattern contains invalid characters"},
	{"pattern: empty", "GET", messagesRoute + "?key_pattern=", "", 400, "Invalid key pattern: Key pattern must not be empty"},
	{"key: empty", "POST", messagesRoute, sendBody("=x"), 400, "Key must not be empty"},
	{"key: 256 characters", "POST", messagesRoute, sendBody(strings.Repeat("k", 256) + "=x"), 400, "Key must not exceed 255 characters"},
	{"key: starts with a dot", "POST", messagesRoute, sendBody(".a=x"), 400, "Key must not start or end with a delimiter"},
	{"key: DEL", "POST", messagesRoute, sendBody("a\x7f=x"), 400, "Key contains invalid characters"},
	{"data: NUL", "POST", messagesRoute, `{"messages":[{"key":"a","data":"x\u0000"}]}`, 400, "data must not contain null characters"},
	{"messages: one is not an object", "POST", messagesRoute, `{"messages":[{"key":"a","data":"x"},5]}`, 400, "Invalid message format"},
	{"messages: 1,001", "POST", messagesRoute, messagesBody(1001, "k.%d"), 400, "at most 1,000, this one has 1001"},
	{"receive: wait_for too short", "POST", receiveRoute, `{"wait_for":499}`, 400, waitForText},
	{"receive: wait_for too long", "POST", receiveRoute, `{"wait_for":300001}`, 400, waitForText},
	{"receive: wait_for of hours", "GET", receiveRoute + "?wait_for=1h", "", 400, waitForText},
	{"receive: wait_for of six minutes", "GET", receiveRoute + "?wait_for=6m", "", 400, waitForText},
	{"receive: wait_for negative", "POST", receiveRoute, `{"wait_for":-1000}`, 400, waitForText},
	{"receive: wait_for in words", "POST", receiveRoute, `{"wait_for":"soon"}`, 400, waitForText},
	{"receive: wait_for with a fraction", "POST", receiveRoute, `{"wait_for":1000.5}`, 400, waitForText},
	{"receive: wait_for without a number", "POST", receiveRoute, `{"wait_for":"s"}`, 400, waitForText},
	{"receive: wait_for null", "POST", receiveRoute, `{"wait_for":null}`, 400, waitForText},
	{"receive: wait_for overflows", "POST", receiveRoute, `{"wait_for":"9223372036854775807m"}`, 400, waitForText},
	{"receive: batch_size null", "POST", receiveRoute, `{"batch_size":null}`, 400, "Invalid `batch_size`"},
	{"receive: batch_size with an exponent", "POST", receiveRoute, `{"batch_size":1e1}`, 400, "Invalid `batch_size`"},
	{"ack: id with a wrong character", "POST", "/api/streams/s/consumers/c/ack", `{"ack_ids":["7b1e4c9e-3a0f-4f0e-9d3a-0f6f2f1d2c3g"]}`, 400, "Invalid ack_ids"},
	{"ack: id without dashes and a malformed one", "POST", "/api/streams/s/consumers/c/ack", `{"ack_ids":["7B1E4C9E3A0F4F0E9D3A0F6F2F1D2C3B","x"]}`, 400, "Invalid ack_ids"},
	{"list: limit above 10,000", "GET", messagesRoute + "?limit=10001", "", 400, "Invalid limit parameter"},
	{"message: unknown", "GET", messagesRoute + "/nope", "", 404, "No `message` found matching the provided ID or name"},
	{"message: info of an unknown one", "GET", messagesRoute + "/nope/consumer_info", "", 404, "No `message` found"},
	{"route: below receive", "GET", receiveRoute + "/x", "", 404, "Not Found"},
	{"route: ack by GET", "GET", "/api/streams/s/consumers/c/ack", "", 404, "Not Found"},
}

func TestInvalidRequestsAreRefusedAndStoreNothing(t *testing.T) {
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			a := newAPI(t, server.Config{}).withStream("", "")
			got := a.call(tt.method, tt.path, tt.body)
			require.Equalf(t, tt.status, got.status, "%s", got.body)
			require.Contains(t, got.body, tt.want)
			if strings.HasPrefix(got.body, "{") {
				require.Contains(t, got.body, `"summary":`)
			}
			require.Empty(t, a.receive(`{"batch_size":10}`), "nothing was stored")
		})
	}
}

// TestMalformedJSONIsRefusedFirst sends malformed JSON to every route that reads JSON, for streams that do not exist.
func TestMalformedJSONIsRefusedFirst(t *testing.T) {
	routes := [][2]string{
		{"POST", "/api/streams"}, {"POST", "/api/streams/nope/consumers"}, {"PUT", "/api/streams/nope/consumers/c"},
		{"POST", "/api/streams/nope/messages"}, {"POST", "/api/streams/nope/consumers/c/receive"},
		{"POST", "/api/streams/nope/consumers/c/ack"}, {"POST", "/api/streams/nope/consumers/c/nack"},
	}
	bodies := map[string]string{
		"truncated": `{"messages":[{"key":"a"`, "two values": `{} {}`, "not JSON": `hello`, "a bad number": `{"messages":01}`,
		"not UTF-8": "{\"name\":\"\xff\"}", "deep": strings.Repeat("[", 1_000_000),
	}
	a := newAPI(t, server.Config{})
	for _, route := range routes {
		for name, body := range bodies {
			t.Run(route[1]+" "+name, func(t *testing.T) {
				got := a.call(route[0], route[1], body)
				require.Equal(t, http.StatusBadRequest, got.status)
				require.Equal(t, "Bad Request", got.body)
				require.Empty(t, got.header.Get("X-Request-Id"))
			})
		}
	}
}

// TestARefusalQuotesNoMoreThanTheBeginning sends names with megabytes, which a summary that has them as a whole makes larger
// still.
func TestARefusalQuotesNoMoreThanTheBeginning(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	long := strings.Repeat("\x7f", 1_000_000)
	for name, request := range map[string][2]string{
		"key":               {messagesRoute, `{"messages":[{"key":"` + long + `","data":""}]}`},
		"key, with headers": {messagesRoute, `{"messages":[{"key":"` + long + `","data":"","headers":[]}]}`},
		"header":            {messagesRoute, `{"messages":[{"key":"k","data":"","headers":{"` + long + `":""}}]}`},
		"member of a purge": {"/api/streams/s/purge", `{"` + long + `":1}`},
		"the same twice":    {"/api/streams/s/purge", `{"` + long + `":1,"` + long + `":1}`},
	} {
		got := a.call("POST", request[0], request[1])
		require.Equal(t, http.StatusBadRequest, got.status, name)
		require.Less(t, len(got.body), 5_000, name)
	}
}

// TestAlternativeFormsOfAValueAreAccepted lists what can be written in more than one way.
func TestAlternativeFormsOfAValueAreAccepted(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", `,"max_deliver":null`)
	a.ok("POST", "/api/streams", `{"name":"loose","one_message_per_key":"true","process_unmodified":"0","retain_up_to":"7","retain_at_least":null}`)
	require.Contains(t, a.ok("GET", "//api/streams/loose/", ""),
		`"one_message_per_key":true,"process_unmodified":false,"max_storage_gb":null,"retain_up_to":7,"retain_at_least":null`)
	a.ok("POST", "/api/streams/s/messages", `{"messages":[],"messages":[{"data":"old","data":"x","key":"a\u002fb"}],"more":{"messages":[1]}}`)
	require.Contains(t, a.ok("GET", "/api/streams/s/messages/a%2Fb", ""), `"data":"x"`)
	got := a.call("POST", "/api/streams/s/consumers/c/receive?batch_size=7", `{"batch_size":1}`, "Content-Type", "application/vnd.api+json; charset=utf-8")
	require.Len(t, parseDeliveries(t, got.body), 1)
	require.Contains(t, a.ok("PATCH", "/api/streams/s/consumers/c", `{"max_deliver":"3"}`), `"max_deliver":3`)
	require.Contains(t, a.ok("PATCH", "/api/streams/s/consumers/c", `{"max_deliver":null}`), `"max_deliver":null`)
}
