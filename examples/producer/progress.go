package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sequin-go/sequin"
)

// clearLine makes a terminal return to the start of the line and clear it.
const clearLine = "\r\x1b[K"

// refresh is how often progress is updated on a terminal. It looks continuous to a person.
const refresh = 200 * time.Millisecond

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// progress shows how far the command is. On a terminal it updates one line; elsewhere it prints a line from time to time.
type progress struct {
	w           io.Writer
	live        bool
	line        func() string
	stop, ended chan struct{}
}

func showProgress(w io.Writer, live bool, every time.Duration, line func() string) *progress {
	p := &progress{w: w, live: live, line: line, stop: make(chan struct{}), ended: make(chan struct{})}
	if live {
		every = refresh
	}
	go p.run(every)
	return p
}

func (p *progress) run(every time.Duration) {
	defer close(p.ended)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show()
		case <-p.stop:
			p.show()
			if p.live {
				fmt.Fprintln(p.w)
			}
			return
		}
	}
}

func (p *progress) show() {
	if p.live {
		fmt.Fprint(p.w, clearLine, p.line())
		return
	}
	fmt.Fprintln(p.w, p.line())
}

// end shows the final state.
func (p *progress) end() {
	close(p.stop)
	<-p.ended
}

// meter formats progress lines. It is used by one goroutine.
type meter struct {
	began, last time.Time
	sent        uint64 // at the time last
}

func newMeter() *meter { now := time.Now(); return &meter{began: now, last: now} }

// line has the rate since the previous line, and the average. While a message is not sent it has the last error, too, which
// may be that of a refusal or of a retry.
func (m *meter) line(s sequin.PublisherStats, read, failed, rejected int64) string {
	now := time.Now()
	rate := perSecond(s.Sent-m.sent, now.Sub(m.last))
	m.sent, m.last = s.Sent, now
	text := fmt.Sprintf("%d read, %d sent (%d/s, on average %d/s), %d buffered, %d requests, %d retries, %d failed, %d rejected",
		read, s.Sent, rate, perSecond(s.Sent, now.Sub(m.began)), s.Buffered, s.Batches, s.Retries, failed, rejected)
	if s.LastError != nil && (s.Buffered > 0 || failed > 0) {
		text += fmt.Sprintf("; last error: %.120v", s.LastError)
	}
	return text
}

func perSecond(n uint64, d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int(float64(n) / d.Seconds())
}
