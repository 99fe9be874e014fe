package server

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// maxBatchSize is the largest batch_size of a receive. Without batch_size a receive gets one message.
const maxBatchSize = 1_000

var deliveries = sync.Pool{New: func() any { return new([]store.Delivery) }}

func (c *call) receive() error {
	p, err := c.params()
	if err != nil {
		return err
	}
	consumer, err := c.findReceiver()
	if err != nil {
		return err
	}
	n, err := c.batchSize(p)
	if err != nil {
		return err
	}
	wait, err := c.waitFor(p)
	if err != nil {
		return err
	}
	bare, err := c.bare(p)
	if err != nil {
		return err
	}
	if c.srv.dialect.plug {
		if err := c.checkWindow(consumer); err != nil {
			return err
		}
	}
	if c.r.Method == http.MethodHead && !c.srv.dialect.headReceives {
		c.deliver(consumer, nil, bare)
		return nil
	}
	got := deliveries.Get().(*[]store.Delivery)
	defer func() {
		clear(*got)
		*got = (*got)[:0]
		deliveries.Put(got)
	}()
	if err := c.checkRoom(); err != nil {
		return err
	}
	if wait > 0 && c.srv.endsReceives {
		// Until the answer is written: whoever ends a receive that is being answered is told that its answer comes.
		id := receiveID{consumer.ID(), c.w.Header().Get("X-Request-Id")}
		c.ending = c.srv.endings.enter(id)
		defer c.srv.endings.leave(id)
	}
	if wait == 0 {
		*got, err = consumer.Receive(c.storing(), n, *got)
	} else {
		*got, err = c.longPoll(consumer, n, wait, *got)
	}
	if err != nil {
		return err
	}
	c.deliver(consumer, *got, bare)
	return nil
}

// bare reports whether the answer is without the stream_id and the data_hash of each message.
func (c *call) bare(p params) (bool, error) {
	v, given := p["bare"]
	switch {
	case !given || !c.srv.bare:
		return false, nil
	case v == true || v == "true":
		return true, nil
	case v == false || v == "false":
		return false, nil
	}
	return false, errBare
}

func (c *call) batchSize(p params) (int, error) {
	v, given := p["batch_size"]
	if !given {
		return 1, nil
	}
	return c.srv.dialect.batchSize(v)
}

func readBatchSize(v any) (int, error) {
	n, ok := integer(v)
	if !ok || n < 1 || n > maxBatchSize {
		return 0, errBatchSize
	}
	return int(n), nil
}

// deliver writes the answer. When the client is gone before that, or the connection fails meanwhile, it returns the
// messages. When the connection fails after the last byte was given to the network, the messages stay on lease.
func (c *call) deliver(consumer store.Consumer, got []store.Delivery, bare bool) {
	d := &c.srv.dialect
	if d.waitedHeader {
		// The wait ends when the leases begin, and not now. Otherwise a client that adds ack_wait to it would get a time
		// after the end of the lease.
		begin := time.Now()
		if len(got) > 0 {
			begin = got[0].At
		}
		c.w.Header().Set("Sequin-Waited-Ms", strconv.FormatInt(begin.Sub(c.arrived).Milliseconds(), 10))
	}
	buf := getBuffer()
	defer putBuffer(buf)
	e := encoder{buf: (*buf)[:0], counts: c.srv.attempts, bare: bare}
	e.deliveries(consumer.StreamID(), got)
	*buf = e.buf
	c.holdAnswer(len(e.buf))

	err := c.r.Context().Err()
	if err == nil {
		c.w.Header().Set("Content-Type", jsonType)
		err = c.write(http.StatusOK, *buf)
	}
	if err == nil {
		// Without a flush the last bytes are sent after the handler returns, and their failure is not reported.
		err = c.flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) && d.returnUnsent {
		c.returnAll(consumer, got)
		return
	}
	c.srv.traffic.delivered(consumer, got)
}

func (c *call) returnAll(consumer store.Consumer, got []store.Delivery) {
	if len(got) == 0 {
		return
	}
	ids := make([]store.ID, len(got))
	for i, d := range got {
		ids[i] = d.ID
	}
	// An error means that the consumer is gone, and its leases with it, or that the store has failed. Then the leases end at
	// their time.
	_ = consumer.Settle(c.storing(), ids, store.Return)
}
