package sim

import (
	"bytes"
	"net/http"

	"github.com/sequin-go/sequin/sequintest"
)

// faultKind is what goes wrong. The order decides which kind a seed draws, so new kinds are added at the end of their part.
type faultKind uint8

const (
	down             faultKind = iota // connections are refused; the data stays
	resetAll                          // the existing connections are reset, once
	cutBefore                         // the connection is reset, and the server does not act
	cutAfter                          // the connection is reset after the server has acted
	truncate                          // the answer ends early
	garble                            // the answer is not JSON
	slowAnswer                        // the answer is late, possibly later than the time-out
	slowRequest                       // the server acts late, possibly later than the time-out
	timeout408                        // from the server, which does not act
	timeout504                        // from a proxy, after the server has acted
	limited                           // 429
	limited5                          // 429 with Retry-After: 5
	unexplained                       // a 500 without a summary; the server does not act
	unexplainedActed                  // a 500 without a summary, after the server has acted
	html502
	busy503
	full      // 409, to sends
	forbidden // 403, to sends
	html404   // from a proxy, to receives

	// The kinds from here on are properties of the server and last for the whole run.

	tooLarge  // 413, to sends of more than 2 KB
	poison400 // to sends with a poison message
	poison500
)

// temporaryKinds is the number of kinds that end before the run does.
const temporaryKinds = int(tooLarge)

const bare500 = `{"errors":{"detail":"Internal Server Error"}}`

// faultKinds describes each kind: its name, the sequintest.Fault that it becomes, and which requests it applies to.
var faultKinds = [...]struct {
	name    string
	fault   sequintest.Fault               // zero for down and resetAll, which are no Faults
	only    sequintest.Op                  // the one operation that it applies to, unless it is Any
	delay   delayKind                      // the delay that is drawn
	matches func(*sequintest.Request) bool // nil for all requests
}{
	down:             {name: "down"},
	resetAll:         {name: "reset all"},
	cutBefore:        {name: "cut before", fault: sequintest.Fault{CutBefore: true}},
	cutAfter:         {name: "cut after", fault: sequintest.Fault{CutAfter: true}},
	truncate:         {name: "truncate", fault: sequintest.Fault{Truncate: 7}},
	garble:           {name: "garble", fault: sequintest.Fault{Garble: true}},
	slowAnswer:       {name: "slow answer", delay: delayAnswer},
	slowRequest:      {name: "slow request", delay: delayRequest},
	timeout408:       {name: "408", fault: sequintest.Fault{Status: http.StatusRequestTimeout}},
	timeout504:       {name: "504 acted", fault: sequintest.Fault{Status: http.StatusGatewayTimeout, Acted: true}},
	limited:          {name: "429", fault: sequintest.Fault{Status: http.StatusTooManyRequests}},
	limited5:         {name: "429 retry-after", fault: sequintest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"5"}}}},
	unexplained:      {name: "bare 500", fault: sequintest.Fault{Status: http.StatusInternalServerError, Body: bare500}},
	unexplainedActed: {name: "bare 500 acted", fault: sequintest.Fault{Status: http.StatusInternalServerError, Body: bare500, Acted: true}},
	html502:          {name: "502 html", fault: sequintest.Fault{Status: http.StatusBadGateway, Body: "<html><h1>502 Bad Gateway</h1></html>"}},
	busy503:          {name: "503", fault: sequintest.Fault{Status: http.StatusServiceUnavailable, Body: `{"summary":"busy"}`}},
	full:             {name: "409", only: sequintest.Send, fault: sequintest.Fault{Status: http.StatusConflict, Body: `{"summary":"the stream is full"}`}},
	forbidden:        {name: "403", only: sequintest.Send, fault: sequintest.Fault{Status: http.StatusForbidden, Body: `{"summary":"not with this token"}`}},
	html404:          {name: "404 html", only: sequintest.Receive, fault: sequintest.Fault{Status: http.StatusNotFound, Body: "<html>nothing here</html>"}},
	tooLarge:         {name: "413", matches: isLarge, fault: sequintest.Fault{Status: http.StatusRequestEntityTooLarge, Body: "Request Entity Too Large"}},
	poison400:        {name: "poison 400", matches: isPoisoned, fault: sequintest.Fault{Status: http.StatusBadRequest, Body: `{"summary":"poison"}`}},
	poison500:        {name: "poison 500", matches: isPoisoned, fault: sequintest.Fault{Status: http.StatusInternalServerError, Body: bare500}},
}

// delayKind is where the delay of a fault plan applies.
type delayKind uint8

const (
	noDelay delayKind = iota
	delayRequest
	delayAnswer
)

func (k faultKind) String() string { return faultKinds[k].name }

// largeBody is the size above which tooLarge refuses a request. No single message of a schedule is as large.
const largeBody = 2 << 10

func isLarge(r *sequintest.Request) bool { return len(r.Body) > largeBody }

// poison is in the data of poison messages.
const poison = "poison"

func isPoisoned(r *sequintest.Request) bool { return bytes.Contains(r.Body, []byte(poison)) }
