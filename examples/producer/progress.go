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
	state       func() (line, trouble string)
	stop, ended chan struct{}
}

func showProgress(w io.Writer, live bool, every time.Duration, state func() (line, trouble string)) *progress {
	p := &progress{w: w, live: live, state: state, stop: make(chan struct{}), ended: make(chan struct{})}
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
			p.show(true)
		case <-p.stop:
			p.show(false) // the error of the command tells the first failure
			if p.live {
				fmt.Fprintln(p.w)
			}
			return
		}
	}
}

// show prints the line. With troubles, an error that has begun is printed above it, on a line of its own.
func (p *progress) show(troubles bool) {
	line, trouble := p.state()
	before, after := "", "\n"
	if p.live {
		before, after = clearLine, ""
	}
	if trouble != "" && troubles {
		fmt.Fprintf(p.w, "%s%s\n", before, trouble)
	}
	fmt.Fprint(p.w, before, line, after)
}

// end shows the final state.
func (p *progress) end() {
	close(p.stop)
	<-p.ended
}

// meter formats progress lines. One goroutine uses it at a time.
type meter struct {
	began, last time.Time
	sent        uint64 // at the time last
	troubled    bool   // the latest call of trouble was in an outage
}

func newMeter() *meter { now := time.Now(); return &meter{began: now, last: now} }

// line has the totals, and the rate since the previous line. It fits into 80 columns.
func (m *meter) line(s sequin.PublisherStats, read, failed, rejected int64) string {
	now := time.Now()
	rate := perSecond(s.Sent-m.sent, now.Sub(m.last))
	m.sent, m.last = s.Sent, now
	return fmt.Sprintf("%d read, %d sent (%d/s), %d buffered, %d failed, %d rejected", read, s.Sent, rate, s.Buffered, failed, rejected)
}

// trouble describes the last error while a message is not sent: that of a refusal or of a retry. Otherwise it is empty. It
// returns each error once: an error that follows another one without a success in between is of the same outage.
func (m *meter) trouble(s sequin.PublisherStats, failed int64) string {
	is := s.LastError != nil && (s.Buffered > 0 || failed > 0)
	began := is && !m.troubled
	m.troubled = is
	if !began {
		return ""
	}
	return fmt.Sprintf("last error: %v", s.LastError)
}

// summary is the last line. It has the average rate.
func (m *meter) summary(s sequin.PublisherStats) string {
	return fmt.Sprintf("%d/s on average, %d requests, %d retries", perSecond(s.Sent, time.Since(m.began)), s.Batches, s.Retries)
}

func perSecond(n uint64, d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int(float64(n) / d.Seconds())
}
