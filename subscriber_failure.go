package sequin

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// refusedFor is how long Sequin must refuse every receive before the Subscriber stops. A token may be replaced during that
// time, and a server that is being deployed may refuse a valid token.
const refusedFor = 30 * time.Second

// handleFailure handles a receive that failed. Only an error that is permanent stops the Subscriber.
func (lp *subscriberLoop) handleFailure(now time.Time, a answer) {
	lp.more = false
	retry := lp.sub.client.cfg.Retry
	f := classify(a.err)
	if f.kind != kindUnauthorized {
		lp.refusedSince = time.Time{}
	}
	switch {
	case a.request.wait > 0 && f.kind == kindInvalid && f.status() == http.StatusBadRequest && strings.Contains(f.api.Summary, "wait_for"):
		lp.refusesWait, lp.nextReceive = true, now
		lp.sub.log(slog.LevelInfo, "falls back to short polling, because the server refuses wait_for", "error", a.err)
		return
	case f.kind == kindRateLimited && a.request.wait > 0:
		// More receives wait than max_waiting allows. Short-poll, and try to wait again after 10 to 20 s. Until then the
		// receives that wait get the messages first.
		lp.noWaitUntil = now.Add(10*time.Second + rand.N(10*time.Second))
		lp.backOff(now)
		if until := now.Add(min(f.api.retryAfter, retry.MaxWait)); until.After(lp.nextReceive) {
			lp.nextReceive = until
		}
		return
	case f.kind == kindUnauthorized:
		if lp.refusedSince.IsZero() {
			lp.refusedSince = now
		}
		if now.Sub(lp.refusedSince) >= refusedFor {
			lp.fatal = a.err
		}
	case f.kind == kindNotFound && lp.missing && lp.sub.origin.sink != "":
		lp.fatal = a.err // a second 404 in a row; a consumer of a stream is read again instead
	case f.kind == kindNotFound:
		lp.missing, lp.nextCheck = true, now
	default:
		lp.adapt(now, a, f)
	}
	lp.sub.counts.noteError(a.err)
	lp.nextReceive = now.Add(retry.wait(lp.failures, a.err))
	if lp.failures++; lp.failures == 1 {
		lp.failingSince = now
		lp.sub.log(slog.LevelWarn, "could not receive, and retries", "error", a.err)
	}
}

// received ends a series of failures.
func (lp *subscriberLoop) received(now time.Time) {
	lp.refusedSince = time.Time{}
	if lp.failures > 0 {
		lp.sub.log(slog.LevelInfo, "receives again", "failures", lp.failures, "for", now.Sub(lp.failingSince))
	}
	lp.failures = 0
	if lp.sub.origin.sink != "" {
		lp.missing = false
	}
}

// adapt makes the next receives wait for less time or ask for fewer messages, if this one may have failed because it waited
// or asked for too much: its answer was lost, cut or unreadable, or a proxy answered in place of the server. A receive that
// was cut without a byte after much of its wait most likely reached the read time-out of a proxy.
func (lp *subscriberLoop) adapt(now time.Time, a answer, f requestFailure) {
	page := f.foreign && f.status() >= http.StatusInternalServerError // the error page of a proxy
	cut := f.kind == kindLost && f.mayHaveActed
	began := a.request.answered.Load()
	if after := now.Sub(a.request.started); f.endsWait() || cut && !began {
		if learned := lp.wait.Cut(now, a.request.wait, after); learned && after > a.request.wait/2 {
			return
		}
	}
	if cut && errors.Is(a.err, context.DeadlineExceeded) {
		lp.parallel.TooSlow(len(lp.receives))
	}
	if page || cut || f.kind == kindUnreadable || f.kind == kindResponseTooLarge {
		lp.window.Lost(now, a.request.asked, f.kind == kindResponseTooLarge || cut && began)
	}
}

// endsWait reports whether a proxy may give such an answer when a receive has waited for longer than its read time-out. Some
// give other statuses than 504, an empty success, or JSON that looks like Sequin's.
func (f requestFailure) endsWait() bool {
	return f.foreign || f.kind == kindUnreadable || f.status() == http.StatusRequestTimeout || f.status() == http.StatusGatewayTimeout
}
