package sequintest

import (
	"errors"
	"net/http"
	"time"
)

// Fault describes which requests go wrong, and how. The zero value matches every request and does nothing to it: its
// handle counts requests and waits for them.
//
// At most one of Status, CutBefore, CutAfter and Garble may be set. The steps are taken in this order: Delay, the server
// acts or does not, DelayAfter, and then an answer, a truncated answer or none. Server.Fault fails the test for a
// combination that does not fit this order.
//
// A Status with a Body that is not the API's JSON is the answer of a proxy, as in
//
//	srv.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: "<html>", Acted: true})
//
// With MaxAnswer or MaxWait the fault is a limit of that proxy: only requests that exceed it are affected.
type Fault struct {
	Op    Op                  // Any, the zero value, means every operation
	Match func(*Request) bool // nil matches every request of Op; runs concurrently, and must not keep or change the request

	Skip  int // the first Skip requests that match are left alone
	Count int // the next Count requests are affected; 0 means all until the handle's Remove

	Delay      time.Duration // before the server acts; it does not act if the client leaves during the delay
	DelayAfter time.Duration // after the server has acted, before the answer is sent

	Status int         // 200..599: the fault answers with it, and the server does not act
	Header http.Header // with Status: the header of the answer
	Body   string      // with Status: the body of the answer
	Acted  bool        // with Status: the server acts too, and its answer is replaced, as by a proxy that timed out

	CutBefore bool // the connection is reset, and the server does not act
	CutAfter  bool // the connection is reset after the server has acted
	Truncate  int  // the answer ends after this many bytes of its body, and always before its last byte; 0 sends all of it
	Garble    bool // the server acts, and its answer is replaced by a 200 with a body that is not JSON

	// BytesPerSecond is how fast the body of the answer is sent; 0 sends it at once.
	BytesPerSecond int

	// With MaxAnswer or MaxWait, only requests that exceed one of them are affected. The server acts first, and an answer
	// within the limits is sent as it is and is no hit. Skip and Count count all requests that match.
	MaxAnswer int           // bytes of the body of the server's answer
	MaxWait   time.Duration // until the server has answered; after it the server sees that its client has left
}

// garbage is the body that Garble sends. It begins as a valid answer to a receive, so that a decoder reads on for as long
// as possible before it fails.
const garbage = `{"data":[{"message":` + "\x00\xff" + `<html>`

// faultRules are the conditions that make a Fault invalid. The first one that holds gives the reason.
var faultRules = []struct {
	broken func(Fault) bool
	reason string
}{
	{func(f Fault) bool { return f.Op >= opCount }, "Op is not an operation of this package"},
	{func(f Fault) bool { return f.Skip < 0 }, "Skip is negative"},
	{func(f Fault) bool { return f.Count < 0 }, "Count is negative; 0 means all requests until Remove"},
	{func(f Fault) bool { return f.Delay < 0 }, "Delay is negative"},
	{func(f Fault) bool { return f.DelayAfter < 0 }, "DelayAfter is negative"},
	{func(f Fault) bool { return f.Truncate < 0 }, "Truncate is negative"},
	{func(f Fault) bool { return f.BytesPerSecond < 0 }, "BytesPerSecond is negative"},
	{func(f Fault) bool { return f.MaxAnswer < 0 }, "MaxAnswer is negative"},
	{func(f Fault) bool { return f.MaxWait < 0 }, "MaxWait is negative"},
	{func(f Fault) bool { return f.Status != 0 && (f.Status < 200 || f.Status > 599) }, "Status is not in 200..599"},
	{func(f Fault) bool { return f.exclusiveFields() > 1 }, "at most one of Status, CutBefore, CutAfter and Garble may be set"},
	{func(f Fault) bool { return f.Status == 0 && (f.Header != nil || f.Body != "" || f.Acted) },
		"Header, Body and Acted need a Status"},
	{func(f Fault) bool { return f.Truncate > 0 && (f.CutBefore || f.CutAfter) },
		"Truncate needs an answer, and CutBefore and CutAfter send none"},
	{func(f Fault) bool { return f.DelayAfter > 0 && (f.CutBefore || f.Status != 0 && !f.Acted) },
		"DelayAfter needs the server to act, which CutBefore and a Status without Acted prevent: use Delay"},
	{func(f Fault) bool { return f.BytesPerSecond > 0 && (f.CutBefore || f.CutAfter) },
		"BytesPerSecond needs an answer, and CutBefore and CutAfter send none"},
	{func(f Fault) bool { return f.MaxAnswer > 0 && !f.kind().actsFirst() },
		"MaxAnswer needs a field that changes the server's own answer"},
	{func(f Fault) bool { return f.MaxWait > 0 && f.kind() != replaceAnswer && f.kind() != cutAfter },
		"MaxWait needs CutAfter, Garble or a Status with Acted"},
}

// exclusiveFields returns how many of the fields that exclude one another are set.
func (f Fault) exclusiveFields() (n int) {
	for _, set := range []bool{f.Status != 0, f.CutBefore, f.CutAfter, f.Garble} {
		if set {
			n++
		}
	}
	return n
}

// limit is what a request may use before a fault affects it. Zero values do not limit.
type limit struct {
	answer int // bytes
	wait   time.Duration
}

func (f Fault) limit() limit { return limit{answer: f.MaxAnswer, wait: f.MaxWait} }

// allows reports whether the server's answer, which took some time, is within the limits.
func (l limit) allows(r reply, took time.Duration) bool {
	return (l.answer == 0 || len(r.body) <= l.answer) && (l.wait == 0 || took < l.wait)
}

// effect is what a valid Fault does to a request.
type effect struct {
	kind       effectKind
	limit      limit // of the kinds after which the server has acted; the zero value affects every request
	delay      time.Duration
	delayAfter time.Duration // of the kinds after which the server has acted
	answer     reply         // of answerInstead and replaceAnswer
	truncate   int           // of the kinds that send an answer
	rate       int           // likewise: bytes per second, 0 for all at once
}

// effectKind is what becomes of a request and of its answer.
type effectKind uint8

const (
	observe       effectKind = iota // nothing; the request goes on to the next fault
	delayRequest                    // the server answers as usual, after the delay
	answerInstead                   // the fault answers, and the server does not act
	cutBefore                       // the connection is reset, and the server does not act

	// With the kinds below, the server acts first and its answer is held back.

	holdAnswer    // the client gets the server's answer, late, slowly or truncated
	replaceAnswer // the client gets the fault's answer
	cutAfter      // the connection is reset
)

// actsFirst reports whether the server acts before the fault has its effect.
func (k effectKind) actsFirst() bool { return k >= holdAnswer }

// effect validates the fault and returns what it does.
func (f Fault) effect() (effect, error) {
	for _, rule := range faultRules {
		if rule.broken(f) {
			return effect{}, errors.New(rule.reason)
		}
	}
	e := effect{
		kind: f.kind(), limit: f.limit(), delay: f.Delay, delayAfter: f.DelayAfter, truncate: f.Truncate, rate: f.BytesPerSecond,
	}
	e.answer = reply{status: f.Status, header: f.Header, body: []byte(f.Body)}
	if f.Garble {
		e.answer = reply{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body: []byte(garbage)}
	}
	return e, nil
}

func (f Fault) kind() effectKind {
	switch {
	case f.CutBefore:
		return cutBefore
	case f.CutAfter:
		return cutAfter
	case f.Garble, f.Acted:
		return replaceAnswer
	case f.Status != 0:
		return answerInstead
	case f.DelayAfter > 0, f.Truncate > 0, f.BytesPerSecond > 0:
		return holdAnswer
	case f.Delay > 0:
		return delayRequest
	}
	return observe
}
