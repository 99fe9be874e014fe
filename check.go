package sequin

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

// checkEvery is how often the consumer is read again: a changed ack_wait takes effect that late at most.
const checkEvery = time.Minute

// check is a look at the consumer.
type check struct {
	consumer *Consumer
	err      error
}

// aboutAMinute keeps Subscribers that started together apart.
func aboutAMinute() time.Duration { return checkEvery - rand.N(checkEvery/10) }

func (in *intake) startCheck() {
	in.checking = true
	go func() {
		j, err := callOnce[consumerJSON](in.stop, in.client, path("api", "streams", in.stream, "consumers", in.consumer))
		if err != nil {
			in.checks <- check{err: err}
			return
		}
		in.checks <- check{consumer: j.consumer()}
	}()
}

// judge deals with a look at the consumer. A 404 counts only when it comes twice: a server that is being deployed, or a
// proxy with a summary of its own, may give one.
func (in *intake) judge(c check) {
	in.checking = false
	in.nextCheck = time.Now().Add(aboutAMinute())
	var api *APIError
	switch {
	case c.err == nil:
		in.missing, in.blind = false, 0
		in.window.widen()
		if ackWait := c.consumer.AckWait; ackWait != 0 { // an answer that does not tell it changes nothing
			in.fatal = checkLease(ackWait)
			in.setTerms(ackWait)
		}
	case errors.Is(c.err, ErrUnauthorized):
		in.fatal = c.err
	case errors.As(c.err, &api) && api.Status == http.StatusNotFound && api.Summary != "":
		if in.missing {
			in.fatal = c.err
		}
		in.missing, in.nextCheck = true, time.Now()
	default:
		in.counts.note(c.err)
		if in.missing {
			in.nextCheck = time.Now().Add(in.client.cfg.Retry.wait(in.blind, c.err))
			in.blind++
		}
	}
}
