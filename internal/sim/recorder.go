package sim

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// recorder collects what the programs, the taps and the server report during a run. It draws no conclusions; newHistory
// does.
type recorder struct {
	s     schedule
	begin time.Time

	mu         sync.Mutex // guards all below; held for appending and updating only
	messages   []*message
	received   []*received
	byDelivery map[deliveryKey][]*received
	times      map[workerMessage]int // how often a worker received a message
	calls      []*call
	endings    int // calls that have ended
	stops      []stop
	totals     []publisherTotals
	finalStats []subscriberStats
	outages    []span
	restarts   []time.Time // of the sinks
	violations []violation
	complete   bool // the run was not broken off

	// These are copied from the server at the end.
	requests []sequintest.Request
	final    server.StreamState // its messages are the commits of a run with sinks
	commits  []*commit
}

// message is a message that a program asked a Publisher to send. Its id is part of its data.
type message struct {
	publisher string // the incarnation's name
	id        string
	key, data string
	headers   map[string]string // nil for none
	n         int               // in the order of asking, counted in this incarnation
	at, took  time.Time         // when the program asked, and when the call returned
	accepted  bool
	doubtful  bool // the ctx of SendSync was done: the message may have been accepted
	receipt   *sequin.Receipt
	resent    bool // the incarnation before returned it as unsent
	outcomes  []outcome
}

// outcome is one report of what became of a message.
type outcome struct {
	kind outcomeKind
	by   string // the source of the report, as OnFailure or Close
	err  error
	at   time.Time // of the report
}

type outcomeKind uint8

const (
	sent outcomeKind = iota
	failed
	unsent
)

func (k outcomeKind) String() string { return [...]string{"sent", "failed", "unsent"}[k] }

// received is a delivery that a program got, from the channel or as its handler's argument.
type received struct {
	worker, consumer string
	sequin.Delivery
	at       time.Time
	settles  []settle
	ackError error // reported by OnAckError
}

// settle is a settle that a program asked for.
type settle struct {
	kind      sequin.SettlementKind
	sync      bool
	at, ended time.Time
	err       error
}

// call is a request as its client saw it.
type call struct {
	actor, id string
	kind      callKind
	began     time.Time
	ended     time.Time
	order     int // of the ending, among all calls
	status    int // 0 without an answer
	whole     bool
	late      bool // the client had given up before it got the answer
	answer    []byte
}

// succeeded reports whether the client got the embedded server's success.
func (c *call) succeeded() bool {
	return c.whole && !c.late && c.status == http.StatusOK && succeeded(c.answer)
}

// refused reports whether the client got a refusal of Sequin's own with one of the statuses.
func (c *call) refused(statuses ...int) bool {
	return c.whole && slices.Contains(statuses, c.status) && bytes.Contains(c.answer, []byte(`"summary"`))
}

type callKind uint8

const (
	otherCall callKind = iota
	sendCall
	receiveCall
	settleCall
)

// stop is the end of a worker or of a publisher's incarnation.
type stop struct {
	actor     string
	how       endKind
	asked, at time.Time // when it was asked to stop, and when it had stopped
	err       error
	ended     error // why a worker's Subscriber had ended by itself; nil if it had not
	last      bool  // it is a publisher's last Close
}

type publisherTotals struct {
	publisher string
	stats     sequin.PublisherStats
}

// subscriberStats are the Stats of a worker's Subscriber after every lease has ended.
type subscriberStats struct {
	worker string
	stats  sequin.SubscriberStats
}

type span struct{ from, to time.Time }

// deliveryKey identifies a delivery of a worker. The 2024 server uses an ack id again, so the deadline is part of it.
type deliveryKey struct {
	worker, ackID string
	seq, deadline int64
}

func keyOfDelivery(worker string, d sequin.Delivery) deliveryKey {
	return deliveryKey{worker, d.AckID, d.Seq, d.Deadline.UnixNano()}
}

type workerMessage struct {
	worker string
	seq    int64
}

func newRecorder(s schedule) *recorder {
	return &recorder{s: s, byDelivery: map[deliveryKey][]*received{}, times: map[workerMessage]int{}}
}

// note calls f under the recorder's lock.
func (rec *recorder) note(f func()) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	f()
}

func (rec *recorder) violate(promise, format string, args ...any) {
	rec.note(func() {
		rec.violations = append(rec.violations, violation{promise: promise, text: fmt.Sprintf(format, args...)})
	})
}

// receive records a delivery and returns how often the worker had received its message before.
func (rec *recorder) receive(d *received) (before int) {
	rec.note(func() {
		k, m := keyOfDelivery(d.worker, d.Delivery), workerMessage{d.worker, d.Seq}
		before = rec.times[m]
		rec.times[m]++
		rec.byDelivery[k] = append(rec.byDelivery[k], d)
		rec.received = append(rec.received, d)
	})
	return before
}

// updateReceived changes the record of a delivery to a worker.
func (rec *recorder) updateReceived(worker string, d sequin.Delivery, change func(*received)) {
	rec.note(func() {
		for _, r := range rec.byDelivery[keyOfDelivery(worker, d)] {
			change(r)
		}
	})
}

func (rec *recorder) callBegan(c *call) *call {
	c.began = time.Now()
	rec.note(func() { rec.calls = append(rec.calls, c) })
	return c
}

func (rec *recorder) callEnded(c *call) {
	c.ended = time.Now()
	rec.note(func() { rec.endings++; c.order = rec.endings })
}

func (rec *recorder) outageBegan(at time.Time) {
	rec.note(func() { rec.outages = append(rec.outages, span{from: at}) })
}

func (rec *recorder) outageEnded(at time.Time) {
	rec.note(func() { rec.outages[len(rec.outages)-1].to = at })
}
