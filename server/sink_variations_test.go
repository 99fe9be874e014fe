package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// The summaries of a released Sequin.
const (
	noTokenText   = "Please provide a valid API token in the Authorization header.\n\nAPI tokens"
	noBearerText  = "Ensure your Authorization value is prefixed with \"Bearer\"."
	badTokenText  = "The API token you provided is invalid or has expired."
	manyText      = "Please provide exactly one Authorization header in your request."
	untypedText   = "Content-Type: application/json is required"
	batchText     = "Invalid `max_batch_size`. `max_batch_size` must be an integer between 1 and 1000."
	waitText      = "Invalid `wait_for`. Must be between 500 and 300,000 milliseconds"
	formatText    = "Invalid `wait_for`. When using duration strings, format must be like"
	ackIDsText    = "Invalid ack_ids. Must send a top-level `ack_ids` property that is a non-empty list of valid UUID strings"
	unknownText   = "No `consumer` found matching the prov"
	crashText     = `{"errors":{"detail":"Internal Server Error"}}`
	emptyText     = `{"data":[]}`
	successText   = `{"success":true}`
	sinkVariantID = "505e0510-0efe-450f-9873-efc78099bccb"
)

// variation is a request that differs a little from recorded ones. Its headers replace those of a valid request; an empty
// one is left out, and a line break makes two of one.
type variation struct {
	name, method, path string
	headers            map[string]string
	body               string
	status             int
	says               string
}

func (v variation) send(s *server.Server) (status int, body string) {
	r := httptest.NewRequest(v.method, "/api/"+v.path, strings.NewReader(v.body))
	headers := map[string]string{"Authorization": "Bearer ref-token", "Content-Type": "application/json"}
	for name, value := range v.headers {
		headers[name] = value
	}
	for name, value := range headers {
		for one := range strings.SplitSeq(value, "\n") {
			if one != "" {
				r.Header.Add(name, one)
			}
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func header(name, value string) map[string]string { return map[string]string{name: value} }

func (v variation) check(t *testing.T, s *server.Server) {
	t.Run(v.name, func(t *testing.T) {
		status, body := v.send(s)
		require.Equal(t, v.status, status, body)
		if decoded := strings.NewReplacer(`\n`, "\n", `\"`, `"`).Replace(body); !strings.Contains(decoded, v.says) {
			require.Equal(t, v.says, body)
		}
	})
}

func newVariantServer(t *testing.T) (*server.Server, *server.Sink) {
	s := server.New(server.Config{Token: "ref-token", SinksOnly: true})
	t.Cleanup(s.Close)
	return s, s.Sink("orders-sink", server.SinkOptions{ID: sinkVariantID})
}

// TestTheChecksOfASinkCallAreInTheOrderOfSequin holds what is answered to a request that is wrong in several ways: the JSON
// comes first, then the route, the Accept header, the token, the type of the body, the sink, and the values.
func TestTheChecksOfASinkCallAreInTheOrderOfSequin(t *testing.T) {
	s, _ := newVariantServer(t)
	const mine, alias, unknown = "sequin_streams/orders-sink/", "http_pull_consumers/orders-sink/", "sequin_streams/nope/"
	for _, v := range []variation{
		{"malformed JSON and a wrong token", "POST", mine + "receive", header("Authorization", "Bearer x"), `{`, 400, "Bad Request"},
		{"malformed JSON and no such route", "PUT", alias + "receive", nil, `{`, 400, "Bad Request"},
		{"no such route, without a token", "PUT", mine + "receive", header("Authorization", ""), `{}`, 404, "Not Found"},
		{"GET of ack", "GET", mine + "ack", nil, "", 404, "Not Found"},
		{"DELETE of nack by the alias", "DELETE", alias + "nack", nil, "", 404, "Not Found"},
		{"an operation that does not exist", "POST", mine + "extend", nil, "{}", 404, "Not Found"},
		{"not acceptable and no token", "GET", alias + "receive", map[string]string{"Authorization": "", "Accept": "text/html"}, "", 406, "Not Acceptable"},
		{"any type is acceptable", "GET", mine + "receive", header("Accept", "text/html, */*"), "", 200, emptyText},
		{"no token by the alias", "POST", alias + "nack", header("Authorization", ""), `{}`, 401, noTokenText},
		{"no token and no type", "POST", mine + "ack", map[string]string{"Authorization": "", "Content-Type": ""}, `{}`, 401, noTokenText},
		{"another scheme", "GET", mine + "receive", header("Authorization", "Basic cmVmOnRva2Vu"), "", 401, noBearerText},
		{"no space behind Bearer", "GET", mine + "receive", header("Authorization", "Bearerref-token"), "", 401, noBearerText},
		{"two spaces behind Bearer", "GET", mine + "receive", header("Authorization", "Bearer  ref-token"), "", 401, badTokenText},
		{"upper-case scheme", "POST", alias + "ack", header("Authorization", "BEARER ref-token"), "{}", 401, noBearerText},
		{"more than the token", "POST", mine + "receive", header("Authorization", "Bearer ref-tokens"), "{}", 401, badTokenText},
		{"three tokens", "GET", mine + "receive", header("Authorization", "Bearer a\nBearer b\nBearer c"), "", 500, crashText},
		{"two tokens", "GET", mine + "receive", header("Authorization", "Bearer ref-token\nBearer ref-token"), "", 401, manyText},
		{"wrong token and unknown sink by the alias", "GET", "http_pull_consumers/nope/receive", header("Authorization", "Bearer x"), "", 401, badTokenText},
		{"no type and an unknown sink", "POST", unknown + "receive", header("Content-Type", ""), "", 400, untypedText},
		{"no type and no body", "POST", mine + "receive", header("Content-Type", ""), "", 400, untypedText},
		{"a form", "POST", alias + "ack", header("Content-Type", "application/x-www-form-urlencoded"), "ack_ids[]=x", 400, untypedText},
		{"another JSON type", "POST", mine + "receive", header("Content-Type", "application/vnd.api+json"), "{}", 400, untypedText},
		{"the type in upper case", "POST", mine + "receive", header("Content-Type", "APPLICATION/JSON"), "{}", 400, untypedText},
		{"a charset", "POST", mine + "receive", header("Content-Type", "application/json; charset=utf-8"), "{}", 200, emptyText},
		{"no type for a GET", "GET", mine + "receive?batch_size=3", header("Content-Type", ""), "", 200, emptyText},
		{"the body of a GET is not read", "GET", mine + "receive", nil, `{"batch_size":0`, 200, emptyText},
		{"no body", "POST", mine + "receive", nil, "", 200, emptyText},
		{"unknown sink and a wrong batch_size", "POST", unknown + "receive", nil, `{"batch_size":0}`, 404, unknownText},
		{"unknown id by the alias", "POST", "http_pull_consumers/00000000-0000-4000-8000-000000000000/nack", nil, `{"ack_ids":[]}`, 404, unknownText},
		{"the id in upper case", "GET", "sequin_streams/" + strings.ToUpper(sinkVariantID) + "/receive", nil, "", 200, emptyText},
		{"wrong batch_size and wait_for", "POST", alias + "receive", nil, `{"batch_size":"x","wait_for":1}`, 400, batchText},
		{"PATCH without a type", "PATCH", "sinks/orders-sink", header("Content-Type", ""), "", 400, untypedText},
		{"PUT is PATCH", "PUT", "sinks/orders-sink", nil, `{"status":"active"}`, 200, `"status":"active"`},
		{"an unknown sink of the management API", "GET", "sinks/nope", nil, "", 404, unknownText},
	} {
		v.check(t, s)
	}
}

func TestTheValuesOfASinkCallAreReadAsBySequin(t *testing.T) {
	s, k := newVariantServer(t)
	require.NoError(t, k.Insert(map[string]int{"id": 1})) // so that no receive waits
	_, body := variation{method: http.MethodGet, path: "sequin_streams/orders-sink/receive"}.send(s)
	ackID := body[strings.Index(body, `"ack_id":"`)+len(`"ack_id":"`):][:36]
	const receive, ack, nack = "sequin_streams/orders-sink/receive", "http_pull_consumers/orders-sink/ack", "sequin_streams/orders-sink/nack"
	ids := func(list string) string { return `{"ack_ids":[` + list + `]}` }
	for _, v := range []variation{
		{"batch_size with a sign", "GET", receive + "?batch_size=%2B5", nil, "", 200, emptyText},
		{"batch_size with zeros", "GET", receive + "?batch_size=0010", nil, "", 200, emptyText},
		{"batch_size with a space", "POST", receive, nil, `{"batch_size":" 5"}`, 400, batchText},
		{"batch_size below 1", "POST", receive, nil, `{"batch_size":0.5}`, 200, emptyText},
		{"batch_size as a float", "POST", receive, nil, `{"batch_size":1e3}`, 200, emptyText},
		{"batch_size above 1000 by a fraction", "POST", receive, nil, `{"max_batch_size":1000.5}`, 400, batchText},
		{"batch_size null, and a valid max_batch_size", "POST", receive, nil, `{"batch_size":null,"max_batch_size":5}`, 500, crashText},
		{"a valid batch_size, and a wrong max_batch_size", "POST", receive, nil, `{"batch_size":5,"max_batch_size":0}`, 200, emptyText},
		{"max_batch_size in the query", "GET", receive + "?max_batch_size=1001", nil, "", 400, batchText},
		{"the body wins over the query", "POST", receive + "?batch_size=0", nil, `{"batch_size":1}`, 200, emptyText},
		{"the query counts beside the body", "POST", receive + "?batch_size=0", nil, `{"wait_for":1000}`, 400, batchText},
		{"wait_for of 5 minutes", "GET", receive + "?wait_for=5m", nil, "", 200, emptyText},
		{"wait_for of 0 minutes", "GET", receive + "?wait_for=0m", nil, "", 400, waitText},
		{"wait_for of 300001ms", "POST", receive, nil, `{"wait_for":"300001ms"}`, 400, waitText},
		{"wait_for in hours", "POST", receive, nil, `{"wait_for":"1h"}`, 400, formatText},
		{"wait_for with a space", "POST", receive, nil, `{"wait_for":"1 s"}`, 400, formatText},
		{"wait_for in upper case", "POST", receive, nil, `{"wait_for":"2S"}`, 400, formatText},
		{"wait_for as a list", "POST", receive, nil, `{"wait_for":[1]}`, 200, emptyText},
		{"wait_for with a fraction, answered at once", "POST", receive, nil, `{"wait_for":1500.5}`, 200, emptyText},
		{"an id of version 1", "POST", ack, nil, ids(`"f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`), 200, successText},
		{"the nil id", "POST", nack, nil, ids(`"00000000-0000-0000-0000-000000000000"`), 200, successText},
		{"any 16 bytes", "POST", ack, nil, ids(`"sixteen bytes oh"`), 200, successText},
		{"15 bytes", "POST", ack, nil, ids(`"fifteen bytes o"`), 400, ackIDsText},
		{"an id in braces", "POST", ack, nil, ids(`"{00000000-0000-4000-8000-000000000000}"`), 400, ackIDsText},
		{"an id of version 7", "POST", ack, nil, ids(`"01890a5d-ac96-774b-bcce-b302099a8057"`), 200, successText},
		{"an id of another variant", "POST", ack, nil, ids(`"00000000-0000-4000-c000-000000000000"`), 200, successText},
		{"ids and null", "POST", nack, nil, ids(`"` + ackID + `",null`), 400, ackIDsText},
		{"an object", "POST", ack, nil, `{"ack_ids":{"0":"` + ackID + `"}}`, 400, ackIDsText},
		{"ids in a list", "POST", ack, nil, `["` + ackID + `"]`, 400, ackIDsText},
		{"an id in upper case", "POST", ack, nil, ids(`"` + strings.ToUpper(ackID) + `"`), 200, successText},
		{"an id without dashes", "POST", ack, nil, ids(`"` + strings.ReplaceAll(ackID, "-", "") + `"`), 200, successText},
	} {
		v.check(t, s)
	}
	require.Equal(t, server.SinkState{Outstanding: 1}, k.State(), "nothing was settled: ids are compared as text")
	variation{"an id among unknown ones", "POST", ack, nil, ids(`"00000000-0000-4000-8000-000000000000","` + ackID + `","` + ackID + `"`), 200, successText}.check(t, s)
	require.Zero(t, k.State())
}

// TestASinkCallIsReadByTheFramework holds what the framework makes of a request before Sequin sees it.
func TestASinkCallIsReadByTheFramework(t *testing.T) {
	s, k := newVariantServer(t)
	const receive, ack = "sequin_streams/orders-sink/receive", "sequin_streams/orders-sink/ack"
	const badRequestText = `{"errors":{"detail":"Bad Request"}}`
	big := `{"x":"` + strings.Repeat("x", 8_000_000) + `"}`
	bare := strings.ReplaceAll(sinkVariantID, "-", "")
	for _, v := range []variation{
		{"HEAD is GET", "HEAD", receive + "?batch_size=0", nil, "", 400, ""},
		{"the first of two values counts", "POST", receive, nil, `{"batch_size":0,"batch_size":1}`, 400, batchText},
		{"a number that is too large", "POST", receive, nil, `{"wait_for":1e999}`, 400, "Bad Request"},
		{"a body that is not UTF-8", "POST", receive, nil, "{\"x\":\"\xff\"}", 400, "Bad Request"},
		{"a query that is not UTF-8", "GET", receive + "?x=%FF", nil, "", 400, "Bad Request"},
		{"a wrong escape in the query", "GET", receive + "?x=%zz", nil, "", 200, emptyText},
		{"a list in the query", "GET", receive + "?batch_size[]=1", nil, "", 500, crashText},
		{"ids in the query", "POST", ack + "?ack_ids[]=00000000-0000-4000-8000-000000000000", nil, "{}", 200, successText},
		{"a format in the query", "GET", receive + "?_format=json", header("Accept", "text/html"), "", 200, emptyText},
		{"another format in the query", "GET", receive + "?_format=html", nil, "", 406, "Not Acceptable"},
		{"another format in the body", "POST", receive, nil, `{"_format":"html"}`, 406, "Not Acceptable"},
		{"another method in the body", "POST", receive, nil, `{"_method":"put"}`, 404, "Not Found"},
		{"GET as the method in the body", "POST", ack, nil, `{"_method":"GET"}`, 400, ackIDsText},
		{"another method in a form", "POST", ack, header("Content-Type", "application/x-www-form-urlencoded"), "_method=DELETE", 404, "Not Found"},
		{"a malformed body of another JSON type", "POST", ack, header("Content-Type", "application/vnd.api+json"), "{", 400, "Bad Request"},
		{"a type that names JSON and is not", "POST", ack, header("Content-Type", "text/plain; application/json"), `{"ack_ids":[]}`, 400, `{"summary":"` + ackIDsText + `"}`},
		{"too large a body", "POST", ack, nil, big, 413, "Request Entity Too Large"},
		{"the id of the sink without dashes", "GET", "sequin_streams/" + bare + "/receive", nil, "", 400, badRequestText},
		{"the id of the sink as a URN", "GET", "sequin_streams/urn:uuid:" + sinkVariantID + "/receive", nil, "", 400, badRequestText},
		{"a name with a NUL", "GET", "sequin_streams/a%00/receive", nil, "", 500, crashText},
		{"a name that is not UTF-8", "GET", "sequin_streams/%ff/receive", nil, "", 500, crashText},
	} {
		v.check(t, s)
	}
	require.Zero(t, k.State())
}

func TestASinkDeliversAFractionOfAMessageAsAWholeOne(t *testing.T) {
	s, k := newVariantServer(t)
	for i := range 5 {
		require.NoError(t, k.Insert(map[string]int{"id": i}))
	}
	_, body := variation{method: http.MethodPost, path: "sequin_streams/orders-sink/receive", body: `{"batch_size":2.5}`}.send(s)
	require.Equal(t, 3, strings.Count(body, "ack_id"))
	_, body = variation{method: http.MethodPost, path: "sequin_streams/orders-sink/receive", body: `{"batch_size":0.5}`}.send(s)
	require.Equal(t, 1, strings.Count(body, "ack_id"))
}

func TestAWaitWithAFractionFailsAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newVariantServer(t)
		began := time.Now()
		status, body := variation{method: "POST", path: "sequin_streams/orders-sink/receive", body: `{"wait_for":1500.5}`}.send(s)
		require.Equal(t, 500, status)
		require.Equal(t, crashText, body)
		require.InDelta(t, 1.5, time.Since(began).Seconds(), 0.01)
	})
}
