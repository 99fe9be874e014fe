package console

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	eventType = "text/event-stream"
	// eventEvery is how long a page is shown before it is replaced. A message that is sent has to be seen within 2 s.
	eventEvery = time.Second
	// eventShare is the part of the time, one in so many, that the server may work for one open page. A page that takes longer is
	// replaced less often.
	eventShare = 10
	// eventsFor is how long one request has events. The browser then asks again, and proves again that somebody is logged in.
	eventsFor = 5 * time.Minute
)

// follow sends the changing part of a page whenever it is another one, until the browser is gone.
func (v *visit) follow(show func(*visit) (*page, error), p *page) error {
	h := v.w.Header()
	h.Set("Content-Type", eventType)
	h.Set("X-Accel-Buffering", "no") // proxies must not wait for more
	end := time.NewTimer(eventsFor)
	defer end.Stop()
	var sent []byte
	for {
		begun := time.Now()
		var now bytes.Buffer
		if err := templates[p.name].ExecuteTemplate(&now, "live", p.data); err != nil {
			return err
		}
		if !bytes.Equal(now.Bytes(), sent) {
			sent = now.Bytes()
			if v.send("live", sent) != nil {
				return nil // the browser is gone
			}
		}
		if p = v.next(show, begun, end.C); p == nil {
			return nil
		}
	}
}

// next waits until the page may be asked for again, and returns it, or nil at the end of the events.
func (v *visit) next(show func(*visit) (*page, error), begun time.Time, end <-chan time.Time) *page {
	wait := time.NewTimer(max(v.console.every, eventShare*time.Since(begun)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-end:
		return nil
	case <-v.console.closed:
		return nil
	case <-v.r.Context().Done():
		return nil
	}
	v.now = time.Now()
	if !v.admit() {
		_ = v.send("over", nil)
		return nil
	}
	p, err := show(v)
	if err != nil {
		// A page of what was deleted ends. For any other reason the browser asks again.
		event, p := "problem", problemOf(err)
		if p.status == http.StatusNotFound {
			event = "gone"
		}
		_ = v.send(event, []byte(p.title))
		return nil
	}
	return p
}

// send sends an event. Its data may have lines.
func (v *visit) send(event string, data []byte) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "event: %s\n", event)
	for line := range bytes.Lines(append(slices.Clip(data), '\n')) {
		fmt.Fprintf(&out, "data: %s\n", bytes.TrimRight(line, "\r\n"))
	}
	out.WriteByte('\n')
	control := http.NewResponseController(v.w)
	_ = control.SetWriteDeadline(time.Now().Add(eventsFor)) // a browser that does not read is cut off; not every writer has deadlines
	if _, err := out.WriteTo(v.w); err != nil {
		return err
	}
	return control.Flush()
}
