package sim

import (
	"bytes"
	"fmt"
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
	timeout408                        // from a proxy; the server does not act
	timeout504                        // from a proxy, after the server has acted
	limited                           // 429
	limited5                          // 429 with Retry-After: 5
	unexplained                       // a 500 without a summary; the server does not act
	unexplainedActed                  // a 500 without a summary, after the server has acted
	html502
	busy503        // Sequin's own, which does not act
	full           // Sequin's own 409, to sends
	html404        // from a proxy, to receives
	foreign        // any status with a page of a proxy, before or after the server has acted
	refusal        // Sequin's own 401, 403 or 404
	unknown503     // Sequin's own, which does not know whether it has acted; it has
	random500      // a 500 without a summary, to a random share of the requests
	random500Acted // the same, after the server has acted

	// These are properties of what lies between the clients and the server; see route.

	answerLimit502  // a proxy replaces answers over a size by a 502
	answerLimitCut  // a proxy cuts answers over a size
	readTimeout504  // a proxy answers 504 when the server's answer takes too long
	readTimeoutCut  // a proxy resets the connection then
	slowLink        // each client has so many bytes a second, for all its connections together
	slowDial        // a connection takes long to make, and another one may come free meanwhile
	failedHandshake // a connection is made, and its TLS handshake fails after a while
	requestLimit413 // a proxy refuses sends over a size
	requestLimit502 // a proxy fails at sends over a size
	requestLimitCut // a proxy resets the connection at sends over a size
	brokenBackend   // a balancer leads some of the connections to a backend that is broken

	sinkRestart // the server of sinks is restarted, once; drawn for runs with sinks only

	// The kinds from here on are properties of the server, or of a firewall before it, and last for the whole run.

	tooLarge  // Sequin's own 413, to sends over a size
	poison400 // to sends with a poison message
	poison500
	poison403   // a firewall answers a page
	poison504   // a firewall drops the request, and a proxy before it gives up
	poisonReset // a firewall resets the connection
	poisonHang  // a firewall drops the request, and nothing comes back
)

// temporaryKinds is the number of kinds that may end before the run does and are drawn in every mode.
const temporaryKinds = int(sinkRestart)

// faultForm is what a kind of fault is made of.
type faultForm struct {
	name    string
	fault   sequintest.Fault                          // zero for the kinds that are none
	only    sequintest.Op                             // the one operation that it applies to, unless it is Any
	delay   delayKind                                 // the delay that is drawn
	matches func(faultPlan, *sequintest.Request) bool // nil for all requests
	onRoute bool                                      // it applies between the clients and the server
}

const (
	bare500 = `{"errors":{"detail":"Internal Server Error"}}` // Sequin's body when it has crashed
	page    = "<html><h1>%d</h1></html>"                      // a proxy's or a firewall's
)

func answers(status int, body string) sequintest.Fault {
	return sequintest.Fault{Status: status, Body: body}
}

// acted returns a fault of an answer after which the server has acted.
func acted(f sequintest.Fault) sequintest.Fault { f.Acted = true; return f }

// pageOf returns the fault of a foreign answer.
func pageOf(status int) sequintest.Fault {
	f := answers(status, fmt.Sprintf(page, status))
	f.Header = http.Header{"Content-Type": {"text/html"}}
	if status/100 == 3 {
		f.Header.Set("Location", "http://login.test/")
	}
	return f
}

// faultForms describes each kind.
var faultForms = [...]faultForm{
	down:             {name: "down"},
	resetAll:         {name: "reset all"},
	cutBefore:        {name: "cut before", fault: sequintest.Fault{CutBefore: true}},
	cutAfter:         {name: "cut after", fault: sequintest.Fault{CutAfter: true}},
	truncate:         {name: "truncate", fault: sequintest.Fault{Truncate: 7}},
	garble:           {name: "garble", fault: sequintest.Fault{Garble: true}},
	slowAnswer:       {name: "slow answer", delay: delayAnswer},
	slowRequest:      {name: "slow request", delay: delayRequest},
	timeout408:       {name: "408", fault: pageOf(http.StatusRequestTimeout)},
	timeout504:       {name: "504 acted", fault: acted(pageOf(http.StatusGatewayTimeout))},
	limited:          {name: "429", fault: answers(http.StatusTooManyRequests, "")},
	limited5:         {name: "429 retry-after", fault: sequintest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"5"}}}},
	unexplained:      {name: "bare 500", fault: answers(http.StatusInternalServerError, bare500)},
	unexplainedActed: {name: "bare 500 acted", fault: acted(answers(http.StatusInternalServerError, bare500))},
	html502:          {name: "502 html", fault: pageOf(http.StatusBadGateway)},
	busy503:          {name: "503", fault: answers(http.StatusServiceUnavailable, `{"summary":"the store is busy"}`)},
	full:             {name: "409", only: sequintest.Send, fault: answers(http.StatusConflict, `{"summary":"the stream is full"}`)},
	html404:          {name: "404 html", only: sequintest.Receive, fault: pageOf(http.StatusNotFound)},
	foreign:          {name: "foreign"},
	refusal:          {name: "refusal"},
	unknown503:       {name: "503 unknown", fault: acted(answers(http.StatusServiceUnavailable, `{"summary":"the store is gone","outcome":"unknown"}`))},
	random500:        {name: "random 500", fault: answers(http.StatusInternalServerError, bare500)},
	random500Acted:   {name: "random 500 acted", fault: acted(answers(http.StatusInternalServerError, bare500))},

	answerLimit502:  {name: "large answer 502", onRoute: true},
	answerLimitCut:  {name: "large answer cut", onRoute: true},
	readTimeout504:  {name: "read time-out 504", onRoute: true},
	readTimeoutCut:  {name: "read time-out cut", onRoute: true},
	slowLink:        {name: "slow link", onRoute: true},
	slowDial:        {name: "slow dial", onRoute: true},
	failedHandshake: {name: "failed handshake", onRoute: true},
	brokenBackend:   {name: "broken backend", onRoute: true},
	requestLimit413: {name: "large send 413 html", only: sequintest.Send, matches: isOverLimit, fault: pageOf(http.StatusRequestEntityTooLarge)},
	requestLimit502: {name: "large send 502", only: sequintest.Send, matches: isOverLimit, fault: pageOf(http.StatusBadGateway)},
	requestLimitCut: {name: "large send cut", only: sequintest.Send, matches: isOverLimit, fault: sequintest.Fault{CutBefore: true}},

	sinkRestart: {name: "restart of the sinks"},

	tooLarge:    {name: "413", matches: isOverLimit, fault: answers(http.StatusRequestEntityTooLarge, "Request Entity Too Large")},
	poison400:   {name: "poison 400", matches: isPoisoned, fault: answers(http.StatusBadRequest, `{"summary":"poison"}`)},
	poison500:   {name: "poison 500", matches: isPoisoned, fault: answers(http.StatusInternalServerError, bare500)},
	poison403:   {name: "poison 403 html", matches: isPoisoned, fault: pageOf(http.StatusForbidden)},
	poison504:   {name: "poison 504", matches: isPoisoned, fault: pageOf(http.StatusGatewayTimeout)},
	poisonReset: {name: "poison reset", matches: isPoisoned, fault: sequintest.Fault{CutBefore: true}},
	poisonHang:  {name: "poison hang", matches: isPoisoned, fault: sequintest.Fault{Delay: wholeRun}},
}

// delayKind is where the delay of a fault plan applies.
type delayKind uint8

const (
	noDelay delayKind = iota
	delayRequest
	delayAnswer
)

func (k faultKind) String() string { return faultForms[k].name }

// foreignStatuses are the statuses that proxies, firewalls, load balancers and login pages answer with. 200 is the login page.
var foreignStatuses = []int{200, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 413, 415, 421, 422,
	425, 426, 431, 451, 500, 501, 502, 503, 504, 505, 507, 509, 511, 520, 521, 522, 523, 524, 525, 526, 530, 599}

// largestMessage is more than the body of a send with any single message of a schedule. Limits of proxies are at least as
// large: no library can send a message that is too large for the way to the server.
const largestMessage = 2 << 10

func isOverLimit(f faultPlan, r *sequintest.Request) bool { return len(r.Body) > f.Limit }

// poison is in the data of poison messages.
const poison = "poison"

func isPoisoned(_ faultPlan, r *sequintest.Request) bool {
	return r.Op == sequintest.Send && bytes.Contains(r.Body, []byte(poison))
}
