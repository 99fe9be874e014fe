package server_test

import (
	"fmt"
	"strings"
	"time"
)

// step is a request that was made before a recorded exchange and is missing in the recording. Its reason says how we know.
type step struct {
	why                string
	after              time.Duration // waits before the request, in virtual time
	method, path, body string
	form               bool   // sent with curl's default content type
	id                 string // the recorded id of what this step creates
	documented         int    // status in the documented mode, if it refuses the request
}

// received stands for the ack ids in the answer of the last receive.
const received = "$received"

// missing lists the steps by the number of the exchange that follows them.
var missing = map[int][]step{
	1: {{why: "n=16 lists an older stream, which the 2024 server has from the start", after: time.Minute}},
	3: {{why: "n=16 shows s1 a second older than the streams after it", after: time.Second}},
	15: {{why: "n=16 lists s1_form: n=14 was the same request as n=15 with curl's form type",
		method: "POST", path: "/api/streams", body: "name=s1_form", form: true}},
	27: {{why: "n=33 lists c4 with a malformed pattern: n=26 created it",
		method: "POST", path: "/api/streams/s1/consumers", body: `{"name":"c4","filter_key_pattern":"a..b"}`, documented: 422}},
	39: {{why: "n=39 publishes `the same 2 again`: n=38 published them first",
		method: "POST", path: "/api/streams/s1/messages",
		body: `{"messages":[{"key":"orders.1.new","data":"one"},{"key":"orders.2.new","data":"two"}]}`}},
	67: {{why: "n=67 reads nul.data back as `ab`: n=66 sent it",
		method: "POST", path: "/api/streams/s1/messages",
		body: `{"messages":[{"key":"nul.data","data":"a\u0000b"}]}`, documented: 400}},
	91: {{why: "n=91 receives from c; n=137 shows its pattern, n=109 its ack_wait of a minute",
		method: "POST", path: "/api/streams/s1_r/consumers",
		body: `{"name":"c","filter_key_pattern":"m.>","ack_wait_ms":60000}`, id: "18a30f52-e604-4700-827c-8234dc3ce9c4"}},
	111: {{why: "n=111 is `ack twice`: n=110 acked the same id",
		method: "POST", path: "/api/streams/s1_r/consumers/c/ack",
		body: `{"ack_ids":["5b391d43-e673-441d-95db-41eeda838a4b"]}`}},
	131: {{why: "n=131 lists m.2 as `2 v2`, updated between n=129 and n=131",
		method: "POST", path: "/api/streams/s1_r/messages", body: `{"messages":[{"key":"m.2","data":"2 v2"}]}`}},
	135: {{why: "n=133 shows m.2 as available, n=136 does not receive it: n=134 received it",
		method: "POST", path: "/api/streams/s1_r/consumers/c/receive", body: `{"batch_size":10}`}},
	139: {{why: "n=139 receives two of six messages from w, n=141 receives them again 1.3 s later",
		method: "POST", path: "/api/streams/s1_r/consumers",
		body: `{"name":"w","filter_key_pattern":"m.>","ack_wait_ms":1000,"max_ack_pending":2}`}},
	141: {{why: "it is `after 1.3 s`", after: 1300 * time.Millisecond}},
	143: {{why: "n=143 is about acked rows: n=142 acked what n=141 received",
		method: "POST", path: "/api/streams/s1_r/consumers/w/ack",
		body: `{"ack_ids":` + received + `}`}},
	171: {{why: "n=171 is `delete consumer twice`: n=170 deleted it",
		method: "DELETE", path: "/api/streams/s1_r/consumers/c"}},
	176: {{why: "n=176 lists none of the streams created here, n=175 is one of `delete the other streams`",
		method: "DELETE", path: "/api/streams/s1"},
		{why: "the same", method: "DELETE", path: "/api/streams/s1_form"},
		{why: "the same", method: "DELETE", path: "/api/streams/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1795437394"}},
}

// generated returns a body that the recording only describes.
func generated(x exchange) string {
	switch x.N {
	case 80:
		return messagesBody(1001, "bulk.%d")
	case 81:
		return messagesBody(9362, "two.%d")
	case 83:
		return messagesBody(10923, "one%d")
	case 84:
		return bodyOfSize(7_900_046)
	case 85, 87:
		return bodyOfSize(8_100_046)
	}
	return ""
}

func messagesBody(n int, key string) string {
	messages := make([]string, n)
	for i := range messages {
		messages[i] = fmt.Sprintf(`{"key":%q,"data":"x"}`, fmt.Sprintf(key, i))
	}
	return `{"messages":[` + strings.Join(messages, ",") + `]}`
}

func bodyOfSize(n int) string {
	const frame = `{"messages":[{"key":"big","data":""}]}`
	return strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1)
}

// different is an answer of the documented mode that is not as recorded.
type different struct {
	why    string
	status int
	body   string // a part of it
}

const (
	byDefaultAppends = "a stream without one_message_per_key keeps every message"
	storedInOrder    = "a batch is stored in its order, not in reverse"
	namesWithDashes  = "names may contain dashes, and the text says so"
	atMost1000       = "a request has at most 1,000 messages"
	namesTooLarge    = "a body that is too large gets a summary"
	longPolls        = "wait_for is supported: no message was sent within a second"
	no500            = "what gets a 500 from the 2024 server is refused like similar requests"
)

// documented lists the differences by the number of the exchange.
var documented = map[int]different{
	4:   {namesWithDashes, 422, "must contain only alphanumeric characters, underscores or dashes"},
	5:   {namesWithDashes, 200, `"name":"a-b"`},
	12:  {"names that differ in case are two names", 200, `"name":"S1"`},
	16:  {"a-b and S1 exist; newest first, also within a second", 200, `{"data":[{"id"`},
	27:  {namesWithDashes, 422, "must contain only alphanumeric characters, underscores or dashes"},
	33:  {"c4 was refused for its pattern; consumers come in the order of their creation", 200, `"filter_key_pattern":"orders.*.new"`},
	39:  {byDefaultAppends, 200, `{"data":{"published":2}}`},
	40:  {byDefaultAppends, 200, `{"data":{"published":2}}`},
	41:  {byDefaultAppends + ", so a key may occur twice", 200, `{"data":{"published":2}}`},
	43:  {byDefaultAppends + ", so a key may occur twice", 200, `{"data":{"published":2}}`},
	63:  {no500, 400, `{"summary":"Invalid key format: Key contains invalid characters"}`},
	64:  {no500, 400, `{"summary":"Invalid key format: Key contains invalid characters"}`},
	67:  {"data with NUL was refused instead of stored without it", 404, "No `message` found"},
	80:  {atMost1000, 400, "at most 1,000, this one has 1001"},
	81:  {atMost1000, 400, "at most 1,000, this one has 9362"},
	83:  {atMost1000, 400, "at most 1,000, this one has 10923"},
	85:  {namesTooLarge, 413, `{"summary":"Request body is too large`},
	87:  {namesTooLarge, 413, `{"summary":"Request body is too large`},
	91:  {storedInOrder, 200, `"deliver_count":1,"message":{"key":"m.1"`},
	92:  {storedInOrder, 200, `"message":{"key":"m.2"`},
	93:  {storedInOrder, 200, `"message":{"key":"m.5"`},
	101: {no500, 400, "`batch_size` must be an integer between 1 and 1000."},
	103: {longPolls, 200, `{"data":[]}`},
	104: {longPolls, 200, `{"data":[]}`},
	107: {"the stream of the path is used", 404, "No `stream` found"},
	109: {storedInOrder, 200, `"message":{"key":"m.1"`},
	113: {"every UUID may be an ack id", 200, `{"success":true}`},
	115: {no500, 400, "non-empty list of valid UUID strings"},
	129: {storedInOrder + "; ack ids are new, and the second delivery says so", 200, `"deliver_count":2,"message":{"key":"m.3"`},
	131: {byDefaultAppends + ": m.2 v2 waits for m.2", 200, `"state":"withheld"},"message":{"key":"m.2"`},
	133: {"a message that is not delivered has no ack id", 200, `"ack_id":null,"deliver_count":0,"last_delivered_at":null,"not_visible_until":null,"state":"available"},"message":{"key":"m.2"`},
	137: {"the count of a new version starts again", 200, `"deliver_count":1`},
	139: {storedInOrder, 200, `"message":{"key":"m.1"`},
	141: {storedInOrder + "; the second delivery says so", 200, `"deliver_count":2,"message":{"key":"m.1"`},
	143: {"acked messages do not count toward max_ack_pending", 200, `"message":{"key":"m.3"`},
	144: {storedInOrder + ", and m.2 and m.6 twice", 200, `{"data":[{"key":"m.1"`},
	155: {storedInOrder + "; the other messages are on lease, m.5 is not", 200, `"message":{"key":"m.5"`},
	161: {"there is no such route", 404, "Not Found"},
	176: {"a-b and S1 are left", 200, `"name":"a-b"`},
}
